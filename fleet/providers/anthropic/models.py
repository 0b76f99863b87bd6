"""What differs between Anthropic's models, by the longest prefix of their names. Source: its model pages."""

from fleet.providers.spec import ModelProfile, Sampling, ThinkingBudget

_BUDGET = ThinkingBudget(1_024, 128_000, also=(0,), below_max_tokens=True)
_UP_TO_HIGH, _UP_TO_MAX = ("low", "medium", "high"), ("low", "medium", "high", "max")
_ALL = ("low", "medium", "high", "xhigh", "max")


def _plain(most: int) -> ModelProfile:
    """Before extended thinking."""
    return ModelProfile(most, takes_schema=False, window_has_output=True, efforts=())


def _with_budget(most: int, sampling: Sampling, efforts: tuple[str, ...] = (), **more: bool) -> ModelProfile:
    """Thinks with a budget; the first of them also take no schema."""
    return ModelProfile(most, sampling, efforts=efforts, budget=_BUDGET, takes_schema=sampling == "one", **more)


def _adaptive(most: int) -> ModelProfile:
    """Decides itself how much to think. temperature, top_p and thinking budgets were removed from the API with
    Opus 4.7; newer models answer 400 to each."""
    return ModelProfile(most, sampling="none", efforts=_ALL, adaptive_thinking=True)


# Up to Opus 4.1, input and max_tokens together must fit; later models stop at the end of the window instead
# ("Handling stop reasons", model_context_window_exceeded).
MODELS = {
    "claude-3-haiku": _plain(4_096),
    "claude-3-sonnet": _plain(4_096),
    "claude-3-opus": _plain(4_096),
    "claude-3-5-sonnet": _plain(8_192),
    "claude-3-5-haiku": _plain(8_192),
    "claude-3-7-sonnet": _with_budget(64_000, "both", window_has_output=True),
    "claude-sonnet-4": _with_budget(64_000, "both", window_has_output=True),
    "claude-sonnet-4-5": _with_budget(64_000, "one"),
    "claude-sonnet-4-6": _with_budget(128_000, "one", _UP_TO_MAX, adaptive_thinking=True),
    "claude-haiku-4-5": _with_budget(64_000, "one"),
    "claude-opus-4": _with_budget(32_000, "both", window_has_output=True),
    "claude-opus-4-1": _with_budget(32_000, "one", window_has_output=True),
    "claude-opus-4-5": _with_budget(64_000, "one", _UP_TO_HIGH),
    "claude-opus-4-6": _with_budget(128_000, "one", _UP_TO_MAX, adaptive_thinking=True),
    "claude-opus-4-7": _adaptive(128_000),
    "claude-opus-4-8": _adaptive(128_000),
    "claude-sonnet-5": _adaptive(128_000),
    "claude-opus-5": _adaptive(128_000),
    "": _adaptive(64_000),
}
