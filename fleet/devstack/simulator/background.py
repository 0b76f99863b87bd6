"""Calls in the background, OpenAI's responses and Gemini's interactions: made by one request, fetched by more."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet.devstack.simulator.calls import Answer, Call, Entry, Refusal
from fleet.devstack.simulator.engine import REVOKED, Engine, Wire


@dataclass(frozen=True, slots=True)
class Form:
    """How one API puts such calls: ``wire`` for the request that makes one, the rest for those that follow."""

    wire: Wire
    key_of: Callable[[Request], str]
    shown: Callable[[Call, Answer, str, str | None], dict[str, Any]]
    not_found: Callable[[str], Refusal]
    deleted: Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Made:
    call: Call
    answer: Answer
    entry: Entry
    work: asyncio.Task[None]


class Backgrounds:
    """The calls of one API that run or ran in the background, by id."""

    def __init__(self, engine: Engine, form: Form) -> None:
        self._engine = engine
        self._form = form
        self._made: dict[str, _Made] = {}

    async def start(self, call: Call, request: Request) -> Response:
        """Take a call in; its work goes on after the answer."""
        return await self._engine.serve(self._form.wire, call, request, self._begin)

    def _begin(self, call: Call, answer: Answer, entry: Entry) -> None:
        work = asyncio.create_task(self._work(call, answer, entry))
        number = self._form.wire.body(call, answer, entry.id)["id"]
        self._made[number] = _Made(call, answer, entry, work)

    async def _work(self, call: Call, answer: Answer, entry: Entry) -> None:
        await asyncio.sleep(answer.seconds)
        self._engine.finish(call, answer, entry)

    async def show(self, request: Request) -> Response:
        """``GET …/{id}``."""
        made = self._find(request)
        running = made.entry.outcome == "in_flight"
        status = "in_progress" if running else "cancelled" if made.work.cancelled() else None
        return JSONResponse(self._form.shown(made.call, made.answer, made.entry.id, status))

    async def cancel(self, request: Request) -> Response:
        """``POST …/{id}/cancel``."""
        made = self._find(request)
        made.work.cancel()
        await asyncio.wait({made.work})
        made.entry.end(200, "cancelled")
        return await self.show(request)

    async def delete(self, request: Request) -> Response:
        """``DELETE …/{id}``; its work goes on unseen."""
        self._find(request)
        number = request.path_params["id"]
        del self._made[number]
        return JSONResponse(self._form.deleted(number))

    def _find(self, request: Request) -> _Made:
        key, number = self._form.key_of(request), request.path_params["id"]
        made = self._made.get(number)
        if made is None:
            raise self._form.not_found(number)
        if REVOKED in key:
            raise self._form.wire.refusal("revoked_key", made.call, None, "none")
        return made


def wants_background(body: object) -> bool:
    """Whether a request asks for it."""
    return isinstance(body, dict) and body.get("background") is True
