"""The backend's client against backends that misbehave, over real HTTP."""

import asyncio
import gc
import re
import shlex
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from fleet.devstack.backend.app import create_app
from fleet.devstack.backend.database import assistants_of, connect, seed_keys, seed_sample
from fleet.devstack.backend.keys import real_key
from fleet.devstack.threaded_server import served
from fleet.errors import ApiKeyMissing, BackendAnswerError, BackendUnavailable, FleetError, ProjectNotFound
from fleet.execution.backend_client import Backend, _Known
from fleet.model_options import OPTIONS

TIMEOUT_SECONDS = 0.5
OPTIONS_AND_SCHEMA = {*OPTIONS, "output_schema", "csv"}


async def _drip() -> AsyncIterator[bytes]:
    for _ in range(1000):
        yield b" "
        await asyncio.sleep(0.05)


async def _flood() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield b"x" * 1_000_000


async def _hang(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        continue
    return Response()


ANSWERS: dict[str, Any] = {
    "error": lambda request: JSONResponse({"detail": "database is gone"}, 500),
    "html": lambda request: HTMLResponse("<html>Welcome to nginx</html>"),
    "object": lambda request: JSONResponse({"assistants": []}),
    "text": lambda request: JSONResponse("Not found"),
    "empty": lambda request: Response(b""),
    "broken": lambda request: Response(b'[{"id": ', media_type="application/json"),
    "deep": lambda request: Response(b"[" * 200_000, media_type="application/json"),
    "redirect": lambda request: RedirectResponse("http://example.invalid/"),
    "denied": lambda request: JSONResponse({"detail": "who are you?"}, 401),
    "drip": lambda request: StreamingResponse(_drip()),
    "flood": lambda request: StreamingResponse(_flood()),
    "hang": _hang,
}
KEYS: dict[str, Any] = {
    "missing": lambda request: JSONResponse({"detail": "no"}, 404),
    "notfound": lambda request: JSONResponse({"api_key": "Not found"}),
    "named": lambda request: JSONResponse({"api_key": "Not found", "variable": "x\nRemedy: `rm -r /`"}),
    "null": lambda request: JSONResponse({"api_key": None}),
    "blank": lambda request: JSONResponse({"api_key": "  "}),
    "list": lambda request: JSONResponse([]),
    "number": lambda request: JSONResponse({"api_key": 7}),
    "newline": lambda request: JSONResponse({"api_key": "sk-abc\ndef"}),
}


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[str]:
    routes = [Route(f"/api/assistant/{name}", answer) for name, answer in ANSWERS.items()]
    routes += [Route(f"/api-keys/{name}", answer) for name, answer in KEYS.items()]
    routes += [Route("/health", ANSWERS["error"])]
    with served(Starlette(routes=routes)) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = tmp_path_factory.mktemp("backend") / "backend.db"
    with closing(connect(database)) as connection:
        seed_sample(connection)
        seed_keys(connection, ["openai"])
    with served(create_app(database)) as base_url:
        yield base_url


EXPECTED = [
    ("error", BackendUnavailable, "HTTP 500"),
    ("html", BackendAnswerError, "text/html that is not JSON"),
    ("object", BackendAnswerError, "answered an object"),
    ("text", BackendAnswerError, "answered a text"),
    ("empty", BackendAnswerError, "not JSON"),
    ("broken", BackendAnswerError, "application/json that is not JSON"),
    ("deep", BackendAnswerError, "not JSON"),
    ("redirect", BackendAnswerError, "HTTP 307"),
    ("denied", BackendAnswerError, "HTTP 401"),
    ("drip", BackendUnavailable, "no complete answer within 0.5 s"),
    ("flood", BackendAnswerError, "more than 10,000,000 bytes"),
    ("hang", BackendUnavailable, "no complete answer within 0.5 s"),
]


@pytest.mark.parametrize(("project", "error", "said"), EXPECTED)
async def test_an_answer_that_is_not_the_contract_is_named_with_a_remedy(
    misbehaving: str, project: str, error: type[FleetError], said: str
) -> None:
    timeout_seconds = TIMEOUT_SECONDS if error is BackendUnavailable else 60.0
    async with Backend(misbehaving, timeout_seconds=timeout_seconds) as backend:
        with pytest.raises(error) as caught:
            await backend.assistants(project)
    assert (said in str(caught.value) and misbehaving in str(caught.value)) or project in ("flood",)
    assert "Remedy:" in str(caught.value)
    assert f"`curl -i {misbehaving}/health`" in str(caught.value) or project == "denied"


@pytest.mark.parametrize(
    ("page", "said", "answered"),
    [
        (JSONResponse({"detail": "Not Found"}, 404), "answered HTTP 404 to /health", "404 Not Found"),
        (
            HTMLResponse("\n<!DOCTYPE html><title>Pages</title>"),
            "answered a web page to /health",
            "<!DOCTYPE html>",
        ),
    ],
)
async def test_a_server_that_is_not_the_backend_is_not_healthy_and_the_remedy_shows_what_answers(
    page: Response, said: str, answered: str
) -> None:
    async def whatever(request: Request) -> Response:
        return page

    with served(Starlette(routes=[Route("/{path:path}", whatever)])) as base_url:
        async with Backend(base_url) as backend:
            with pytest.raises(BackendAnswerError, match=said) as caught:
                await backend.health()
        (command,) = re.findall(r"`(curl [^`]+)`", str(caught.value))
        shown = await asyncio.to_thread(subprocess.run, shlex.split(command), capture_output=True, text=True)
    assert shown.returncode == 0 and answered in shown.stdout


@pytest.mark.parametrize("health", [Response(b""), HTMLResponse("ok"), JSONResponse([])])
async def test_a_backend_may_say_that_it_is_well_in_its_own_words(health: Response) -> None:
    async def well(request: Request) -> Response:
        return health

    with served(Starlette(routes=[Route("/health", well)])) as base_url:
        async with Backend(base_url) as backend:
            assert await backend.health() == {}


KEY_ERRORS = [
    ("missing", ApiKeyMissing, "holds no API key for missing"),
    ("notfound", ApiKeyMissing, "holds no API key"),
    ("null", ApiKeyMissing, "holds no API key"),
    ("blank", ApiKeyMissing, "holds no API key"),
    ("list", BackendAnswerError, "answered a list"),
    ("number", BackendAnswerError, "answered an object"),
    ("newline", BackendAnswerError, "characters that no key has"),
]


@pytest.mark.parametrize(("provider", "error", "said"), KEY_ERRORS)
async def test_a_key_that_is_none_is_never_used(
    misbehaving: str, provider: str, error: type[FleetError], said: str
) -> None:
    async with Backend(misbehaving) as backend:
        with pytest.raises(error) as caught:
            await backend.api_key(provider)
    assert said in str(caught.value) and "sk-abc" not in str(caught.value)


async def test_a_missing_key_of_the_embedded_backend_names_the_variable_to_set(tmp_path: Path) -> None:
    with served(create_app(tmp_path / "backend.db", real_key)) as base_url:
        async with Backend(base_url) as backend:
            with pytest.raises(ApiKeyMissing) as caught:
                await backend.api_key("nokey")
    assert str(caught.value) == (
        f"the backend at {base_url} holds no API key for nokey. Remedy: set NOKEY_API_KEY where the fleet is "
        "started, and start it again; or set FLEET_PROVIDERS__NOKEY__API_KEY_FILE to a file with the key, or "
        "FLEET_PROVIDERS__NOKEY__NEEDS_KEY=false if it wants none"
    )


@pytest.mark.parametrize("provider", ["missing", "notfound", "named"])
async def test_a_missing_key_of_another_backend_names_where_it_is_stored(misbehaving: str, provider: str) -> None:
    async with Backend(misbehaving) as backend:
        with pytest.raises(ApiKeyMissing) as caught:
            await backend.api_key(provider)
    assert f"Remedy: store one there under api-keys/{provider}; or set FLEET_PROVIDERS__" in str(caught.value)


async def test_a_backend_that_is_away_or_ill_is_worth_waiting_for(misbehaving: str) -> None:
    for base_url in ("http://127.0.0.1:9", misbehaving):
        async with Backend(base_url) as backend:
            with pytest.raises(BackendUnavailable) as caught:
                await backend.health()
        assert caught.value.retryable and f"`curl -i {base_url}/health`" in str(caught.value)


async def test_the_sample_project_is_there_and_others_are_not(sample: str) -> None:
    async with Backend(sample) as backend:
        await backend.health()
        assistants = await backend.assistants("seo-demo")
        assert len(assistants) == 8 and assistants[0]["functionKey"] == "brief_assistant"
        assert "input_keys" not in (await backend.assistants("seo-classic"))[0]
        with pytest.raises(ProjectNotFound, match="'nobody' does not exist"):
            await backend.assistants("nobody")


@contextmanager
def serving_keys(answers: dict[str, JSONResponse], otherwise: JSONResponse) -> Iterator[str]:
    """A backend that gives these answers as long as they stand there."""

    def key(request: Request) -> JSONResponse:
        return answers.get(request.path_params["provider"], otherwise)

    with served(Starlette(routes=[Route("/api-keys/{provider}", key)])) as base_url:
        yield base_url


async def test_a_known_key_serves_while_the_backend_is_away() -> None:
    now, answers = [0.0], {"openai": JSONResponse({"api_key": "key"})}
    away = JSONResponse({"detail": "database is gone"}, 503)
    with serving_keys(answers, away) as base_url:
        async with Backend(base_url, key_cache_seconds=60, clock=lambda: now[0]) as backend:
            assert await backend.api_key("openai") == "key"
            del answers["openai"]
            for _ in range(3):
                now[0] += 1000
                assert await backend.api_key("openai") == "key"
            with pytest.raises(BackendUnavailable):
                await backend.api_key("openai", fresh=True)
            with pytest.raises(BackendUnavailable):
                await backend.api_key("anthropic")


async def test_that_a_known_key_is_gone_is_believed_a_minute_later() -> None:
    now, answers = [0.0], {"openai": JSONResponse({"api_key": "key"})}
    missing = JSONResponse({"detail": "Not Found"}, 404)
    with serving_keys(answers, missing) as base_url:
        async with Backend(base_url, key_cache_seconds=30, clock=lambda: now[0]) as backend:
            assert await backend.api_key("openai") == "key"
            answer = answers.pop("openai")
            for second in (31, 62):
                now[0] = second
                assert await backend.api_key("openai") == "key"
            answers["openai"] = answer
            now[0] = 93
            assert await backend.api_key("openai") == "key"
            del answers["openai"]
            now[0] = 124
            assert await backend.api_key("openai") == "key", "it was there in between"
            now[0] = 185
            with pytest.raises(ApiKeyMissing):
                await backend.api_key("openai")


async def test_a_key_is_kept_in_memory_for_a_while_and_fetched_anew_on_demand(tmp_path: Path) -> None:
    asked: list[str] = []

    def key(request: Request) -> JSONResponse:
        asked.append(request.url.path)
        return JSONResponse({"api_key": f"key-{len(asked)}"})

    now = [0.0]
    with served(Starlette(routes=[Route("/api-keys/{provider}", key)])) as base_url:
        async with Backend(base_url, key_cache_seconds=60, clock=lambda: now[0]) as backend:
            assert {await backend.api_key("openai") for _ in range(5)} == {"key-1"}
            now[0] = 61.0
            assert await backend.api_key("openai") == "key-2"
            now[0] = 62.0
            assert await backend.api_key("openai", fresh=True) == "key-3"
    assert asked == ["/api-keys/openai"] * 3


async def test_a_key_that_is_only_looked_for_is_not_kept() -> None:
    now, asked = [0.0], []
    key = "sk-a-key-that-this-process-never-uses"

    def answer(request: Request) -> JSONResponse:
        asked.append(request.path_params["provider"])
        return JSONResponse({"api_key": key})

    with served(Starlette(routes=[Route("/api-keys/{provider}", answer)])) as base_url:
        async with Backend(base_url, key_cache_seconds=60, clock=lambda: now[0]) as backend:
            for now[0] in (0.0, 59.0, 61.0):
                await backend.see_key("openai")
            assert asked == ["openai", "openai"]
            gc.collect()
            kept = [held for held in gc.get_objects() if isinstance(held, dict | set) and _holds(held, key)]
    assert kept == [], "neither the client nor the redaction has it"


def _holds(held: Any, key: str) -> bool:
    values = held.values() if isinstance(held, dict) else held
    return any(
        value == key or (isinstance(value, _Known) and value.key.get_secret_value() == key)
        for value in list(values)
        if isinstance(value, str | _Known)
    )


async def test_that_a_key_that_was_seen_is_gone_is_believed_a_minute_later() -> None:
    now, answers = [0.0], {"openai": JSONResponse({"api_key": "key"})}
    with serving_keys(answers, JSONResponse({"detail": "Not Found"}, 404)) as base_url:
        async with Backend(base_url, key_cache_seconds=30, clock=lambda: now[0]) as backend:
            await backend.see_key("openai")
            del answers["openai"]
            now[0] = 62
            await backend.see_key("openai")
            now[0] = 92
            with pytest.raises(ApiKeyMissing):
                await backend.see_key("openai")


async def test_a_database_of_an_earlier_release_gets_the_columns_for_what_is_new(tmp_path: Path) -> None:
    columns = 'id, project_id, functionKey, name, "order", active, model_provider, model, system_prompt'
    with closing(sqlite3.connect(tmp_path / "backend.db")) as old, old:
        old.execute("CREATE TABLE Project (id TEXT PRIMARY KEY, name TEXT NOT NULL)")
        further = "temperature, top_p, max_tokens, input_keys, fallback, on_ambiguous"
        old.execute(f"CREATE TABLE Assistant ({columns}, {further})")
        old.execute("INSERT INTO Project VALUES ('my', 'my')")
        row = ("a1", "my", "a", "A", 1, 1, "openai", "gpt-5", "Write.")
        old.execute(f"INSERT INTO Assistant ({columns}) VALUES ({', '.join('?' * len(row))})", row)
    with closing(connect(tmp_path / "backend.db")) as connection:
        (shown,) = assistants_of(connection, "my") or []
        assert not OPTIONS_AND_SCHEMA & set(shown)
        with connection:
            connection.execute("UPDATE Assistant SET reasoning_effort = 'low', stop = '[\"END\"]', seed = 0")
            connection.execute('UPDATE Assistant SET provider_options = \'{"user": "a"}\'')
        (shown,) = assistants_of(connection, "my") or []
    given = {"reasoning_effort": "low", "stop": ["END"], "seed": 0, "provider_options": {"user": "a"}}
    assert {name: value for name, value in shown.items() if name in OPTIONS_AND_SCHEMA} == given
