"""The client of one process: what it needs before a call, and what it makes anew."""

import pytest

from fleet.config import load_settings
from fleet.errors import ApiKeyMissing, BackendError, BackendUnavailable
from fleet.process.metrics import Metrics
from fleet.providers.session import ProviderSession


class Client:
    def __init__(self, made: "list[Client]") -> None:
        made.append(self)
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def session_with(key: str | BackendError, made: list[Client]) -> ProviderSession:
    async def source(fresh: bool) -> str:
        if isinstance(key, BackendError):
            raise key
        return key

    settings = load_settings(api_base_url="http://localhost:8000").provider("openai")
    return ProviderSession(settings, lambda key: Client(made), source, Metrics())  # type: ignore[arg-type,return-value]


async def test_a_key_that_cannot_be_asked_for_is_missed_before_a_call_and_one_that_is_not_there_by_the_call() -> (
    None
):
    await session_with("sk-key", []).see_key()
    await session_with(ApiKeyMissing("…"), []).see_key()
    with pytest.raises(BackendUnavailable):
        await session_with(BackendUnavailable("…"), []).see_key()


async def test_a_renewed_session_makes_its_client_anew_and_closes_both_at_the_end() -> None:
    made: list[Client] = []
    session = session_with("sk-key", made)
    await session.prepare()
    await session.renew()
    await session.prepare()
    await session.renew()  # so soon it changes nothing
    await session.prepare()
    first, second = made
    assert not first.closed, "a call of it may still be running"
    await session.close()
    assert first.closed and second.closed


async def test_a_client_that_was_given_up_is_closed_when_its_calls_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("fleet.providers.session.time.monotonic", lambda: now)
    made: list[Client] = []
    session = session_with("sk-key", made)
    for _ in range(3):
        await session.prepare()
        await session.renew()
        now += 400.0
    assert [client.closed for client in made] == [True, False, False]
