"""The environment that makes a fleet use the embedded stack, whatever else is set."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fleet.devstack.simulator.addresses import provider_url

if TYPE_CHECKING:
    from fleet.config import ProviderSettings

_LOOPBACK = "127.0.0.1,localhost"


def simulated_providers(simulator: str, providers: "Iterable[ProviderSettings]") -> dict[str, str]:
    """Variables that send every call of these providers to the simulator at that address, so that nothing is
    paid."""
    return {
        f"FLEET_PROVIDERS__{provider.name.upper()}__BASE_URL": provider_url(
            simulator, provider.name, provider.kind
        )
        for provider in providers
    }


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that exempt loopback addresses from a proxy that the environment names."""
    return {name: ",".join(filter(None, (environment.get(name), _LOOPBACK))) for name in ("NO_PROXY", "no_proxy")}
