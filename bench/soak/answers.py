"""Calls that were sent again although they had been answered."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: From an answer's leaving the simulator to its being on the disk, at the longest. Measured on two cores under a
#: load of twelve: 12 ms in the median, 0.85 s for the slowest of a hundred.
ANSWER_SECONDS = 2.0
_BUSY_SECONDS = 30.0

#: A call by its pipeline's id and its assistant's functionKey, which are what journal and results have in common.
CallId = tuple[str, str]


@dataclass(frozen=True)
class Kill:
    """A process killed at a moment (unix seconds); ``open_calls`` are those that it had sent and that had no
    answer in the journal when it was gone."""

    process: str
    at: float
    open_calls: frozenset[CallId] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Told:
    """What a pipeline's result says of a call; ``maybe_twice``: how often it may have been paid beside."""

    call: CallId
    maybe_twice: int


@dataclass(frozen=True)
class SentAgain:
    """How many calls were sent after an earlier one for the same thing had been answered."""

    answered: int = 0
    cut_off_in_the_answer: int = 0


def sent_again(calls: Iterable[dict[str, Any]], kills: Iterable[Kill], told: Mapping[str, Told]) -> SentAgain:
    """Count them in the simulator's ledger; ``told`` is by its idempotency keys.

    The ledger calls an answer ``answered`` before it writes the first byte, whether or not anybody still reads.
    So an answer counts as one that reached the host, unless all of this holds: the process that had sent the call
    was killed; it had no answer in the journal when it was gone; the answer left after the kill, or at most
    ``ANSWER_SECONDS`` before it; and the pipeline's result says that the call may have been paid twice. Those are
    reported apart, as cut off in the answer: nobody on the host could have kept them.
    """
    of_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        if call["idempotency_key"]:
            of_key[call["idempotency_key"]].append(call)
    killed: dict[CallId, list[Kill]] = defaultdict(list)
    for kill in kills:
        for call_id in kill.open_calls:
            killed[call_id].append(kill)
    answered = cut_off = 0
    for key, group in of_key.items():
        said = told.get(key)
        lost = killed[said.call] if said is not None and said.maybe_twice else []
        again = _after_an_answer(sorted(group, key=lambda call: float(call["at"])), lost)
        answered, cut_off = answered + again.answered, cut_off + again.cut_off_in_the_answer
    return SentAgain(answered, cut_off)


def _after_an_answer(group: list[dict[str, Any]], killed: list[Kill]) -> SentAgain:
    reached = lost = False
    answered = cut_off = 0
    for call in group:
        answered += reached
        cut_off += lost and not reached
        if call["outcome"] == "answered":
            in_the_answer = any(_cut_off(call, kill) for kill in killed)
            reached, lost = reached or not in_the_answer, lost or in_the_answer
    return SentAgain(answered, cut_off)


def _cut_off(call: dict[str, Any], kill: Kill) -> bool:
    began, left = float(call["at"]), float(call["at"]) + float(call["seconds"])
    return began <= kill.at <= left + ANSWER_SECONDS


def told_by(workflow_id: str, result: Mapping[str, Any]) -> dict[str, Told]:
    """What a pipeline's result says of its calls, by their idempotency keys."""
    return {
        stage["metadata"]["idempotency_key"]: Told(
            (workflow_id, stage["function_key"]), stage["metadata"]["possibly_paid_twice"]
        )
        for stage in result["stages"]
    }


def open_calls(state: Path, pid: int) -> frozenset[CallId]:
    """The calls that a process has sent and that have no answer in the journals."""
    found: set[CallId] = set()
    for path in state.glob("journal/*.db"):
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            statement = "SELECT workflow_id, function_key FROM calls WHERE state = 'intent' AND pid = ?"
            found.update(connection.execute(statement, (pid,)).fetchall())
    return frozenset(found)
