"""The options of Gemini's requests, and which a model takes. Sources: "Gemini thinking" and the API reference at
ai.google.dev."""

from collections.abc import Callable, Mapping
from typing import Any

from fleet.devstack.simulator.calls import Options, Refusal

_LEVELS = ("minimal", "low", "medium", "high")
#: By the longest prefix of the model's name: least and largest budget, values beside these, and levels.
_OF_MODELS: dict[str, tuple[int, int, tuple[int, ...], tuple[str, ...]]] = {
    "gemini-2.5-pro": (128, 32_768, (-1,), ()),
    "gemini-2.5-flash": (0, 24_576, (-1,), ()),
    "gemini-2.5-flash-lite": (512, 24_576, (0, -1), ()),
    "gemini-3-pro": (0, 65_536, (-1,), ("low", "high")),
    "gemini-3": (0, 65_536, (-1,), _LEVELS),
}
_MAX_STOPS = 5
_INT32 = 2**31

_FIELDS = """
contents model systemInstruction generationConfig safetySettings tools toolConfig cachedContent serviceTier store
labels
"""
_OF_CONFIG = """
stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount maxOutputTokens
temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs enableEnhancedCivicAnswers
speechConfig thinkingConfig imageConfig mediaResolution
"""

Field = Callable[[Mapping[str, Any], str], Any]
Error = Callable[[int, str], Refusal]


def options_in(model: str, config: Mapping[str, Any], field: Field, error: Error) -> Options:
    """The options of a generation config, whose fields ``field`` reads, checked as Google checks them."""
    thinking = field(config, "thinkingConfig") or {}
    level = field(thinking, "thinkingLevel") or field(config, "thinkingLevel")
    budget = field(thinking, "thinkingBudget")
    _check_thinking(model, budget, level, error)
    effort = str(level).lower() if level is not None else None
    thoughts = bool(field(thinking, "includeThoughts"))
    return Options(
        effort, budget, thoughts, _stop(field(config, "stopSequences"), error), _seed(config, field, error)
    )


def refuse_unknown(body: Mapping[str, Any], config: Mapping[str, Any], error: Error) -> None:
    """Refuse fields that generateContent does not have, under their JSON name or their proto name."""
    for given, known, place in ((body, _FIELDS, ""), (config, _OF_CONFIG, " at 'generation_config'")):
        names = {name.replace("_", "").lower() for name in known.split()}
        for name in given:
            if name.replace("_", "").lower() not in names:
                raise error(
                    400, f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
                )


def _check_thinking(model: str, budget: Any, level: Any, error: Error) -> None:
    if budget is None and level is None:
        return
    name = model.removeprefix("models/")
    known = max((each for each in _OF_MODELS if name.startswith(each)), key=len, default=None)
    if known is None:
        raise error(400, "Thinking is not supported by this model.")
    least, most, also, levels = _OF_MODELS[known]
    if budget is not None and level is not None:
        raise error(400, "You can only set only one of thinking budget and thinking level.")
    if level is not None and not levels:
        raise error(400, "Thinking level is not supported for this model.")
    if level is not None and str(level).lower() not in levels:
        raise error(400, f"Thinking level {str(level).upper()} is not supported for this model.")
    if budget is None or budget in also:
        return
    if isinstance(budget, bool) or not isinstance(budget, int):
        place = "generation_config.thinking_config.thinking_budget"
        raise error(400, f"Invalid value at '{place}' (TYPE_INT32), {budget}")
    if budget == 0 < least:
        raise error(400, "Budget 0 is invalid. This model only works in thinking mode.")
    if not least <= budget <= most:
        raise error(
            400, f"The thinking budget {budget} is invalid. Please choose a value between {least} and {most}."
        )


def _stop(texts: Any, error: Error) -> tuple[str, ...]:
    if texts is None:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise error(400, "Invalid value at 'generation_config.stop_sequences' (TYPE_STRING)")
    if len(texts) > _MAX_STOPS:
        what = "* GenerateContentRequest.generation_config.stop_sequences"
        raise error(400, f"{what}: number of sequences must be {_MAX_STOPS} or fewer\n")
    return tuple(texts)


def _seed(config: Mapping[str, Any], field: Field, error: Error) -> int | None:
    seed = field(config, "seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= _INT32):
        raise error(400, f"Invalid value at 'generation_config.seed' (TYPE_INT32), {seed}")
    return seed
