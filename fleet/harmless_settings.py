"""Which settings a foreign settings file may have (fleet/setting_files.py)."""

from collections.abc import Collection, Mapping
from typing import Any

from fleet.provider_settings import ProviderSettings

#: What a foreign settings file may set: how much, how often, how long, and in which format. Everything else, a new
#: setting too, is refused: it may say where calls, keys and texts go, who reads them, or what is deleted.
HARMLESS = frozenset(
    {
        "activity_timeout_seconds",
        "assistants_concurrency",
        "attempt_spacing_seconds",
        "backend_patience_seconds",
        "backend_timeout_seconds",
        "backoff_coefficient",
        "default_max_tokens",
        "default_temperature",
        "drain_seconds",
        "fallback_after_seconds",
        "heartbeat_interval_seconds",
        "heartbeat_timeout_seconds",
        "log_format",
        "loop_blocked_seconds",
        "max_attempts",
        "max_lost_workers",
        "other_machine_seconds",
        "pipeline_concurrency",
        "retry_initial_seconds",
        "retry_max_seconds",
    }
)
HARMLESS_OF_PROVIDER = frozenset(
    {
        "concurrency",
        "context_window",
        "input_tpm",
        "models",
        "output_tpm",
        "prices",
        "rpm",
        "timeout_seconds",
        "tpm",
    }
)


def harmless(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are taken from a foreign settings file."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name == "providers" and isinstance(value, Mapping):
            kept[name] = {
                provider: {key: item for key, item in section.items() if key in HARMLESS_OF_PROVIDER}
                for provider, section in value.items()
                if isinstance(section, Mapping)
            }
        elif name.lower() in HARMLESS:
            kept[name] = value
    return kept


def not_harmless(values: Mapping[str, Any], settings: Collection[str]) -> set[tuple[str, ...]]:
    """The places of all ``settings`` among the values that a foreign settings file may not set. A name that is no
    setting is not among them: it is ignored or refused as such."""
    refused = {*settings} - HARMLESS - {"providers"}
    refused_of_provider = ProviderSettings.model_fields.keys() - HARMLESS_OF_PROVIDER
    # A setting may be given by its variable.
    fields = (name.lower() if name.lower() in settings else name for name in values)
    found: set[tuple[str, ...]] = {(field,) for field in fields if field in refused}
    sections = values.get("providers")
    for provider, section in sections.items() if isinstance(sections, Mapping) else ():
        if isinstance(section, Mapping):
            found |= {("providers", provider, key) for key in section.keys() & refused_of_provider}
    return found
