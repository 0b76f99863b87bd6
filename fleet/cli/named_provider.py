"""The provider that an argument of a command names."""

from fleet.config import Settings
from fleet.errors import OperationError
from fleet.near_names import did_you_mean
from fleet.provider_settings import PROVIDER_ALIASES, ProviderSettings


def provider_named(settings: Settings, name: str) -> ProviderSettings:
    """The settings of the provider with that name or alias.

    Raises:
        OperationError: there is no such provider; the message lists those that there are.
        SettingsError: it is disabled.
    """
    settings.refuse_disabled(PROVIDER_ALIASES.get(name, name))
    known = settings.providers.get(PROVIDER_ALIASES.get(name, name))
    if known is None:
        there = sorted(settings.providers)
        near = did_you_mean(name, [*there, *PROVIDER_ALIASES])
        raise OperationError(f"there is no provider {name!r:.100}{near}. Remedy: name one of {', '.join(there)}")
    return known
