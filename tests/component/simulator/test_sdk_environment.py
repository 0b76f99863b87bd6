"""A variable of the environment changes neither where a call goes nor what it carries, unless settings name it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.config import load_settings
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.devstack.simulator.transports import ReachableProtocol
from fleet.devstack.simulator.vendors import vendor_of
from fleet.devstack.threaded_server import served
from fleet.errors import ProviderError
from fleet.providers.base import LlmRequest, ResumeHandle
from fleet.providers.registry import provider_factory

KEY = "sim-key-12345678"
#: Model and further settings of each case.
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "openai": ("gpt-4o", {}),
    "openai-chat": ("gpt-4o", {"api": "chat"}),
    "anthropic": ("claude-sonnet-4-6", {}),
    "gemini": ("gemini-2.5-flash", {}),
    "gemini-background": ("gemini-2.5-flash", {"background": True}),
}
#: What other programs and mischief leave behind; ELSEWHERE is the address of another server.
LEFT_BEHIND = {
    "OPENAI_BASE_URL": "ELSEWHERE/v1",
    "OPENAI_API_KEY": "stolen-key",
    "OPENAI_ADMIN_KEY": "stolen-key",
    "OPENAI_ORG_ID": "org-other",
    "OPENAI_PROJECT_ID": "proj-other",
    "OPENAI_CUSTOM_HEADERS": "X-Left-Behind: 1",
    "ANTHROPIC_BASE_URL": "ELSEWHERE",
    "ANTHROPIC_API_KEY": "stolen-key",
    "ANTHROPIC_AUTH_TOKEN": "stolen-key",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Left-Behind: 1",
    "ANTHROPIC_PROFILE": "other",
    "GOOGLE_GEMINI_BASE_URL": "ELSEWHERE",
    "GOOGLE_API_KEY": "stolen-key",
    "GEMINI_API_KEY": "stolen-key",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_API_VERSION": "v9",
    "GOOGLE_GENAI_USER_PROJECT": "proj-other",
    "GOOGLE_GENAI_DEFAULT_HEADERS": '{"X-Left-Behind": "1"}',
    "GOOGLE_GENAI_CLIENT_MODE": "replay",
    "GOOGLE_GENAI_REPLAY_ID": "left/behind",
    "GOOGLE_CLOUD_PROJECT": "proj-other",
    "GOOGLE_CLOUD_LOCATION": "elsewhere",
    "HTTP_PROXY": "ELSEWHERE",
    "http_proxy": "ELSEWHERE",
    "ALL_PROXY": "ELSEWHERE",
}

Headers = dict[str, str]


@contextmanager
def recording_simulator() -> Iterator[tuple[RunningSimulator, list[Headers]]]:
    """A simulator, and the headers and the ``:target`` of each request to it."""
    inner, seen = create_app(Engine(vendor_of, 1, Latency(0.0, 0.0, 0.0))), list[Headers]()

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            heard = {name.decode(): value.decode() for name, value in scope["headers"]}
            seen.append(heard | {":target": scope["path"]})
        await inner(scope, receive, send)

    app: ASGIApp = recorded
    with served(app, http=ReachableProtocol) as base_url:
        yield RunningSimulator(base_url), seen


@pytest.fixture
def intended() -> Iterator[tuple[RunningSimulator, list[Headers]]]:
    with recording_simulator() as simulator:
        yield simulator


@pytest.fixture
def elsewhere() -> Iterator[tuple[RunningSimulator, list[Headers]]]:
    with recording_simulator() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def no_exception_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def call(case: str, simulator: RunningSimulator, *sdk_variables: str) -> None:
    model, further = CASES[case]
    name = case.partition("-")[0]
    section = {"base_url": simulator.provider_url(name)} | further
    settings = load_settings(api_base_url="http://localhost:1", providers={name: section}).provider(name)
    client = provider_factory(settings, sdk_variables)(KEY)

    async def started(response_id: str) -> None:
        pass

    try:
        request = LlmRequest(model, "You write.", "Write.", 0.7, None, 400, "fleet-1")
        await client.complete(request, timeout_seconds=20, resume_handle=ResumeHandle(None, started))
    finally:
        await client.close()


def comparable(headers: Headers) -> Headers:
    """Without what differs from call to call and from port to port."""
    varying = ("host", "content-length", "x-stainless-read-timeout", "x-stainless-retry-count", "user-agent")
    return {name: value for name, value in headers.items() if name not in varying and "trace" not in name}


@pytest.mark.parametrize("case", CASES)
async def test_what_other_programs_left_behind_changes_nothing(
    case: str,
    intended: tuple[RunningSimulator, list[Headers]],
    elsewhere: tuple[RunningSimulator, list[Headers]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator, seen = intended
    await call(case, simulator)
    for name, value in LEFT_BEHIND.items():
        monkeypatch.setenv(name, value.replace("ELSEWHERE", elsewhere[0].base_url))
    await call(case, simulator)
    clean, hostile = (comparable(headers) for headers in (seen[0], seen[-1]))
    assert len(seen) == 2 and hostile == clean
    assert KEY in " ".join(hostile.values()) and elsewhere[1] == []


@pytest.mark.parametrize(
    ("case", "variable", "value", "header"),
    [
        ("openai", "OPENAI_ORG_ID", "org-ours", "openai-organization"),
        ("anthropic", "ANTHROPIC_CUSTOM_HEADERS", "X-Team: ours", "x-team"),
    ],
)
async def test_a_variable_that_the_settings_name_reaches_the_sdk(
    case: str,
    variable: str,
    value: str,
    header: str,
    intended: tuple[RunningSimulator, list[Headers]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    await call(case, intended[0], variable)
    assert intended[1][0][header] in value


@pytest.mark.parametrize("case", ["openai", "anthropic", "gemini"])
async def test_a_proxy_that_the_settings_name_is_used(
    case: str,
    intended: tuple[RunningSimulator, list[Headers]],
    elsewhere: tuple[RunningSimulator, list[Headers]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", elsewhere[0].base_url)
    with suppress(ProviderError):  # the other server is no proxy, and does not find what it is asked for
        await call(case, intended[0], "HTTP_PROXY")
    assert intended[1] == [] and len(elsewhere[1]) == 1
