"""Calls that continue at the provider when their process dies, for any provider.

One request starts such a call and returns its id; further requests poll it until it is done. The next process
picks it up by that id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loguru import logger

from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import ResumeHandle
from fleet.providers.response_bodies import text_in

FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.5, 5.0
# Refusals in a row after which polling is useless: the key may start calls and not read them.
_FORBIDDEN_LOOKS = 3
#: The statuses, the same at OpenAI and Gemini, of a call that continues, and of one that failed.
GOING_ON, FAILED = ("queued", "in_progress"), ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Shown:
    """A call as the provider returns it: its JSON, with ``id`` and ``status``, and the answer's headers."""

    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        """Its status, as the provider names it."""
        return text_in(self.body, "status")


#: Starts a call.
Begin = Callable[[], Awaitable[Shown]]
#: Polls the call with that id.
Look = Callable[[str], Awaitable[Shown]]


async def carried_out(resume_handle: ResumeHandle, begin: Begin, look: Look) -> Shown:
    """Start a call, or pick up the one that the resume handle names, and poll it until it is done, successful or
    not.

    A failed poll says nothing about the call itself: polling continues until the caller's deadline, unless the
    provider forbids it several times in a row.

    Raises:
        ProviderError: the call could not be started; polling is useless until an operator acts (the call
            ``goes_on``); or the provider no longer has the call.
    """
    shown: Shown | None = None
    wait = 0.0
    forbidden = 0
    if resume_handle.response_id is None:
        shown = await begin()
        await resume_handle.begun(text_in(shown.body, "id"))
        wait = FIRST_LOOK_SECONDS
    while shown is None or shown.status in GOING_ON:
        await asyncio.sleep(wait)
        wait = min(max(wait * 1.5, FIRST_LOOK_SECONDS), LONGEST_LOOK_SECONDS)
        try:
            shown = await look(resume_handle.response_id or "")
            forbidden = 0
        except ProviderError as failure:
            shown = None
            forbidden = forbidden + 1 if failure.failure_kind is FailureKind.FORBIDDEN else 0
            useless = forbidden >= _FORBIDDEN_LOOKS
            wait = max(wait, await _wait_after(failure, resume_handle, useless=useless))
    if shown.status in FAILED:
        await resume_handle.gone()  # the next attempt starts another call
    return shown


async def _wait_after(failure: ProviderError, resume_handle: ResumeHandle, *, useless: bool) -> float:
    """Seconds that the provider asks to wait after a failed poll; ``useless``: it would not be answered later
    either."""
    if failure.failure_kind is FailureKind.NOT_FOUND:
        detail = f"call {resume_handle.response_id} was started and no longer exists"
        await resume_handle.gone()
        raise ProviderError(FailureKind.LOST_AFTER_SENDING, failure.provider, detail) from failure
    if failure.traits.parks or failure.traits.holds_model or useless:
        failure.goes_on = True
        raise failure
    logger.debug("looking at call {} failed: {}", resume_handle.response_id, failure)
    return failure.wait_seconds or 0.0
