"""The fields of OpenAI's requests: which there are, and which options a model takes.

Sources: OpenAI's API reference of responses and of chat completions, and its "Reasoning models".
"""

from collections.abc import Mapping
from typing import Any

from fleet.devstack.simulator.calls import Options
from fleet.devstack.simulator.wires.openai_formats import error

_OF_BOTH = """
metadata model moderation parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention
safety_identifier service_tier store stream stream_options temperature tool_choice tools top_logprobs top_p user
"""
_OF_RESPONSES = """
access_programs background background_options context_management conversation image include input instructions
max_output_tokens max_tool_calls previous_response_id prompt reasoning text truncation
"""
_OF_CHAT = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
modalities n prediction presence_penalty reasoning_effort response_format seed stop verbosity web_search_options
"""
_FIELDS = {
    "responses": frozenset((_OF_BOTH + _OF_RESPONSES).split()),
    "chat": frozenset((_OF_BOTH + _OF_CHAT).split()),
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
#: Efforts by the longest prefix of the model's name; other models do not reason.
_OF_MODELS = {
    "o1": ("low", "medium", "high"),
    "o3": ("low", "medium", "high"),
    "o4-mini": ("low", "medium", "high"),
    "gpt-5": ("minimal", "low", "medium", "high"),
    "gpt-5-chat": (),
    "gpt-5.1": ("none", "low", "medium", "high"),
    "gpt-5.4": ("none", "low", "medium", "high", "xhigh"),
    "gpt-5.5": ("none", "low", "medium", "high", "xhigh"),
    "gpt-6": ("none", "low", "medium", "high", "xhigh", "max"),
}
_MAX_STOPS = 4
_KIND = "invalid_request_error"


def options_in(api: str, provider: str, model: str, body: Mapping[str, Any]) -> Options:
    """The options of a request, checked as OpenAI checks them; another server takes what it is sent."""
    if provider == "openai":
        _refuse_unknown(api, body)
    effort = _effort(api, provider, model, body)
    stop = _stop(model, body, bound=provider == "openai") if api == "chat" else ()
    seed = body.get("seed") if api == "chat" else None
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        message = "Invalid type for 'seed': expected an integer, but got something else instead."
        raise error(400, message, _KIND, "invalid_type", "seed")
    return Options(effort=effort, stop=stop, seed=seed)


def _refuse_unknown(api: str, body: Mapping[str, Any]) -> None:
    unknown = sorted(body.keys() - _FIELDS[api])
    if unknown and api == "responses":
        raise error(400, f"Unknown parameter: '{unknown[0]}'.", _KIND, "unknown_parameter", unknown[0])
    if unknown:
        raise error(400, f"Unrecognized request argument supplied: {unknown[0]}", _KIND)


def _effort(api: str, provider: str, model: str, body: Mapping[str, Any]) -> str | None:
    param = "reasoning.effort" if api == "responses" else "reasoning_effort"
    reasoning = body.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        message = "Invalid type for 'reasoning': expected an object, but got something else instead."
        raise error(400, message, _KIND, "invalid_type", "reasoning")
    effort = reasoning.get("effort") if api == "responses" else body.get("reasoning_effort")
    if effort is None or provider != "openai":
        return effort if isinstance(effort, str) else None
    if effort not in _EFFORTS:
        message = f"Invalid value: '{effort}'. Supported values are: {_listed(_EFFORTS)}."
        raise error(400, message, _KIND, "invalid_value", param)
    takes = efforts_of(model)
    if not takes and api == "chat":
        raise error(400, "Unrecognized request argument supplied: reasoning_effort", _KIND)
    if not takes:
        message = f"Unsupported parameter: '{param}' is not supported with this model."
        raise error(400, message, _KIND, "unsupported_parameter", param)
    if effort not in takes:
        message = (
            f"Unsupported value: '{effort}' is not supported with the '{model}' model. Supported values are: "
            f"{_listed(takes)}."
        )
        raise error(400, message, _KIND, "unsupported_value", param)
    return str(effort)


def efforts_of(model: str) -> tuple[str, ...]:
    """The efforts that a model takes; empty if it does not reason."""
    return _OF_MODELS.get(max((each for each in _OF_MODELS if model.startswith(each)), key=len, default=""), ())


def _stop(model: str, body: Mapping[str, Any], *, bound: bool) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        message = "Invalid type for 'stop': expected a string or an array of strings."
        raise error(400, message, _KIND, "invalid_type", "stop")
    if bound and efforts_of(model) and not model.startswith("o1"):
        message = "Unsupported parameter: 'stop' is not supported with this model."
        raise error(400, message, _KIND, "unsupported_parameter", "stop")
    if bound and len(texts) > _MAX_STOPS:
        message = (
            f"Invalid 'stop': array too long. Expected an array with maximum length {_MAX_STOPS}, but got an "
            f"array with length {len(texts)} instead."
        )
        raise error(400, message, _KIND, "array_above_max_length", "stop")
    return tuple(texts)


def _listed(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
