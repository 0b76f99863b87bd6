"""Client of the Backend API that users already run: health, assistants, API keys."""

import asyncio
import json
import math
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx
from loguru import logger
from pydantic import SecretStr

from fleet.config import Settings
from fleet.errors import (
    ApiKeyMissing,
    AssistantDamaged,
    BackendAnswerError,
    BackendUnavailable,
    ProjectNotFound,
    SettingsError,
)
from fleet.execution.backend_connection import NO_CREDENTIALS, BackendCredentials
from fleet.redaction import excerpt, protect

_IDLE_SECONDS = 4.0
_LARGEST_ANSWER = 10_000_000
_LONGEST_DETAIL = 1_000
_KEY_MISSING = "Not found"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{1,99}")
_MISSING_SECONDS = 60.0
# The beginning of an HTML document, whatever its content type: simple servers call every text "text/html".
_WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class _Known:
    """A key, when the backend returned it, when the backend was last asked for it, and since when the backend has
    said that it has none (by the client's clock)."""

    key: SecretStr
    given_at: float
    asked_at: float
    missing_since: float | None = None


@dataclass(frozen=True)
class ToldProject:
    """A project that a backend serves from a folder. ``problems`` are those of its files now, one line each; while
    there are some, the version of ``fingerprint`` stays in use, or none if that is empty."""

    fingerprint: str
    problems: list[str]


class Backend:
    """One client for the lifetime of a process. Safe to use from many tasks at once.

    ``timeout_seconds`` bounds each whole call; ``key_cache_seconds`` is how long a key is kept in memory, or that
    there is one. ``credentials`` are what the backend asks for.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float = 10.0,
        key_cache_seconds: float = 60.0,
        credentials: BackendCredentials = NO_CREDENTIALS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._key_cache_seconds = key_cache_seconds
        self._clock = clock
        self._credentials = credentials
        self._is_encrypted = urlsplit(base_url).scheme == "https"
        self._client: httpx.AsyncClient | None = None
        self._keys: dict[str, _Known] = {}
        self._seen_at: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    @classmethod
    def from_settings(cls, settings: Settings, *, timeout_seconds: float | None = None) -> Self:
        """The backend that the settings name."""
        return cls(
            settings.api_base_url,
            timeout_seconds=timeout_seconds or settings.backend_timeout_seconds,
            key_cache_seconds=settings.api_key_cache_seconds,
            credentials=BackendCredentials.of(settings),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def health(self) -> "dict[str, ToldProject]":
        """Return if the backend and its database are up: what it tells of the projects that it serves from a
        folder, by id.

        Raises:
            BackendUnavailable, BackendAnswerError: they are not.
        """
        response = await self._get("/health")
        if response.status_code != httpx.codes.OK:
            raise self._unexpected(response, "/health")
        if response.content.lstrip()[:20].lower().startswith(_WEB_PAGE):
            raise BackendAnswerError(
                f"the backend at {self._base_url} answered a web page to /health. Remedy: {self._look()}, and "
                "correct API_BASE_URL, which must name the Backend API itself"
            )
        return _told_projects(response)

    async def date(self) -> str:
        """The backend's time, as its ``Date`` header has it; empty if it has none.

        Raises:
            BackendUnavailable, BackendAnswerError: no answer.
        """
        date: str = (await self._get("/health")).headers.get("date", "")
        return date

    async def assistants(self, project_id: str) -> list[Any]:
        """The project's assistants as the backend returns them: a decoded JSON list, not yet checked.

        Raises:
            ProjectNotFound: the project does not exist.
            AssistantDamaged: the backend says what is wrong with the project (HTTP 422).
            BackendUnavailable, BackendAnswerError: no usable answer.
        """
        path = f"/api/assistant/{quote(project_id, safe='')}"
        response = await self._get(path)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise ProjectNotFound(
                f"project {project_id!r} does not exist in the backend at {self._base_url}. Remedy: correct "
                "the id, or make the project where that backend reads them; a folder of your own: "
                f"`fleet project new {shlex.quote(project_id)}`, then `fleet up --projects .`"
            )
        if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise AssistantDamaged(f"project {project_id!r} cannot be used: {_detail(response)}")
        payload = self._json(response, path)
        if not isinstance(payload, list):
            raise self._wrong_shape(path, "a list", payload)
        return payload

    async def api_key(self, provider: str, *, fresh: bool = False) -> str:
        """The provider's API key, from memory while it is young enough; ``fresh`` asks the backend again, since
        the provider has rejected the known key.

        A known key stays in use while the backend is unavailable. That the backend no longer has a key is believed
        only when it says so again a minute later: a restarting backend may have no data for a moment.

        Raises:
            ApiKeyMissing: the backend has none for this provider.
            BackendUnavailable, BackendAnswerError: no usable answer.
        """
        asked_at = self._clock()
        async with self._fetching.setdefault(provider, asyncio.Lock()):
            known = self._keys.get(provider)
            # A key that another task received while this one waited for the lock is fresh enough.
            if known is None or (
                known.given_at < asked_at if fresh else known.asked_at < self._clock() - self._key_cache_seconds
            ):
                known = await self._renewed(provider, None if fresh else known)
                self._keys[provider] = known
        return known.key.get_secret_value()

    async def see_key(self, provider: str) -> None:
        """Return if the backend has a key for the provider. The key is not kept: this process does not use it.

        Raises:
            ApiKeyMissing: the backend has none for this provider.
            BackendUnavailable, BackendAnswerError: no usable answer.
        """
        now = self._clock()
        if now - self._seen_at.get(provider, -math.inf) > self._key_cache_seconds:
            try:
                await self._fetch_key(provider)
            except ApiKeyMissing:
                # A restarting backend may have no data for a moment.
                if now - self._seen_at.get(provider, -math.inf) > self._key_cache_seconds + _MISSING_SECONDS:
                    raise
            else:
                self._seen_at[provider] = now

    async def _renewed(self, provider: str, known: "_Known | None") -> "_Known":
        """The key that the backend returns, or ``known`` where that stays in use."""
        now = self._clock()
        try:
            key = SecretStr(await self._fetch_key(provider))
            protect(key.get_secret_value())
            return _Known(key, self._clock(), self._clock())
        except (BackendUnavailable, BackendAnswerError) as error:
            if known is None:
                raise
            logger.warning("the known API key of {} is used on: {}", provider, error)
            return replace(known, asked_at=self._clock())
        except ApiKeyMissing as error:
            since = now if known is None or known.missing_since is None else known.missing_since
            if known is None or now - since >= _MISSING_SECONDS:
                self._keys.pop(provider, None)
                raise
            logger.warning("the known API key of {} is used on, for a minute: {}", provider, error)
            return replace(known, asked_at=now, missing_since=since)

    async def _fetch_key(self, provider: str) -> str:
        path = f"/api-keys/{quote(provider, safe='')}"
        response = await self._get(path)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise self._key_missing(provider)
        payload = self._json(response, path)
        if not isinstance(payload, dict) or not isinstance(payload.get("api_key"), str | None):
            raise self._wrong_shape(path, 'an object {"api_key": "…"}', payload)
        key = (payload.get("api_key") or "").strip()
        if not key or key == _KEY_MISSING:
            raise self._key_missing(provider, payload.get("variable"))
        if not key.isascii() or not key.isprintable():
            raise BackendAnswerError(
                f"the API key for {provider} in the backend contains characters that no key has. Remedy: store "
                "it again, without line breaks"
            )
        return key

    def _key_missing(self, provider: str, variable: object = None) -> ApiKeyMissing:
        """``variable``: where the backend says that it looks for the key, if it does."""
        setting = f"FLEET_PROVIDERS__{provider.upper()}__"
        store = f"store one there under api-keys/{provider}"
        if isinstance(variable, str) and _VARIABLE.fullmatch(variable):
            store = f"set {variable} where the fleet is started, and start it again"
        return ApiKeyMissing(
            f"the backend at {self._base_url} holds no API key for {provider}. Remedy: {store}; or set "
            f"{setting}API_KEY_FILE to a file with the key, or {setting}NEEDS_KEY=false if it wants none"
        )

    async def _get(self, path: str) -> httpx.Response:
        """GET within the deadline: httpx's own timeout is per read. 5xx counts as unavailable."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._read(path)
        except TimeoutError:
            raise self._unavailable(f"no complete answer within {self._timeout_seconds:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            known = self._credentials.refusal(error) if self._is_encrypted else None
            raise self._unavailable(*known or (f"{type(error).__name__}: {error}",)) from None
        except SettingsError as error:  # a file that is missing, or is just being replaced
            raise self._unavailable(*str(error).split(". Remedy: ", 1)) from None
        if response.status_code >= 500:
            raise self._unavailable(f"HTTP {response.status_code} for {path}")
        return response

    def _opened(self) -> httpx.AsyncClient:
        """The client, created before the first request."""
        if self._client is None:
            # Common servers close idle connections after five seconds; the client does so earlier, since a request
            # on a connection that is just being closed would fail.
            limits = httpx.Limits(keepalive_expiry=_IDLE_SECONDS)
            # Plain HTTP verifies nothing, and loading the certificates takes a while at each start.
            verify = self._credentials.tls() if self._is_encrypted else False
            self._client = httpx.AsyncClient(
                timeout=self._timeout_seconds,
                follow_redirects=False,
                limits=limits,
                verify=verify,
                # A cookie that is not ASCII would fail every further request.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._client

    async def _read(self, path: str) -> httpx.Response:
        headers = self._credentials.headers()
        async with self._opened().stream("GET", f"{self._base_url}{path}", headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST_ANSWER:
                    raise BackendAnswerError(
                        f"the backend at {self._base_url} answered more than {_LARGEST_ANSWER:,} bytes to {path}. "
                        f"Remedy: {self._look()}, and correct API_BASE_URL or the project's data"
                    )
            # A header may have been written in any encoding, and is made anew in ASCII.
            found = {name: response.headers.get(name, "") for name in ("content-type", "date")}
            headers = {name: value.encode("ascii", "replace").decode() for name, value in found.items()}
            return httpx.Response(response.status_code, headers=headers, content=bytes(body))

    def _unavailable(self, what: str, remedy: str = "") -> BackendUnavailable:
        remedy = remedy or f"start it and its database, or correct API_BASE_URL; {self._look()}"
        return BackendUnavailable(f"the backend at {self._base_url} is not available ({what}). Remedy: {remedy}")

    def _look(self) -> str:
        """How to see by hand what answers. Only its health is asked for: another path may show a key."""
        return f"see what answers with `curl -i {shlex.quote(f'{self._base_url}/health')}`"

    def _json(self, response: httpx.Response, path: str) -> Any:
        if response.status_code != httpx.codes.OK:
            raise self._unexpected(response, path)
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            kind = response.headers["content-type"].split(";")[0] or "something"
            raise BackendAnswerError(
                f"the backend at {self._base_url} answered {kind} that is not JSON to {path}. Remedy: "
                f"{self._look()}, and correct API_BASE_URL, which must name the Backend API itself"
            ) from None

    def _unexpected(self, response: httpx.Response, path: str) -> BackendAnswerError:
        answered = f"the backend at {self._base_url} answered HTTP {response.status_code} to {path}"
        if known := self._credentials.answer(response.status_code, encrypted=self._is_encrypted):
            says, remedy = known
            return BackendAnswerError(f"{answered}: {says}. Remedy: {remedy}")
        remedy = f"{self._look()}; correct API_BASE_URL, or read the backend's log"
        return BackendAnswerError(f"{answered}. Remedy: {remedy}")

    def _wrong_shape(self, path: str, wanted: str, payload: Any) -> BackendAnswerError:
        names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
        got = names.get(type(payload), type(payload).__name__)
        return BackendAnswerError(
            f"the backend at {self._base_url} answered {got} to {path}, where {wanted} belongs. Remedy: "
            f"{self._look()}, and correct API_BASE_URL, or bring both to one version"
        )


def _detail(response: httpx.Response) -> str:
    """What a backend says is wrong: ``{"detail": "…"}``."""
    try:
        detail = json.loads(response.content)["detail"]
    except (ValueError, RecursionError, TypeError, KeyError):
        detail = None
    said = " ".join(detail.split()) if isinstance(detail, str) else ""
    return excerpt(said, _LONGEST_DETAIL) or "the backend does not say why. Remedy: read its log"


def _told_projects(response: httpx.Response) -> dict[str, ToldProject]:
    """The part ``projects`` of a backend's health; what is not of that form is left out."""
    try:
        projects = json.loads(response.content)["projects"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return {}
    if not isinstance(projects, dict):
        return {}
    return {
        project_id: ToldProject(
            str(told.get("fingerprint", "")), [str(line) for line in _listed(told, "problems")]
        )
        for project_id, told in projects.items()
        if isinstance(told, dict)
    }


def _listed(told: dict[str, Any], name: str) -> list[Any]:
    found = told.get(name)
    return found if isinstance(found, list) else []
