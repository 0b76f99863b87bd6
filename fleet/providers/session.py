"""A provider's client with the backend's API key, for one worker process."""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from fleet.errors import BackendError, BackendUnavailable, ProviderError
from fleet.failures import FailureKind
from fleet.process.metrics import ANSWERED, Metrics, Usage
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle, answer_kept
from fleet.providers.context_windows import remedy_for
from fleet.providers.error_mapping import not_usable, with_address
from fleet.providers.prices import cost_of
from fleet.providers.registry import ProviderFactory
from fleet.redaction import mark, protect

_RENEWED_SECONDS = 60.0

#: Returns the provider's key; ``fresh`` asks for one that is not from a cache.
KeySource = Callable[[bool], Awaitable[str]]


class ProviderSession:
    """Makes calls with the current key, and switches to a new key when the old one is rejected."""

    def __init__(
        self, settings: ProviderSettings, factory: ProviderFactory, key_source: KeySource, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._factory = factory
        self._key_source = key_source
        self._clients: dict[str, Provider] = {}
        self._given_up: deque[tuple[float, Provider]] = deque()
        self._renewed_at = -math.inf
        self._used = ""

    async def prepare(self) -> None:
        """Create the client before the first call needs it; that takes a considerable part of a second.

        Raises:
            BackendError: the backend is unreachable or has no key; the first call asks again.
        """
        self._client(await self._key(fresh=False))

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        """Make one call and return a usable answer.

        If the key is rejected, it is fetched again once; the call is repeated only if the backend now has a
        different key. A rejected call is not paid.

        Raises:
            ProviderError: the call failed, or the answer is empty, refused, or cut off before any text.
            ApiKeyMissing: the backend has no key for this provider.
        """
        key = await self._key(fresh=False)
        try:
            return await self._call(key, request, timeout_seconds, resume_handle)
        except ProviderError as error:
            if error.failure_kind is not FailureKind.KEY_REJECTED:
                raise
            fresh = await self._key(fresh=True)
            if fresh == key:
                raise
            return await self._call(fresh, request, timeout_seconds, resume_handle)

    async def _call(
        self, key: str, request: LlmRequest, timeout_seconds: float, resume_handle: ResumeHandle | None
    ) -> LlmAnswer:
        """Make and count one call. A cancelled call is counted by the code that cancelled it."""
        began, client = time.monotonic(), self._client(key)
        try:
            answer = await client.complete(request, timeout_seconds=timeout_seconds, resume_handle=resume_handle)
            answer = _encodable(answer)
            with answer_kept("counting what the answer used"):
                self._count(request, answer)
            self._refuse_unusable(answer)
        except ProviderError as error:
            self._ended(request, error.failure_kind, began)
            raise self._explained(error, request) from error.__cause__
        self._ended(request, ANSWERED, began)
        return answer

    def _explained(self, error: ProviderError, request: LlmRequest) -> ProviderError:
        """The error with what is known of the request: the address that it went to, or which part is too long."""
        if error.failure_kind is FailureKind.CONTEXT_EXCEEDED:
            return error.as_kind(error.failure_kind, error.detail, remedy_for(request))
        return with_address(error, self._settings, request.model)

    def _count(self, request: LlmRequest, answer: LlmAnswer) -> None:
        """Count what an answer used: it is paid whether the answer is usable or not, unless a simulator made
        it."""
        cached = answer.cached_input_tokens
        cost = cost_of(self._settings, request.model, answer)
        usage = Usage(
            request.model, answer.input_tokens, cached, answer.output_tokens, cost.usd, simulated=cost.simulated
        )
        self._metrics.used(self._settings.name, self._settings.queue_of(request.model), usage)

    def _ended(self, request: LlmRequest, outcome: str, began: float) -> None:
        queue = self._settings.queue_of(request.model)
        self._metrics.call_ended(self._settings.name, queue, outcome, time.monotonic() - began)

    @property
    def used_key(self) -> str:
        """A mark of the key that was used for the last call."""
        return mark(self._used)

    async def see_key(self) -> None:
        """Check that there is a key to make calls with, or that the backend says there is none.

        Raises:
            BackendUnavailable: the backend does not answer, and no key is known.
        """
        try:
            await self._key(fresh=False)
        except BackendUnavailable:
            raise
        except BackendError:
            return  # a call reports that

    async def present_key(self) -> str:
        """A mark of the key that the backend has now; empty if it does not answer or has none."""
        try:
            return mark(await self._key(fresh=True))
        except BackendError:
            return ""

    async def close(self) -> None:
        """Close the clients of all keys that were used."""
        for client in (*self._clients.values(), *(client for _, client in self._given_up)):
            await client.close()

    async def renew(self) -> None:
        """Create new clients from now on, which read the machine's certificates again; at most once a minute, for
        a connection that fails and recovers repeatedly."""
        now = time.monotonic()
        if now - self._renewed_at < _RENEWED_SECONDS:
            return
        self._renewed_at = now
        self._given_up += [(now, client) for client in self._clients.values()]
        self._clients = {}
        # Calls that outlive their attempts may still use them.
        while self._given_up and now - self._given_up[0][0] > self._settings.timeout_seconds + _RENEWED_SECONDS:
            await self._given_up.popleft()[1].close()

    async def _key(self, *, fresh: bool) -> str:
        if not self._settings.needs_key:
            return ""
        key = await self._key_source(fresh)
        protect(key)
        return key

    def _client(self, key: str) -> Provider:
        self._used = key
        # The client of a replaced key stays open: calls made with it may still be running.
        if key not in self._clients:
            self._clients[key] = self._factory(key)
        return self._clients[key]

    def _refuse_unusable(self, answer: LlmAnswer) -> None:
        name = self._settings.name
        if answer.finish_reason == "refusal":
            raise not_usable(name, FailureKind.UNUSABLE_REFUSAL, f"{answer.model} refused to answer")
        if answer.text.strip():
            return
        if answer.finish_reason == "length":
            detail = f"{answer.model} used up max_tokens before it wrote anything"
            raise not_usable(name, FailureKind.UNUSABLE_CUT_OFF, detail)
        raise not_usable(name, FailureKind.UNUSABLE_EMPTY, f"{answer.model} answered with no text")


def _encodable(answer: LlmAnswer) -> LlmAnswer:
    """The answer, with ``?`` for half of a surrogate pair, which JSON can have and UTF-8 cannot."""
    text, model = (told.encode("utf-8", "replace").decode() for told in (answer.text, answer.model))
    return replace(answer, text=text, model=model)
