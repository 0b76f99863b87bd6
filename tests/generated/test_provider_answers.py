"""What a provider answers, over HTTP and through the unmodified SDKs, is an answer or a failure with a kind."""

import asyncio
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st

from fleet.budgets.worker.limit_headers import limits_in
from fleet.config import load_settings
from fleet.errors import ProviderError
from fleet.execution.recorded_answer import Recorded
from fleet.failures import FailureKind
from fleet.process.metrics import Metrics
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.prices import cost_of
from fleet.providers.registry import provider_factory
from fleet.providers.session import ProviderSession
from tests.generated.inputs import TEXTS, await_each, changed, changed_alike
from tests.generated.raw_server import RawServer, Wire, answer, as_json, raw_server

KEY = "sim-key-12345678"
#: Longer than an answer on loopback takes on a busy machine.
SECONDS = 20.0
#: The good request after every so many inputs.
GOOD_AFTER = 10

USAGE = {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 1}}
GOOD: dict[str, tuple[dict[str, Any], dict[str, Any] | list[dict[str, Any]]]] = {
    "openai": (
        {},
        {
            "id": "resp_1",
            "status": "completed",
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}],
            "usage": USAGE,
        },
    ),
    "openai-chat": (
        {"api": "chat"},
        {
            "id": "chatcmpl-1",
            "model": "gpt-4o",
            "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}},
        },
    ),
    "anthropic": (
        {},
        [
            {
                "type": "message_start",
                "message": {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-sonnet-4-6",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 5, "output_tokens": 1, "service_tier": "standard"},
                },
            },
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 7},
            },
            {"type": "message_stop"},
        ],
    ),
    "gemini": (
        {},
        {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12},
            "modelVersion": "gemini-2.5-flash",
        },
    ),
    "gemini-background": (
        {"background": True},
        {
            "id": "int_1",
            "status": "completed",
            "model": "gemini-2.5-flash",
            "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Hello."}]}],
            "usage": {"total_input_tokens": 5, "total_output_tokens": 7, "total_cached_tokens": 1},
        },
    ),
}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-flash"}
ENTRIES = {
    "openai": "OpenAI's answers",
    "openai-chat": "OpenAI's chat answers",
    "anthropic": "Anthropic's streams",
    "gemini": "Gemini's answers",
    "gemini-background": "Gemini's interactions",
}
ERROR = {
    "error": {
        "type": "rate_limit_error",
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "Slow down.",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "46s"}],
    }
}
STATUSES = st.sampled_from(
    [200, 200, 200, 201, 204, 302, 304, 400, 401, 402, 403, 404, 413, 429, 500, 503, 529, 599]
)
HEADER_NAMES = [
    "Retry-After",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-tokens-remaining",
    "Date",
    "x-should-retry",
    "Location",
    "Content-Encoding",
    "Set-Cookie",
    "x-simulator",
]
HEADER_VALUES = TEXTS | st.sampled_from(
    [
        "0",
        "1",
        "1e308",
        "inf",
        "6m0s",
        "12ms",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "2026-99-99T00:00:00Z",
        "gzip, gzip",
    ]
)
CONTENT_TYPES = st.sampled_from(
    ["application/json"] * 6
    + [
        "",
        "text/html",
        "text/event-stream",
        "application/json; charset=base64",
        "text/plain; charset=utf-16",
        "a/b;;",
    ]
)
KINDS_OF_SENDING = st.sampled_from(["whole"] * 6 + ["gzip", "chunked", "half", "until-close"])


def events(body: Any) -> bytes:
    """Server-sent events as Anthropic names them; anything but a list of objects is one event."""
    lines = []
    for event in body if isinstance(body, list) else [body]:
        name = event.get("type") if isinstance(event, dict) else None
        lines.append(f"event: {name if isinstance(name, str) else 'x'}\ndata: {json.dumps(event)}\n\n")
    return "".join(lines).encode("utf-8", "replace")


@st.composite
def answers(draw: st.DrawFn, case: str) -> Wire:
    """The good answer with changes, an error with changes, or bytes, with any headers and cut off anywhere."""
    # Half of them are sent as a provider sends an answer, so that it is their content that is read.
    well_sent = draw(st.booleans())
    good, status = GOOD[case][1], 200 if well_sent else draw(STATUSES)
    body = draw(changed_alike(good) if well_sent else changed(ERROR if status >= 300 else good))
    encoded = events(body) if case == "anthropic" and status < 300 else as_json(body)
    if not well_sent and draw(st.integers(0, 9)) == 0:
        encoded = draw(st.binary(max_size=60) | st.just(b"[" * 5_000) | st.just(b'{"a":' * 5_000))
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_VALUES), max_size=3))
    lines = [f"{name}: {value}" for name, value in headers if value.isprintable()]
    wanted = "text/event-stream" if case == "anthropic" and status < 300 else "application/json"
    content_type = "application/json" if well_sent else draw(CONTENT_TYPES)
    return answer(
        encoded,
        *lines,
        status=f"HTTP/1.1 {status} X",
        content_type=wanted if content_type == "application/json" else content_type,
        kind="whole" if well_sent else draw(KINDS_OF_SENDING),
    )


def known(case: str) -> list[Wire]:
    """What has failed a call in another way than by a failure with a kind, or the calls after it."""
    found = [
        answer(b"\0", content_type="application/json; charset=base64"),
        answer(as_json(GOOD[case][1]), content_type="application/json; charset=base64"),
        answer(as_json(ERROR), "Set-Cookie: a=á", status="HTTP/1.1 500 X"),
        answer(b"[" * 100_000),
        replace(good_answer(case), data=good_answer(case).data.replace(b"Hello.", rb"\ud800")),
    ]
    if case == "anthropic":
        good = GOOD[case][1]
        assert isinstance(good, list)
        start, delta = good[0], good[3]
        odd = [
            good[1:],
            [start, delta],
            [start, delta | {"index": "0"}],
            [start, start | {"message": None}],
            ["x"],
        ]
        odd += [
            [start, good[5] | {"usage": None}],
            [start, good[2], delta | {"delta": {"type": "text_delta"}}],
            [5],
        ]
        found += [answer(events(body), content_type="text/event-stream") for body in odd]
    return found


def good_answer(case: str) -> Wire:
    body = GOOD[case][1]
    if case == "anthropic":
        return answer(events(body), content_type="text/event-stream")
    return answer(as_json(body))


class Caller:
    """One session of one adapter, as a worker process has it, in front of a server."""

    def __init__(self, case: str, server: RawServer) -> None:
        self.case, self.server = case, server
        name = case.partition("-")[0]
        path = "/v1" if name == "openai" else ""
        section = {"base_url": f"{server.address}{path}"} | GOOD[case][0]
        settings = load_settings(api_base_url="http://localhost:1", providers={name: section})
        self.provider: ProviderSettings = settings.provider(name)
        self.model = MODELS[name]
        self.session = ProviderSession(self.provider, provider_factory(self.provider), self._key, Metrics())
        self.inputs = 0

    async def _key(self, fresh: bool) -> str:
        return KEY

    async def call(self) -> LlmAnswer:
        async def started(response_id: str) -> None:
            pass

        request = LlmRequest(self.model, "You write.", "Write.", 0.7, None, 400, "fleet-1")
        async with asyncio.timeout(SECONDS):
            return await self.session.complete(
                request, timeout_seconds=SECONDS, resume_handle=ResumeHandle(None, started)
            )

    async def check(self, wire: Wire) -> bool:
        """An answer that everything after the call can use, or a failure of the fleet's own; every so often the
        same client makes a good call. Says whether the answer is used."""
        self.server.answer = wire
        used = False
        try:
            self.used(await self.call())
            used = True
        except ProviderError as error:
            self.failed(error)
        self.inputs += 1
        if self.inputs % GOOD_AFTER == 0:
            await self.check_good()
        return used

    async def check_good(self) -> None:
        self.server.answer = good_answer(self.case)
        assert (await self.call()).text == "Hello."

    def used(self, given: LlmAnswer) -> None:
        assert given.text.strip()
        given.text.encode()
        assert all(count >= 0 for count in (given.input_tokens, given.output_tokens, given.cached_input_tokens))
        kept = Recorded(given)
        assert Recorded.from_json(kept.to_json(), 0).answer.text == given.text
        cost = cost_of(self.provider, self.model, given)
        assert cost.usd is None or 0 <= cost.usd < float("inf")
        limits_in(given.headers)

    def failed(self, error: ProviderError) -> None:
        assert len(error.message.splitlines()) == 1 and "Remedy: " in error.message and KEY not in error.message
        assert error.wait_seconds is None or 0 <= error.wait_seconds <= 7 * 86_400
        limits_in(error.headers)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.mark.parametrize("case", GOOD)
def test_any_answer_of_a_provider_is_used_or_is_a_failure_with_a_kind(case: str, runner: asyncio.Runner) -> None:
    serving = raw_server()
    server = runner.run(serving.__aenter__())
    caller = Caller(case, server)
    try:
        await_each(ENTRIES[case], answers(case), caller.check, runner, known(case), min_share=0.1)
        runner.run(caller.check_good())
    finally:
        runner.run(caller.session.close())
        runner.run(serving.__aexit__(None, None, None))


@pytest.mark.parametrize("case", GOOD)
def test_an_error_is_understood_whatever_charset_it_names(case: str, runner: asyncio.Runner) -> None:
    serving = raw_server()
    server = runner.run(serving.__aenter__())
    caller = Caller(case, server)
    content_type = "application/json; charset=base64"
    server.answer = answer(as_json(ERROR), status="HTTP/1.1 429 X", content_type=content_type)
    try:
        with pytest.raises(ProviderError) as raised:
            runner.run(caller.call())
        assert raised.value.status == 429 and raised.value.traits.limit
    finally:
        runner.run(caller.session.close())
        runner.run(serving.__aexit__(None, None, None))


@cache
def bomb() -> bytes:
    """A hundred kilobytes that are a text of a hundred megabytes."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(
        [packer.compress(b'{"a": "'), *(packer.compress(b"a" * 10_000_000) for _ in range(10)), packer.flush()]
    )


@pytest.mark.parametrize("case", GOOD)
def test_an_answer_that_is_larger_than_any_is_not_read_to_its_end(case: str, runner: asyncio.Runner) -> None:
    serving = raw_server()
    server = runner.run(serving.__aenter__())
    caller = Caller(case, server)
    try:
        content_type = "text/event-stream" if case == "anthropic" else "application/json"
        server.answer = answer(bomb(), "Content-Encoding: gzip", content_type=content_type)
        with pytest.raises(ProviderError) as raised:
            runner.run(caller.call())
        assert raised.value.failure_kind is FailureKind.UNUSABLE_BODY and "larger" in raised.value.message
        runner.run(caller.check_good())
    finally:
        runner.run(caller.session.close())
        runner.run(serving.__aexit__(None, None, None))
