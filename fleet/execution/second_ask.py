"""An answer that does not match its schema is asked for once more, with what was wrong.

The second call is a call of its own: recorded in the journal under its own key, since it asks for something else,
and paid. The first answer stays in the journal, so after a kill neither of the two is sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from loguru import logger

from fleet.errors import HeldBack, OutputBroken
from fleet.execution.attempts import seconds_used
from fleet.execution.call_runner import Call
from fleet.execution.recorded_answer import Recorded
from fleet.pipeline.structured_outputs import answer_problem
from fleet.providers.base import LlmRequest

_QUOTED_CHARACTERS = 8_000

Run = Callable[[Call], Awaitable[Recorded]]
Note = Callable[[Recorded, int], None]


async def answer_that_matches(
    assistant: str,
    to_make: Callable[[LlmRequest], Call],
    request: LlmRequest,
    run: Run,
    note_in_vain: Note,
    late_seconds: float,
) -> Recorded:
    """The recorded answer to a request, or to the second one if the first answer does not match its schema.

    ``note_in_vain`` gets each answer that does not match, and its number. After ``late_seconds`` of an attempt the
    second call is left to the next one, which has all the time of an attempt and finds the first answer in the
    journal.

    Raises:
        OutputBroken: neither matches, or by policy a paid call is not made again.
        FleetError: what ``run`` raises.
    """
    first = await run(to_make(request))
    problem = await _problem(first, request)
    if problem is None:
        return first
    note_in_vain(first, 1)
    if not to_make(request).send_ambiguous:
        raise _broken(assistant, request, problem, "by policy (on_ambiguous) it is not asked again", first)
    if seconds_used() > late_seconds:
        raise HeldBack(0.0, f"{assistant}: the second call is made in an attempt of its own")
    logger.warning("{}: the answer does not match output_schema at {}; asking again", assistant, problem)
    again = replace(request, user_message=_with_problem(request, first.answer.text, problem))
    second = await run(to_make(again))
    problem = await _problem(second, request)
    if problem is None:
        return second
    note_in_vain(second, 2)
    raise _broken(assistant, request, problem, "it was asked for twice", second)


async def _problem(recorded: Recorded, request: LlmRequest) -> str | None:
    if request.output_schema is None:
        return None
    return await asyncio.to_thread(answer_problem, recorded.answer.text, request.output_schema)


def _with_problem(request: LlmRequest, answer: str, problem: str) -> str:
    parts = (
        request.user_message,
        f"## Your last answer\n\n{answer[:_QUOTED_CHARACTERS]}",
        f"## What is wrong with it\n\nIt does not match the JSON Schema at {problem}",
        "Answer again, with the whole JSON and nothing else.",
    )
    return "\n\n".join(parts)


def _broken(assistant: str, request: LlmRequest, problem: str, how_often: str, last: Recorded) -> OutputBroken:
    error = OutputBroken(
        f"{assistant}: the answer of {request.model} does not match output_schema at {problem}; {how_often}. "
        "Remedy: say in the prompt what belongs there, loosen the schema at that place, raise max_tokens if the "
        "answer was cut off, or take another model"
    )
    error.last_asked = last.started
    return error
