"""The only module that knows all vendors. Each kind of provider is a folder beside this file, with its ``spec``,
which needs no SDK, and its adapters. A process imports only the SDK of its own provider."""

from collections.abc import Callable, Collection, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from fleet.errors import SettingsError
from fleet.provider_settings import KINDS, Kind, ProviderSettings
from fleet.providers.base import Provider
from fleet.providers.sdk_environment import withhold_variables
from fleet.providers.spec import Adapter, VendorSpec

ProviderFactory = Callable[[str], Provider]


@cache
def spec_of(kind: Kind) -> VendorSpec:
    """A vendor's spec, which needs no SDK."""
    spec: VendorSpec = import_module(f"fleet.providers.{kind}.spec").SPEC
    return spec


def all_specs() -> Iterator[VendorSpec]:
    """The specs of all kinds of providers."""
    return (spec_of(kind) for kind in KINDS)


def provider_factory(settings: ProviderSettings, sdk_variables: Collection[str] = ()) -> ProviderFactory:
    """Import the provider's SDK immediately, and return a function that creates a client from an API key.

    Variables that SDKs read are removed from this process's environment, except those named in ``sdk_variables``.

    Raises:
        SettingsError: the settings name an SDK that is not installed.
    """
    chosen = _adapter_of(settings)
    if chosen.package and not _installed(chosen.package):
        raise SettingsError(
            f"FLEET_PROVIDERS__{settings.name.upper()}__SDK={settings.sdk}, but that package is not installed. "
            f"Remedy: install {chosen.extra} into an environment of its own, or unset the variable to use "
            f"{chosen.instead}"
        )
    withhold_variables(sdk_variables)
    adapter = getattr(import_module(f"fleet.providers.{settings.kind}.{chosen.module}"), chosen.class_name)
    return lambda api_key: adapter(settings, api_key)


def provider_address(settings: ProviderSettings) -> str:
    """The address that its calls are sent to."""
    return settings.base_url or spec_of(settings.kind).official_url


def _adapter_of(settings: ProviderSettings) -> Adapter:
    """The adapter of the provider's ``sdk`` setting, or the vendor's default."""
    adapters = spec_of(settings.kind).adapters
    return adapters.get(settings.sdk) or adapters[""]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
