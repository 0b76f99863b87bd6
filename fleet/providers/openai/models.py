"""What differs between OpenAI's models, by the longest prefix of their names. Source: OpenAI's model pages."""

from fleet.providers.spec import ModelProfile


def _reasoning(*efforts: str, takes_stop: bool = False) -> ModelProfile:
    """Reasoning models, which are every gpt-N from 5 on and the o series, do not accept sampling parameters, and
    most of them no stop texts."""
    return ModelProfile(sampling="none", efforts=efforts, takes_stop=takes_stop)


_NO_SCHEMA, _PLAIN = ModelProfile(takes_schema=False, efforts=()), ModelProfile(efforts=())
_UP_TO_HIGH, _UP_TO_XHIGH = ("none", "low", "medium", "high"), ("none", "low", "medium", "high", "xhigh")
_UP_TO_MAX = (*_UP_TO_XHIGH, "max")
MODELS = {
    "gpt-3.5": _NO_SCHEMA,
    "gpt-4": _NO_SCHEMA,
    "gpt-4o": _PLAIN,
    "gpt-4.": _PLAIN,
    "gpt-5": _reasoning("minimal", "low", "medium", "high"),
    "gpt-5-chat": _PLAIN,
    "gpt-5-pro": _reasoning("high"),
    "gpt-5.": _reasoning(*_UP_TO_MAX),
    "gpt-5.1": _reasoning(*_UP_TO_HIGH),
    "gpt-5.1-codex-max": _reasoning(*_UP_TO_XHIGH),
    "gpt-5.2": _reasoning(*_UP_TO_XHIGH),
    "gpt-5.3": _reasoning(*_UP_TO_XHIGH),
    "gpt-5.4": _reasoning(*_UP_TO_XHIGH),
    "gpt-5.5": _reasoning(*_UP_TO_XHIGH),
    "gpt-6": _reasoning(*_UP_TO_MAX),
    "o1": _reasoning("low", "medium", "high", takes_stop=True),
    "o3": _reasoning("low", "medium", "high"),
    "o4": _reasoning("low", "medium", "high"),
    "": ModelProfile(),  # the models of other servers too
}
