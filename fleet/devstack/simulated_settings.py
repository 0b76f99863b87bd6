"""The environment that makes a fleet use the embedded stack, whatever else is set."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fleet.devstack.simulator.addresses import provider_url

if TYPE_CHECKING:
    from fleet.provider_settings import ProviderSettings

_LOOPBACK = "127.0.0.1,localhost"


def is_simulated(provider: "ProviderSettings", *, real_providers: bool) -> bool:
    """Whether `fleet up` sends this provider's calls to the simulator: as its ``simulate`` says; if that
    is not set, unless ``real_providers`` were asked for or its ``base_url`` is on a loopback address."""
    if provider.simulate is not None:
        return provider.simulate
    return not (real_providers or provider.on_loopback)


def simulated_providers(simulator: str, providers: "Iterable[ProviderSettings]") -> dict[str, str]:
    """Variables that send every call of these providers to the simulator at that address, so that nothing is
    paid. The simulator wants a key, as the providers do."""
    variables: dict[str, str] = {}
    for provider in providers:
        prefix = f"FLEET_PROVIDERS__{provider.name.upper()}__"
        variables[f"{prefix}BASE_URL"] = provider_url(simulator, provider.name, provider.kind)
        if not provider.needs_key:
            variables[f"{prefix}NEEDS_KEY"] = "true"
        if provider.api_key_file is not None:  # the simulator never sees a real key
            variables[f"{prefix}API_KEY_FILE"] = ""
    return variables


def without_temporal(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables of Temporal's own tools: an embedded server and its fleet need none of
    them, and must not reach another server by them."""
    return {name: value for name, value in environment.items() if not name.startswith("TEMPORAL_")}


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that exempt loopback addresses from a proxy that the environment names."""
    return {name: ",".join(filter(None, (environment.get(name), _LOOPBACK))) for name in ("NO_PROXY", "no_proxy")}
