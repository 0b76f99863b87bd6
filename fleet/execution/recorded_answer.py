"""An answer in the form that the journal stores."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fleet.providers.base import SIMULATOR_HEADER, FinishReason, LlmAnswer
from fleet.providers.response_bodies import count_in, object_in, text_in

_REASONS: dict[str, FinishReason] = {reason: reason for reason in get_args(FinishReason)}
_LONGEST_SECONDS = 7 * 86_400
_BILLED, _TIER = "fleet-billed", "fleet-tier"


@dataclass(frozen=True)
class Recorded:
    """``attempts`` is the number of attempts that the answer took, ``maybe_paid`` how many earlier calls were or
    may have been paid, ``seconds`` how long the answered call took and ``started`` when it was sent (ISO 8601,
    UTC)."""

    answer: LlmAnswer
    started: str = ""
    seconds: float = 0.0
    attempts: int = 1
    maybe_paid: int = 0

    def to_json(self) -> str:
        """As JSON for the journal. Of the headers only the simulator's is kept: the budget has read the others,
        and there may be cookies among them.

        0.1.0 fails on unknown fields and ignores unknown headers, so newer fields are stored as headers.
        """
        headers = _simulator_header(self.answer.headers)
        values = asdict(replace(self, answer=replace(self.answer, headers=headers)))
        answer = values["answer"]
        billed, tier = answer.pop("billed"), answer.pop("tier")
        later = {_BILLED: json.dumps(billed) if billed else "", _TIER: tier}
        answer["headers"] = headers | {name: value for name, value in later.items() if value}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, maybe_paid: int) -> "Recorded":
        """From the journal. During a roll two releases share it, so unknown fields are ignored. What is there in
        another form than this release's has its default, except the text.

        Raises:
            ValueError: there is no text.
        """
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        answer = object_in(values, "answer") if isinstance(values, dict) else {}
        if not isinstance(answer.get("text"), str):
            raise ValueError("it has no text")
        seconds = values.get("seconds")
        return cls(
            answer=_answer(answer),
            started=text_in(values, "started"),
            seconds=seconds if isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST_SECONDS else 0.0,
            attempts=count_in(values, "attempts") or 1,
            maybe_paid=maybe_paid,
        )


def _answer(values: dict[str, Any]) -> LlmAnswer:
    headers = object_in(values, "headers")
    try:
        billed = json.loads(text_in(headers, _BILLED) or "{}")
    except (ValueError, RecursionError):
        billed = {}
    counts = billed if isinstance(billed, dict) else {}
    return LlmAnswer(
        text=values["text"],
        model=text_in(values, "model"),
        finish_reason=_REASONS.get(text_in(values, "finish_reason"), "other"),
        input_tokens=count_in(values, "input_tokens"),
        output_tokens=count_in(values, "output_tokens"),
        cached_input_tokens=count_in(values, "cached_input_tokens"),
        billed={name: count for name in counts if (count := count_in(counts, name))},
        headers=_simulator_header(headers),
        tier=text_in(headers, _TIER),
    )


def _simulator_header(headers: dict[str, Any]) -> dict[str, str]:
    found = text_in(headers, SIMULATOR_HEADER)
    return {SIMULATOR_HEADER: found} if found else {}
