"""What a call costs of each limit: estimated before it is sent, corrected when its usage is known.

How a vendor charges is defined in its :class:`fleet.providers.spec.VendorSpec`. Sources: the providers' rate limit
pages.
"""

from dataclasses import dataclass

from fleet.contracts import Limited
from fleet.provider_settings import Kind
from fleet.providers.base import LlmAnswer, LlmRequest
from fleet.providers.registry import spec_of

Cost = dict[Limited, float]

_CHARACTERS_PER_TOKEN = 3.5
_INPUT_TOKENS = 1000.0
_OUTPUT_TOKENS = 800.0
_OVERHEAD_TOKENS = 8
_WEIGHT = 0.05


@dataclass(slots=True)
class _Learned:
    characters_per_token: float = _CHARACTERS_PER_TOKEN
    output_tokens: float = _OUTPUT_TOKENS


def first_cost(kind: Kind) -> Cost:
    """Cost of a call about which nothing is known: a page or two of input, an answer without a set length."""
    return _cost(kind, None, _INPUT_TOKENS, _OUTPUT_TOKENS)


def _cost(kind: Kind, max_tokens: int | None, tokens_in: float, tokens_out: float) -> Cost:
    return {
        Limited.REQUESTS: 1.0,
        Limited.TOKENS: spec_of(kind).limited_tokens(max_tokens, tokens_in, tokens_out),
        Limited.INPUT_TOKENS: tokens_in,
        Limited.OUTPUT_TOKENS: tokens_out,
    }


class Costs:
    """The costs of one provider's calls; learns from their usage, per model."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._learned: dict[str, _Learned] = {}

    def estimate(self, request: LlmRequest) -> Cost:
        """The estimated cost of a call."""
        learned = self._learned.get(request.model, _Learned())
        characters = len(request.system_prompt) + len(request.user_message)
        tokens = characters / learned.characters_per_token + _OVERHEAD_TOKENS
        most = request.max_tokens
        answer = learned.output_tokens if most is None else min(learned.output_tokens, most)
        return _cost(self._kind, most, tokens, answer)

    def actual(self, request: LlmRequest, answer: LlmAnswer) -> Cost:
        """The actual cost of an answered call."""
        self._learn(request, answer)
        free = 0 if spec_of(self._kind).cached_input_counts else answer.cached_input_tokens
        return _cost(self._kind, request.max_tokens, answer.input_tokens - free, answer.output_tokens)

    def _learn(self, request: LlmRequest, answer: LlmAnswer) -> None:
        learned = self._learned.setdefault(request.model, _Learned())
        characters = len(request.system_prompt) + len(request.user_message)
        tokens = answer.input_tokens - _OVERHEAD_TOKENS
        if tokens > 0 and characters:
            learned.characters_per_token += _WEIGHT * (characters / tokens - learned.characters_per_token)
        learned.output_tokens += _WEIGHT * (answer.output_tokens - learned.output_tokens)
