"""An answer as the journal keeps it."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from fleet.providers.base import LlmAnswer

_BILLED = "fleet-billed"


@dataclass(frozen=True)
class Recorded:
    """``attempts`` is the number of calls that the answer took, ``maybe_paid`` how many earlier ones were or may
    have been paid, ``seconds`` how long the answered one took and ``started`` when it was sent (ISO 8601, UTC)."""

    answer: LlmAnswer
    started: str = ""
    seconds: float = 0.0
    attempts: int = 1
    maybe_paid: int = 0

    def to_json(self) -> str:
        """For the journal. Headers are not kept: the budget has read them, and there may be cookies among them.

        0.1.0 takes no field that it does not know, and makes nothing of a header that it does not: what came later
        stands among these.
        """
        values = asdict(self)
        billed = values["answer"].pop("billed")
        values["answer"]["headers"] = {_BILLED: json.dumps(billed)} if billed else {}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, maybe_paid: int) -> "Recorded":
        """From the journal. During a roll two releases share it, so unknown fields are ignored."""
        values = json.loads(text)
        billed = values["answer"].pop("headers", {}).get(_BILLED, "{}")
        answer = LlmAnswer(**(_known(LlmAnswer, values["answer"]) | {"billed": json.loads(billed)}))
        return cls(**(_known(cls, values) | {"answer": answer, "maybe_paid": maybe_paid}))


def _known(kind: type[LlmAnswer | Recorded], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
