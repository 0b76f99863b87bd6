"""A recorded answer in the form that its pipeline gets, from the attempt that asked for it or delivered later."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from loguru import logger

from fleet.contracts import OUTPUT_ESCAPED_MAX_BYTES, OUTPUT_MAX_BYTES, AssistantResult
from fleet.execution.recorded_answer import Recorded
from fleet.pipeline.structured_outputs import answer_problem, schema_problem
from fleet.process.payload_size import cut_to_fit
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer
from fleet.providers.prices import cost_of
from fleet.providers.response_bodies import count_in, object_in, text_in


@dataclass(frozen=True)
class About:
    """What is delivered with an answer in addition to the recorded data: the ``model`` that was asked for, and how
    many ``calls`` were sent, including this one. An answer is only delivered if it matches ``output_schema``."""

    model: str
    idempotency_key: str
    calls: int = 1
    output_schema: dict[str, Any] | None = None

    def to_json(self) -> str:
        """As JSON for the journal.

        A release up to 0.2.0 would deliver an answer without looking at its schema, so with one it must find
        nothing that it can read: it then leaves the task to Temporal's heartbeat timeout.
        """
        values = asdict(self)
        return json.dumps({"checked": values} if self.output_schema is not None else values)

    @classmethod
    def from_json(cls, text: str) -> "About":
        """From the journal, written by any release.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            found = json.loads(text)
        except RecursionError:
            raise ValueError("what its journal has is nested too deeply") from None
        found = object_in(found, "checked") or found if isinstance(found, dict) else {}
        model, key, schema = text_in(found, "model"), text_in(found, "idempotency_key"), found.get("output_schema")
        if not model or not key or (schema is not None and schema_problem(schema)):
            raise ValueError("what its journal has is not of a form that this release knows")
        return cls(model, key, count_in(found, "calls") or 1, schema)

    def takes(self, answer: LlmAnswer) -> bool:
        """Whether an answer may be delivered."""
        return self.output_schema is None or answer_problem(answer.text, self.output_schema) is None


def result_of(
    provider: ProviderSettings, function_key: str, about: About, recorded: Recorded, maybe_paid: int
) -> AssistantResult:
    """The assistant's result; ``maybe_paid`` counts the other calls for it that were or may have been paid."""
    answer = recorded.answer
    cost = cost_of(provider, about.model, answer)
    output = sendable(answer.text)
    return AssistantResult(
        function_key=function_key,
        output=output,
        provider=provider.name,
        model=about.model,
        finish_reason=answer.finish_reason if output == answer.text else "length",
        input_tokens=answer.input_tokens,
        cached_input_tokens=answer.cached_input_tokens,
        output_tokens=answer.output_tokens,
        cost_usd=cost.usd,
        price_version=cost.price_version,
        attempts=recorded.attempts,
        calls=max(about.calls, 1),
        seconds=recorded.seconds,
        started=recorded.started,
        idempotency_key=about.idempotency_key,
        possibly_paid_twice=max(recorded.maybe_paid, maybe_paid),
        simulated=cost.simulated,
        service_tier=answer.tier,
        price_note=cost.note,
    )


def sendable(text: str) -> str:
    """The text in a form that Temporal can carry: valid UTF-8, within the payload limit."""
    encoded = text.encode("utf-8", "replace")
    sendable = cut_to_fit(encoded[:OUTPUT_MAX_BYTES].decode("utf-8", "ignore"), OUTPUT_ESCAPED_MAX_BYTES)
    if len(sendable) < len(text):
        logger.warning("the output has {} bytes; it is cut to fit into what Temporal carries", len(encoded))
    return sendable
