"""What the calls of an assistant cost that failed: from the answers that could not be used, and the counts of its
attempts."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fleet.contracts import FailedCalls
from fleet.errors import OutputBroken
from fleet.execution.attempts import Attempts
from fleet.execution.recorded_answer import Recorded
from fleet.provider_settings import ProviderSettings
from fleet.providers.prices import cost_of


@dataclass(frozen=True)
class Used:
    """What an answer that cannot be used cost. ``started`` is when it was asked for (ISO 8601), ``ask`` is 1 for
    the first and 2 for the second ask; the other fields are those of :class:`~fleet.contracts.AssistantResult`."""

    started: str = ""
    ask: int = 1
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    price_version: str | None = None
    price_note: str = ""
    service_tier: str = ""
    simulated: bool = False

    @classmethod
    def by(cls, provider: ProviderSettings, model: str, recorded: Recorded, ask: int) -> "Used":
        """That of a recorded answer to a request for ``model``."""
        answer = recorded.answer
        cost = cost_of(provider, model, answer)
        return cls(
            started=recorded.started,
            ask=ask,
            input_tokens=answer.input_tokens,
            cached_input_tokens=answer.cached_input_tokens,
            output_tokens=answer.output_tokens,
            cost_usd=cost.usd,
            price_version=cost.price_version,
            price_note=cost.note,
            service_tier=answer.tier,
            simulated=cost.simulated,
        )

    @classmethod
    def from_details(cls, details: dict[str, Any]) -> "Used":
        """From heartbeat details, written by any release."""
        return cls(**{item.name: details[item.name] for item in fields(cls) if item.name in details})

    def to_details(self) -> dict[str, Any]:
        """For heartbeat details."""
        return asdict(self)


def failed_calls(error: Exception, attempts: Attempts) -> FailedCalls:
    """What was called and paid until this error ended the assistant.

    An open call, one whose end this process did not see, may have been paid too.
    """
    is_open = not isinstance(error, OutputBroken) and bool(
        attempts.untold or attempts.open_at or attempts.response_id
    )
    answers = [Used.from_details(details) for details in attempts.in_vain]
    unpriced = attempts.unpriced + is_open
    costs = [answer.cost_usd for answer in answers]
    known = [cost for cost in costs if cost is not None]
    is_known = len(known) == len(costs) and bool(known or not unpriced)
    notes = [answer.price_note for answer in answers if answer.price_note]
    if known and unpriced:
        calls = "1 call that" if unpriced == 1 else f"{unpriced} calls that"
        notes.append(f"without {calls} may have been paid")
    return FailedCalls(
        calls=attempts.calls,
        possibly_paid_twice=max(attempts.sent_over, attempts.maybe_paid + is_open - 1, 0),
        input_tokens=sum(answer.input_tokens for answer in answers),
        cached_input_tokens=sum(answer.cached_input_tokens for answer in answers),
        output_tokens=sum(answer.output_tokens for answer in answers),
        cost_usd=round(sum(known), 10) if is_known else None,
        price_version=next((answer.price_version for answer in answers if answer.price_version), None),
        price_note="; ".join(dict.fromkeys(notes)),
        service_tier=next((answer.service_tier for answer in answers if answer.service_tier), ""),
        simulated=bool(answers) and all(answer.simulated for answer in answers),
    )
