"""An answer in the form that the journal stores."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from fleet.providers.base import SIMULATOR_HEADER, LlmAnswer

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
        values = asdict(self)
        answer = values["answer"]
        billed, tier = answer.pop("billed"), answer.pop("tier")
        later = {_BILLED: json.dumps(billed) if billed else "", _TIER: tier}
        answer["headers"] = _simulator_header(answer["headers"]) | {
            name: value for name, value in later.items() if value
        }
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, maybe_paid: int) -> "Recorded":
        """From the journal. During a roll two releases share it, so unknown fields are ignored."""
        values = json.loads(text)
        headers = values["answer"].pop("headers", {})
        later = {
            "billed": json.loads(headers.get(_BILLED, "{}")),
            "tier": headers.get(_TIER, ""),
            "headers": _simulator_header(headers),
        }
        answer = LlmAnswer(**(_known(LlmAnswer, values["answer"]) | later))
        return cls(**(_known(cls, values) | {"answer": answer, "maybe_paid": maybe_paid}))


def _simulator_header(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name == SIMULATOR_HEADER}


def _known(kind: type[LlmAnswer | Recorded], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
