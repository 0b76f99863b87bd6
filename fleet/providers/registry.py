"""The only place that knows all providers. A process imports no SDK but its own provider's."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from fleet.config import ProviderSettings
from fleet.errors import SettingsError
from fleet.providers.base import Provider

ProviderFactory = Callable[[str], Provider]


def _adapter_of(settings: ProviderSettings) -> tuple[str, str]:
    """Module and class of the adapter."""
    if settings.kind == "gemini" and settings.sdk == "google-generativeai":
        return "fleet.providers.gemini.legacy_adapter", "LegacyGeminiProvider"
    return {
        "openai": ("fleet.providers.openai.adapter", "OpenAIProvider"),
        "anthropic": ("fleet.providers.anthropic.adapter", "AnthropicProvider"),
        "gemini": ("fleet.providers.gemini.adapter", "GeminiProvider"),
    }[settings.kind]


def provider_factory(settings: ProviderSettings) -> ProviderFactory:
    """Import the provider's SDK, now, and return what makes a client of it from an API key.

    Raises:
        SettingsError: the settings name Google's older SDK and it is not installed.
    """
    module, class_name = _adapter_of(settings)
    if module.endswith("gemini_legacy") and not _installed("google.generativeai"):
        raise SettingsError(
            f"FLEET_PROVIDERS__{settings.name.upper()}__SDK=google-generativeai, but that package is not "
            "installed. Remedy: install requirements/gemini-legacy.txt into an environment of its own, or "
            "unset the variable to use google-genai"
        )
    adapter = getattr(import_module(module), class_name)
    return lambda api_key: adapter(settings, api_key)


def provider_address(settings: ProviderSettings) -> str:
    """Where its calls are sent to."""
    return settings.base_url or str(import_module(_adapter_of(settings)[0]).OFFICIAL_URL)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
