"""Which options OpenAI's two APIs have. Sources: OpenAI's API reference of responses and of chat completions."""

from fleet.provider_settings import ProviderSettings
from fleet.providers.spec import OptionSupport

_OF_BOTH = {"temperature", "top_p", "max_output_tokens", "max_tokens", "max_completion_tokens", "stop", "seed"}
_OF_RESPONSES = {"input", "instructions", "prompt", "conversation", "previous_response_id", "reasoning.effort"} | {
    "text.format",
    "background",
}
_OF_CHAT = {"reasoning_effort", "response_format", "n"}
_MAX_STOPS, _MAX_STOPS_ELSEWHERE = 4, 32


def openai_options(provider: ProviderSettings) -> OptionSupport:
    """The options of the API that the provider's settings choose."""
    budget = "set {reasoning_effort} instead"
    if provider.name != "openai":
        budget += ", or put what the server has for it into {provider_options}"
    if provider.openai_api == "chat":
        max_stops = _MAX_STOPS if provider.name == "openai" else _MAX_STOPS_ELSEWHERE
        return OptionSupport({"thinking_budget": budget}, frozenset(_OF_BOTH | _OF_CHAT), max_stops)
    variable = f"FLEET_PROVIDERS__{provider.name.upper()}__API"
    other = f"set {variable}=chat, since the Responses API does not have it, or remove it"
    set_here = _OF_BOTH | _OF_RESPONSES | ({"store"} if provider.background else set())
    return OptionSupport({"thinking_budget": budget, "stop": other, "seed": other}, frozenset(set_here))
