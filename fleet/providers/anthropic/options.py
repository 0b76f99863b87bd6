"""Which options the Messages API has. Sources: Anthropic's API reference, "Extended thinking", "Effort"."""

from fleet.provider_settings import ProviderSettings
from fleet.providers.spec import OptionSupport

_SET_HERE = {"system", "max_tokens", "temperature", "top_p", "stop_sequences", "thinking"} | {
    "output_config.effort",
    "output_config.format",
}


def anthropic_options(provider: ProviderSettings) -> OptionSupport:
    """All but a seed."""
    refused = {"seed": "remove it: the Messages API has none"}
    return OptionSupport(refused, frozenset(_SET_HERE), blank_stops=False)
