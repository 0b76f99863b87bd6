"""What every provider is asked and what it answers, in one form for all."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "refusal", "other"]
#: Header of a simulator's answers, whose value is then ``true``: nothing is paid for them.
SIMULATOR_HEADER = "x-simulator"


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One call. ``max_tokens`` None means the model's own maximum."""

    model: str
    system_prompt: str
    user_message: str
    temperature: float
    top_p: float | None
    max_tokens: int | None
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class LlmAnswer:
    """One usable answer.

    ``input_tokens`` includes ``cached_input_tokens``; ``output_tokens`` includes reasoning. ``headers``
    are the answer's HTTP headers in lower case, empty where the SDK hides them. ``billed`` is what the provider
    charges for, by :func:`fleet.providers.prices.billed_in`; empty where only the counts above are known. ``tier``
    is the service tier that it names, by :func:`fleet.providers.prices.tier_of`; empty for the standard one.
    """

    text: str
    model: str
    finish_reason: FinishReason
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    billed: dict[str, int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    tier: str = ""

    @property
    def simulated(self) -> bool:
        """Whether a simulator answered, as it says itself: then nothing is paid."""
        return self.headers.get(SIMULATOR_HEADER) == "true"


@dataclass(slots=True)
class ResumeHandle:
    """A call that can outlive its process.

    ``response_id`` names a call that already runs at the provider. ``started`` is called with the id of a new
    one, and with "" when the provider no longer has it. Providers without such calls ignore the ticket.
    """

    response_id: str | None
    started: Callable[[str], Awaitable[None]]

    async def begun(self, response_id: str) -> None:
        """The call runs at the provider under this id; the next request with this ticket polls it."""
        self.response_id = response_id
        await self.started(response_id)

    async def gone(self) -> None:
        """The provider no longer has the call."""
        self.response_id = None
        await self.started("")


class Provider(Protocol):
    """An authenticated client of one provider. Its own retries are off."""

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call, exactly once.

        ``timeout_seconds`` bounds the silence between two reads; the caller bounds the whole call with
        ``asyncio.timeout``, since no SDK does.

        Raises:
            ProviderError: the call failed or its answer cannot be used.
        """
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...
