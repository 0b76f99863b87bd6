"""The fields of Anthropic's requests: which there are, and which options a model takes.

Sources: Anthropic's API reference of messages, "Extended thinking", "Adaptive thinking" and "Effort".
"""

from collections.abc import Mapping
from typing import Any

from fleet.devstack.simulator.calls import Options, Refusal

_FIELDS = """
max_tokens messages model cache_control container context_management diagnostics inference_geo mcp_servers metadata
output_config output_format service_tier speed stop_sequences stream system temperature thinking tool_choice tools
top_k top_p user_profile_id workspace_id
"""
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MANUAL, _BOTH, _ADAPTIVE = ("enabled",), ("enabled", "adaptive"), ("adaptive",)
_UP_TO_HIGH, _UP_TO_MAX = ("low", "medium", "high"), ("low", "medium", "high", "max")
#: Kinds of thinking and efforts by the longest prefix of the model's name.
_OF_MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "claude-3-": ((), ()),
    "claude-3-7-sonnet": (_MANUAL, ()),
    "claude-sonnet-4": (_MANUAL, ()),
    "claude-sonnet-4-6": (_BOTH, _UP_TO_MAX),
    "claude-haiku-4-5": (_MANUAL, ()),
    "claude-opus-4": (_MANUAL, ()),
    "claude-opus-4-5": (_MANUAL, _UP_TO_HIGH),
    "claude-opus-4-6": (_BOTH, _UP_TO_MAX),
    "claude-opus-4-7": (_ADAPTIVE, _EFFORTS),
    "claude-opus-4-8": (_ADAPTIVE, _EFFORTS),
    "claude-": (_ADAPTIVE, _EFFORTS),
}
_MIN_BUDGET = 1_024
_DOCUMENT = (
    "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)


def _bad(message: str) -> Refusal:
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
        "request_id": "req_sim",
    }
    return Refusal(400, body)


def options_in(model: str, body: Mapping[str, Any], max_tokens: int) -> Options:
    """The options of a request, checked as Anthropic checks them."""
    if unknown := sorted(body.keys() - set(_FIELDS.split())):
        raise _bad(f"{unknown[0]}: Extra inputs are not permitted")
    kinds, efforts = _OF_MODELS[max((each for each in _OF_MODELS if model.startswith(each)), key=len)]
    effort = _effort(body, efforts)
    kind, budget = _thinking(model, body, kinds, max_tokens)
    thinks = kind in ("enabled", "adaptive")
    if thinks:
        _refuse_sampling(body)
    shown = thinks and (body["thinking"].get("display") != "omitted")
    if kind == "adaptive":
        return Options(effort=effort or "high", thoughts=shown, stop=_stop(body))
    return Options(budget=budget, thoughts=shown, stop=_stop(body))


def _effort(body: Mapping[str, Any], takes: tuple[str, ...]) -> str | None:
    config = body.get("output_config") or {}
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is None:
        return None
    if effort not in _EFFORTS:
        quoted = [f"'{each}'" for each in _EFFORTS]
        raise _bad(f"output_config.effort: Input should be {', '.join(quoted[:-1])} or {quoted[-1]}")
    if not takes:
        raise _bad("This model does not support the effort parameter.")
    if effort not in takes:
        levels = ", ".join(sorted(takes))
        raise _bad(f"This model does not support effort level '{effort}'. Supported levels: {levels}.")
    return str(effort)


def _thinking(
    model: str, body: Mapping[str, Any], kinds: tuple[str, ...], max_tokens: int
) -> tuple[str | None, int | None]:
    """The kind of thinking and its budget."""
    thinking = body.get("thinking")
    if thinking is None:
        return None, None
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "disabled":
        return kind, None
    if kind not in ("enabled", "adaptive"):
        raise _bad("thinking: Input tag found using 'type' does not match any of the expected tags: 'adaptive', "
                   "'disabled', 'enabled'")  # fmt: skip
    if not kinds:
        raise _bad(f"'{model}' does not support thinking.")
    if kind == "adaptive" and kind not in kinds:
        raise _bad("adaptive thinking is not supported on this model")
    if kind == "adaptive":
        return kind, None
    if kind not in kinds:
        raise _bad(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    budget = thinking.get("budget_tokens")
    if budget is None:
        raise _bad("thinking.enabled.budget_tokens: Field required")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < _MIN_BUDGET:
        raise _bad(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_MIN_BUDGET}")
    if budget >= max_tokens:
        raise _bad(
            f"`max_tokens` must be greater than `thinking.budget_tokens`. {_DOCUMENT}"
            "#max-tokens-and-context-window-size"
        )
    return kind, budget


def _refuse_sampling(body: Mapping[str, Any]) -> None:
    if body.get("temperature") not in (None, 1):
        raise _bad(f"`temperature` may only be set to 1 when thinking is enabled. {_DOCUMENT}")
    if (body.get("top_p") or 1) < 0.95:
        raise _bad(f"`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled. {_DOCUMENT}")


def _stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    texts = body.get("stop_sequences")
    if texts is None:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _bad("stop_sequences: Input should be a valid list")
    if not all(text.strip() for text in texts):
        raise _bad("stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(texts)
