"""One call as the simulator sees it, and the provider's way of refusing it."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "refusal"]

CHARACTERS_PER_TOKEN = 3.6


def tokens_of(text: str) -> int:
    """Tokens of a text, about."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN)) if text else 0


def key_mark(key: str) -> str:
    """What tells an API key from others where it is shown."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Options:
    """What a request says of how to answer. ``effort`` and ``budget`` (tokens; -1: as many as the model likes) are
    how much the model thinks first, None for not at all; ``thoughts``: the answer contains a text of it. It ends
    before the first of the ``stop`` texts. With a ``seed`` equal requests are answered alike."""

    effort: str | None = None
    budget: int | None = None
    thoughts: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call, taken apart. ``max_tokens`` None means that the request set no limit; ``schema`` is the JSON
    Schema that the answer is bound to, None for text."""

    provider: str
    api: str
    model: str
    key: str
    idempotency_key: str | None
    system: str
    user: str
    max_tokens: int | None
    stream: bool = False
    schema: dict[str, Any] | None = None
    options: Options = field(default_factory=Options)

    @property
    def input_tokens(self) -> int:
        """What the provider counts as input."""
        return tokens_of(self.system) + tokens_of(self.user) + 8

    def seed(self, seed: int) -> int:
        """A number that depends on the simulator's seed and on what was sent, and on nothing else; with a seed in
        the request not on the call that it belongs to."""
        chosen = self.options.seed
        call = self.idempotency_key or "" if chosen is None else f"seed {chosen}"
        sent = "\x1f".join((str(seed), self.provider, self.model, self.system, self.user, call))
        return int.from_bytes(hashlib.sha256(sent.encode("utf-8", "surrogatepass")).digest()[:8])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered with. ``output_tokens`` include ``thinking_tokens``, what the model thought before
    it wrote; ``stopped_by`` is the stop text that ended it."""

    text: str
    finish: Finish
    output_tokens: int
    seconds: float
    thinking_tokens: int = 0
    stopped_by: str | None = None


class Refusal(Exception):
    """An HTTP error in the provider's own words."""

    def __init__(
        self, status: int, body: Any, headers: Mapping[str, str] | None = None, outcome: str = "rejected"
    ) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.outcome = outcome


@dataclass(slots=True)
class Entry:
    """One line of the ledger; see :class:`Ledger`."""

    id: str
    idempotency_key: str | None
    provider: str
    api: str
    model: str
    key: str
    at: float
    seconds: float = 0.0
    input_tokens: int = 0
    max_tokens: int | None = None
    output_tokens: int = 0
    status: int = 0
    outcome: str = "in_flight"
    _began: float = field(default_factory=time.perf_counter, repr=False)

    def end(self, status: int, outcome: str, output_tokens: int = 0) -> None:
        """Close the line; only the first end counts."""
        if self.outcome == "in_flight":
            self.status, self.outcome, self.output_tokens = status, outcome, output_tokens
            self.seconds = round(time.perf_counter() - self._began, 4)

    def shown(self) -> dict[str, Any]:
        """The line as ``GET /ledger`` shows it."""
        running = self.outcome == "in_flight"
        seconds = round(time.perf_counter() - self._began, 4) if running else self.seconds
        names = ("id", "idempotency_key", "provider", "api", "model", "key", "at")
        line = {name: getattr(self, name) for name in names} | {"seconds": seconds}
        return line | {
            name: getattr(self, name)
            for name in ("input_tokens", "max_tokens", "output_tokens", "status", "outcome")
        }


class Ledger:
    """Every call, from the moment it arrives. ``outcome`` is ``in_flight`` until it ends as ``answered``,
    ``rejected`` (an HTTP error by the provider's rules), ``client_gone`` (status 499), or ``fault:<kind>``.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._count = 0

    def open(self, call: Call) -> Entry:
        """A new line for a call that has just arrived."""
        self._count += 1
        entry = Entry(
            id=f"call-{self._count:06d}",
            idempotency_key=call.idempotency_key,
            provider=call.provider,
            api=call.api,
            model=call.model,
            key=key_mark(call.key),
            at=round(time.time(), 4),
            input_tokens=call.input_tokens,
            max_tokens=call.max_tokens,
        )
        self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget all calls; those in flight end unseen."""
        self._entries = []

    def to_json(self) -> bytes:
        """``{"calls": [...]}``."""
        return json.dumps({"calls": [entry.shown() for entry in self._entries]}).encode()
