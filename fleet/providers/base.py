"""The request and the answer of an LLM call, in one form for all providers."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from loguru import logger

from fleet.model_options import ModelOptions

FinishReason = Literal["stop", "length", "refusal", "other"]
#: Header of a simulator's answers, with the value ``true``: nothing is paid for them.
SIMULATOR_HEADER = "x-simulator"


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One call. ``max_tokens`` None means the maximum of the model. ``output_schema`` is the JSON Schema of the
    answer; None for text. ``options`` are those that its model takes, see :mod:`fleet.providers.options`."""

    model: str
    system_prompt: str
    user_message: str
    temperature: float
    top_p: float | None
    max_tokens: int | None
    idempotency_key: str
    output_schema: dict[str, Any] | None = None
    options: ModelOptions | None = None

    @property
    def model_options(self) -> ModelOptions:
        """Its options; without any, all of them are None."""
        return self.options or ModelOptions()


@dataclass(frozen=True, slots=True)
class LlmAnswer:
    """One usable answer.

    ``input_tokens`` includes ``cached_input_tokens``; ``output_tokens`` includes reasoning. ``headers`` are the
    answer's HTTP headers in lower case, empty if the SDK hides them. ``billed`` is what the provider charges for,
    from :func:`fleet.providers.prices.billed_in`; empty if only the counts above are known. ``tier`` is the
    service tier that the answer names, from :func:`fleet.providers.prices.tier_of`; empty for the standard tier.
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
        """Whether the answer says that it comes from a simulator: then nothing is paid."""
        return self.headers.get(SIMULATOR_HEADER) == "true"


@dataclass(slots=True)
class ResumeHandle:
    """A call that can outlive its process.

    ``response_id`` names a call that already runs at the provider. ``started`` is called with the id of a new
    call, and with "" if the provider no longer has the call. Providers without such calls ignore the handle.
    """

    response_id: str | None
    started: Callable[[str], Awaitable[None]]

    async def begun(self, response_id: str) -> None:
        """The call runs at the provider under this id; the next request with this handle polls it."""
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

        ``timeout_seconds`` bounds the time between two reads; the caller bounds the whole call with
        ``asyncio.timeout``, since no SDK does.

        Raises:
            ProviderError: the call failed, or its answer cannot be used.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@contextmanager
def answer_kept(what: str) -> Iterator[None]:
    """Log an exception of the block instead of raising it. ``what`` names the block in the log."""
    try:
        yield
    except Exception:
        logger.exception("{} failed; the answer is kept", what)
