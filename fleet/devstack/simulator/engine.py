"""What happens to a call, whichever provider it is for: ledger, fault, limit, latency, answer."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from fleet.devstack.simulator import answer_text as writer
from fleet.devstack.simulator.calls import Answer, Call, Entry, Ledger, Refusal
from fleet.devstack.simulator.faults import BROKEN, REFUSALS, Fault, Faults
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.limits import Charging, Kind, Limits, OverLimit, Reading
from fleet.devstack.simulator.partial_answers import Dripping, Nothing, Truncated
from fleet.devstack.simulator.transports import reset

CLIENT_GONE = 499
#: Faults of the answer's text alone.
_OF_TEXT = ("refusal", "length", "empty", "broken_json")
#: Any key is taken but one that contains this.
REVOKED = "revoked"
_HTML = "<!DOCTYPE html><html><body><h1>Welcome</h1><p>[SIMULATOR] This is not the API.</p></body></html>"
_LONGEST_HANG_SECONDS = 3600.0


#: Starts a call's work in the background.
Start = Callable[[Call, Answer, Entry], None]


@dataclass(frozen=True, slots=True)
class Wire:
    """How one API puts things; see the modules of ``wires``."""

    rate_headers: Callable[[Mapping[Kind, Reading]], dict[str, str]]
    over_limit: Callable[[Call, OverLimit], Refusal]
    refusal: Callable[[str, Call, float | None, str], Refusal]
    body: Callable[[Call, Answer, str], dict[str, Any]]
    events: Callable[[Call, Answer, str], list[bytes]]
    request_id_header: str = "x-request-id"


class Engine:
    """The state that all calls share. ``charging_of`` finds a provider's vendor."""

    def __init__(
        self, charging_of: Callable[[str], Charging], seed: int = 1, latency: Latency | None = None
    ) -> None:
        self.seed = seed
        self._latency = latency or Latency()
        self.ledger = Ledger()
        self.limits = Limits(charging_of)
        self.faults = Faults()
        self.latencies: dict[str, Latency] = {}
        self.calls = 0
        self.overhead_seconds = 0.0

    def latency_of(self, provider: str) -> Latency:
        """The provider's latency; a provider that was not configured has the default."""
        return self.latencies.get(provider, self._latency)

    async def serve(self, wire: Wire, call: Call, request: Request, start: Start | None = None) -> Response:
        """Answer one call, or fail it as scripted or as the limits demand.

        With ``start`` the work goes on in the background: ``wire.body`` is then the answer to the request for it.
        """
        began = time.perf_counter()
        self.calls += 1
        entry = self.ledger.open(call)
        chance = random.Random(call.seed(self.seed) + self.calls)
        try:
            if REVOKED in call.key:
                raise wire.refusal("revoked_key", call, None, "none")
            fault = self.faults.take(call, chance)
            if fault is not None and fault.kind in REFUSALS:
                raise wire.refusal(fault.kind, call, fault.retry_after, fault.form)
            self._admit(wire, call)
            answer = self._write(call, fault)
            body = wire.body(call, answer, entry.id)
            headers = self._headers(wire, call, entry)
        except Refusal as refused:
            entry.end(refused.status, "rejected")
            headers = self._headers(wire, call, entry) | refused.headers
            return JSONResponse(refused.body, refused.status, headers)
        finally:
            self.overhead_seconds += time.perf_counter() - began
        if fault is not None and fault.kind in BROKEN:
            return await self._break(fault, call, body, request, entry, headers)
        if start is not None and (fault is None or fault.kind in _OF_TEXT):
            start(call, answer, entry)
            return Response(encoded(body), media_type="application/json", headers=headers)
        if call.stream and (fault is None or fault.kind in _OF_TEXT):
            chunks = self._spread(call, answer, wire.events(call, answer, entry.id), entry)
            return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
        if await gone_within(request, answer.seconds):
            entry.end(CLIENT_GONE, "client_gone")
            return Nothing()
        return self._whole(fault, call, answer, body, request, entry, headers)

    def _admit(self, wire: Wire, call: Call) -> None:
        try:
            self.limits.admit(call)
        except OverLimit as over:
            raise wire.over_limit(call, over) from None

    def _write(self, call: Call, fault: Fault | None) -> Answer:
        latency = self.latency_of(call.provider)
        if fault is not None and fault.kind == "refusal":
            return writer.refusing(call, latency, self.seed)
        answer = writer.write_answer(call, latency, self.seed)
        if fault is not None and fault.kind == "length":
            return writer.cut_short(answer)
        if fault is not None and fault.kind == "broken_json":
            return writer.not_matching(answer)
        if fault is not None and fault.kind == "empty":
            return Answer("", "stop", 0, answer.seconds)
        return answer

    def _headers(self, wire: Wire, call: Call, entry: Entry) -> dict[str, str]:
        return {wire.request_id_header: f"req_{entry.id}"} | wire.rate_headers(self.limits.readings(call))

    def finish(self, call: Call, answer: Answer, entry: Entry, fault: Fault | None = None) -> None:
        """The call was answered in full."""
        self.limits.settle(call, answer.output_tokens)
        outcome = "answered" if fault is None else f"fault:{fault.kind}"
        entry.end(200, outcome, answer.output_tokens)

    def _whole(
        self,
        fault: Fault | None,
        call: Call,
        answer: Answer,
        body: Mapping[str, Any],
        request: Request,
        entry: Entry,
        headers: dict[str, str],
    ) -> Response:
        """An answer in one piece; ``html``, ``empty_json`` and ``redirect`` put something else there."""
        if fault is not None and fault.kind == "redirect":
            entry.end(307, "fault:redirect")
            return RedirectResponse(f"http://localhost:{request.url.port}/elsewhere", 307)
        self.finish(call, answer, entry, fault)
        if fault is not None and fault.kind == "html":
            return Response(_HTML, media_type="text/html", headers=headers)
        content = b"{}" if fault is not None and fault.kind == "empty_json" else encoded(body)
        return Response(content, media_type="application/json", headers=headers)

    async def _break(
        self,
        fault: Fault,
        call: Call,
        body: Mapping[str, Any],
        request: Request,
        entry: Entry,
        headers: dict[str, str],
    ) -> Response:
        """What never arrives whole."""
        outcome = f"fault:{fault.kind}"
        if fault.kind == "hang":
            await gone_within(request, _LONGEST_HANG_SECONDS)
            entry.end(CLIENT_GONE, outcome)
            return Nothing()
        if fault.kind == "reset":
            entry.end(0, outcome)
            reset(request)
            return Nothing()
        kind = Truncated if fault.kind == "truncate" else Dripping
        media_type = "text/event-stream" if call.stream else "application/json"
        return kind(encoded(body), headers | {"content-type": media_type}, request, entry, outcome)

    async def _spread(self, call: Call, answer: Answer, events: list[bytes], entry: Entry) -> AsyncIterator[bytes]:
        """A stream's events over the time that the answer takes."""
        try:
            for event in events:
                await asyncio.sleep(answer.seconds / len(events))
                yield event
            self.finish(call, answer, entry)
        finally:
            entry.end(CLIENT_GONE, "client_gone")


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON; half of a surrogate pair in an excerpt becomes a question mark."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


async def body_of(request: Request) -> Any:
    """A request's body, None where it is not JSON."""
    try:
        return json.loads(await request.body())
    except (ValueError, UnicodeDecodeError):
        return None


async def gone_within(request: Request, seconds: float) -> bool:
    """Wait that long; whether the client closed the connection meanwhile."""
    if seconds <= 0:
        return False
    message = asyncio.ensure_future(request.receive())
    done, _ = await asyncio.wait({message}, timeout=seconds)
    if not done:
        message.cancel()
    return bool(done)
