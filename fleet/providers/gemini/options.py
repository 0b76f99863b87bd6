"""Which options Gemini's two APIs have, and the SDK that is out of support. Sources: the references of
generateContent and of interactions at ai.google.dev, and the SDKs."""

from fleet.provider_settings import ProviderSettings
from fleet.providers.spec import OptionSupport

_MAX_STOPS = 5
_OF_CONFIG = (
    "temperature",
    "topP",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "candidateCount",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "thinkingLevel",
    "thinkingConfig.thinkingLevel",
    "thinkingConfig.thinkingBudget",
)
_SET_HERE = {"contents", "systemInstruction", *(f"generationConfig.{name}" for name in _OF_CONFIG)} | {
    "input",
    "agent",
    "background",
    "store",
    "responseFormat",
    "previousInteractionId",
}


def gemini_options(provider: ProviderSettings) -> OptionSupport:
    """The options of the SDK and the API that the provider's settings choose."""
    variables = f"FLEET_PROVIDERS__{provider.name.upper()}__"
    if provider.sdk == "google-generativeai":
        remedy = f"unset {variables}SDK, since that SDK does not have it, or remove it"
        names = ("reasoning_effort", "thinking_budget", "seed", "provider_options")
        return OptionSupport(dict.fromkeys(names, remedy), max_stops=_MAX_STOPS)
    refused = {}
    if provider.background:
        refused["thinking_budget"] = (
            f"set {{reasoning_effort}} instead where the model takes it, or unset {variables}BACKGROUND: "
            "interactions have no budgets"
        )
    return OptionSupport(refused, frozenset(_SET_HERE), max_stops=_MAX_STOPS)
