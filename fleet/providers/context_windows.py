"""Requests that exceed the context window of their model: they are refused before they are sent.

What counts is :func:`fleet.pipeline.prompts.min_tokens`, which is below a model's own count, so that nothing is
refused here that would fit. What lies between the two is sent, and refused by the provider without a charge.
"""

from dataclasses import dataclass
from functools import cache

from fleet.pipeline.prompts import estimate_tokens, min_tokens
from fleet.provider_settings import KINDS, ProviderSettings
from fleet.providers.base import LlmRequest
from fleet.providers.model_profiles import profile_of
from fleet.providers.registry import spec_of

# The price data rounds: 1,000,000 stands for 1,047,576, and 200,000 for what is 204,648 at times.
_ROUNDED = 1.05


@dataclass(frozen=True, slots=True)
class Overflow:
    """An input of about ``tokens`` and ``least`` tokens at least, for a model whose window has ``window``.
    ``output`` is what max_tokens takes of the window, 0 where only the input counts."""

    model: str
    tokens: int
    least: int
    window: int
    output: int = 0

    def __str__(self) -> str:
        output = f" and its max_tokens of {self.output:,} count together, and" if self.output else ","
        return (
            f"its input has about {self.tokens:,} tokens ({self.least:,} at least){output} the context window of "
            f"{self.model} has {self.window:,}"
        )


def window_of(settings: ProviderSettings, model: str) -> int | None:
    """The context window of a model, in tokens: as the settings say, otherwise as the price data does; None if it
    is not known."""
    own = settings.own_window(model)
    if own is not None:
        return own or None
    return _known_window(spec_of(settings.name).price_list if settings.name in KINDS else settings.name, model)


def surely_fits(settings: ProviderSettings, request: LlmRequest) -> bool:
    """Whether a request is known to fit without a look at its words: it has fewer characters than there is room
    for tokens, or the window is not known."""
    room = _room(settings, request)
    return room is None or sum(map(len, _texts(request))) <= room


def overflow_of(settings: ProviderSettings, request: LlmRequest) -> Overflow | None:
    """By how much a request surely exceeds its model's context window; None if it may fit. A text of a megabyte
    takes a tenth of a second."""
    window, room = window_of(settings, request.model), _room(settings, request)
    if window is None or room is None or surely_fits(settings, request):
        return None
    least = sum(map(min_tokens, _texts(request)))
    tokens = max(least, sum(map(estimate_tokens, _texts(request))))
    return (
        Overflow(request.model, tokens, least, window, _output_in_window(settings, request))
        if least > room
        else None
    )


def remedy_for(request: LlmRequest) -> str:
    """What a person can do for a request that is too long, where its prompt is the larger part of it; empty where
    what the assistant reads is."""
    if len(request.system_prompt) <= len(request.user_message):
        return ""
    return (
        "shorten the assistant's prompt, let it read less (fewer rows or columns of the CSV, fewer inputs), lower "
        "its max_tokens, or name a model with a larger context window, for example as its fallback"
    )


def _texts(request: LlmRequest) -> tuple[str, str]:
    return request.system_prompt, request.user_message


def _room(settings: ProviderSettings, request: LlmRequest) -> float | None:
    """The tokens that the input may have; None if that is not known."""
    window = window_of(settings, request.model)
    if window is None:
        return None
    return window * (1.0 if settings.own_window(request.model) else _ROUNDED) - _output_in_window(
        settings, request
    )


def _output_in_window(settings: ProviderSettings, request: LlmRequest) -> int:
    profile = profile_of(settings.kind, request.model)
    return (request.max_tokens or profile.max_output_tokens or 0) if profile.window_has_output else 0


@cache
def _known_window(seller: str, model: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, known = get_snapshot().find_provider_model(model, None, seller, None)
    except LookupError:
        return None
    return known.context_window
