"""OpenAI's background responses: made by one call, fetched by others."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet.devstack.simulator import openai_wire as openai
from fleet.devstack.simulator.calls import Answer, Call, Entry
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.limits import OverLimit
from fleet.devstack.simulator.writer import write_answer


class Backgrounds:
    """The responses that run or ran in the background, by id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: dict[str, tuple[Call, Answer, Entry, asyncio.Task[None]]] = {}

    def start(self, call: Call) -> Response:
        """Take a call in; its work goes on after the answer."""
        engine = self._engine
        entry = engine.ledger.open(call)
        try:
            engine.limits.admit(call)
        except OverLimit as over:
            refused = openai.over_limit(call, over)
            entry.end(refused.status, "rejected")
            return JSONResponse(refused.body, refused.status, refused.headers)
        answer = write_answer(call, engine.latency_of(call.provider), engine.seed)
        task = asyncio.create_task(self._work(call, answer, entry))
        self._made[f"resp_{entry.id}"] = (call, answer, entry, task)
        return JSONResponse(openai.responses_body(call, answer, entry.id, "queued"))

    async def _work(self, call: Call, answer: Answer, entry: Entry) -> None:
        await asyncio.sleep(answer.seconds)
        self._engine.finish(call, answer, entry)

    def show(self, request: Request) -> Response:
        """``GET /v1/responses/{id}``."""
        call, answer, entry, task = self._find(request)
        running = entry.outcome == "in_flight"
        status = "in_progress" if running else "cancelled" if task.cancelled() else None
        body = openai.responses_body(call, answer, entry.id, status)
        return JSONResponse(body | {"background": True})

    def cancel(self, request: Request) -> Response:
        """``POST /v1/responses/{id}/cancel``."""
        _, _, entry, task = self._find(request)
        task.cancel()
        entry.end(200, "cancelled")
        return self.show(request)

    def _find(self, request: Request) -> tuple[Call, Answer, Entry, asyncio.Task[None]]:
        openai.key_of(request.headers)
        number = request.path_params["id"]
        if number not in self._made:
            raise openai.error(404, f"Response with id '{number}' not found.", "invalid_request_error")
        return self._made[number]


def wants_background(body: object) -> bool:
    """Whether a request asks for it."""
    return isinstance(body, dict) and body.get("background") is True
