"""Where each provider's calls go, whether they are paid, and how to change that: one line for each."""

from collections.abc import Iterable

from fleet.cli.fleet_record import FleetRecord
from fleet.devstack.backend.keys import key_variables, real_key
from fleet.devstack.simulator.addresses import provider_url
from fleet.provider_settings import ProviderSettings
from fleet.providers.registry import provider_address


def provider_lines(record: FleetRecord, providers: Iterable[ProviderSettings]) -> list[str]:
    """One line for each provider, by name, for a fleet that `fleet up` has started."""
    by_name = {provider.name: provider for provider in providers}
    width = max((len(name) for name in by_name), default=0)
    return [f"  {name:{width}}  {_where(record, by_name[name])}" for name in sorted(by_name)]


def called_at(record: FleetRecord | None, provider: ProviderSettings) -> ProviderSettings:
    """The provider with the address and key that a fleet's processes use for it."""
    if record is None or record.simulator is None or provider.name not in record.simulated:
        return provider
    address = provider_url(record.simulator, provider.name, provider.kind)
    return provider.model_copy(update={"base_url": address, "needs_key": True, "api_key_file": None})


def _where(record: FleetRecord, provider: ProviderSettings) -> str:
    variable = f"FLEET_PROVIDERS__{provider.name.upper()}__"
    if provider.name in record.simulated:
        own = provider_address(provider)
        return f"simulated, nothing is paid; {variable}SIMULATE=false sends its calls to {own}"
    paid = _paid(provider, variable)
    how = f"{variable}SIMULATE=true sends them to the simulator"
    if provider.key_from_backend and record.embedded_backend and not real_key(provider.name):
        how = f"no key: set {key_variables(provider.name)[0]}, or {variable}NEEDS_KEY=false if it wants none"
    return f"{provider_address(provider)}, {paid}; {how}"


def _paid(provider: ProviderSettings, variable: str) -> str:
    """What its calls cost, as far as its settings tell: a server of this machine without a key may be free."""
    if provider.prices is not None and provider.prices.free:
        return "calls are free"
    if provider.prices is None and provider.on_loopback and not provider.needs_key:
        return f"calls of unknown price (free with {variable}PRICES=0)"
    return "calls are paid"
