"""What counts as an attempt, what is final, and how long to wait."""

from dataclasses import asdict

import pytest

from fleet.config import Settings, load_settings
from fleet.errors import (
    ApiKeyMissing,
    AssignmentRefused,
    AssignmentUnavailable,
    BackendUnavailable,
    FleetError,
    HeldBack,
    JournalUnavailable,
    OutputBroken,
    ProviderError,
)
from fleet.execution.attempts import Attempts
from fleet.execution.verdicts import SHORTEST_WAIT_SECONDS, Verdict, judge
from fleet.failures import FailureKind


def settings(**overrides: object) -> Settings:
    return load_settings(**({"api_base_url": "http://localhost:8000"} | overrides))


def verdict(
    error: Exception,
    attempts: Attempts,
    *,
    at: float = 1e9,
    took: float = 0.1,
    waited: float = 0.0,
    patience: float | None = None,
    **overrides: object,
) -> Verdict:
    return judge(
        error,
        attempts,
        settings(**({"attempt_spacing_seconds": 0} | overrides)),
        doing="execute_assistant",
        provider="openai",
        started_at=at,
        took_seconds=took,
        waited_seconds=waited,
        patience_seconds=patience,
        chance=lambda: 0.0,
    )


def failure(failure_kind: FailureKind, wait: float | None = None) -> ProviderError:
    return ProviderError(failure_kind, "openai", "…", status=500, wait_seconds=wait)


def test_the_third_failure_of_a_provider_is_final_and_bears_the_known_phrase() -> None:
    attempts = Attempts()
    waits = []
    for _ in range(2):
        again = verdict(failure(FailureKind.OUTAGE), attempts)
        assert not again.final and not again.benign
        waits.append(again.wait_seconds)
    assert waits == [1.0, 2.0]
    last = verdict(failure(FailureKind.OUTAGE), attempts)
    assert last.final
    assert last.record.message.startswith("LLM selhalo po 3 pokusech (the LLM failed 3 times)")
    assert (last.record.code, last.record.attempts, last.record.retryable) == ("attempts_exhausted", 3, True)


def test_two_answers_that_do_not_match_are_one_attempt_as_an_answer_after_one_of_them_is() -> None:
    last = verdict(OutputBroken("…"), Attempts())
    assert last.final and (last.record.code, last.record.attempts) == ("output_broken", 1)


def outage(attempts: Attempts, at: float, *, took: float = 0.1, **overrides: object) -> Verdict:
    return verdict(
        failure(FailureKind.OUTAGE),
        attempts,
        at=1e9 + at,
        took=took,
        **({"attempt_spacing_seconds": 40} | overrides),
    )


def test_a_provider_that_is_away_for_two_minutes_fails_nobody() -> None:
    attempts, at, failures = Attempts(), 0.0, 0
    while not (found := outage(attempts, at)).final:
        assert not found.benign and found.wait_seconds <= 20
        failures += 1
        attempts = Attempts.resume([asdict(attempts)], failures + 1)
        attempts.under_way = False
        at += 0.1 + found.wait_seconds
    assert 119 < at < 145
    assert found.record.message.startswith("LLM selhalo po 3 pokusech") and found.record.attempts == 3
    assert failures < 15, "it asks now and then, and does not hammer"


def test_a_request_larger_than_its_limit_is_refused_twice_before_that_is_final() -> None:
    told = {"x-ratelimit-limit-tokens": "30000"}
    said = "about 36,278 tokens, the limit is 30,000 a minute"
    error = ProviderError(FailureKind.TOO_LARGE, "openai", said, headers=told)
    first = verdict(error, Attempts(too_large=1))
    assert not first.final and first.benign
    assert first.wait_seconds == 60, "by then a limit a minute is whole again"
    last = verdict(error, Attempts(too_large=2))
    assert last.final and "36,278" in last.record.message and "30,000" in last.record.message
    assert not verdict(failure(FailureKind.RATE), Attempts(too_large=2)).final
    untold = ProviderError(FailureKind.TOO_LARGE, "gemini", said)
    finals = [verdict(untold, Attempts(too_large=times)).final for times in (2, 4, 5)]
    assert finals == [False, False, True], "the settings may tell of a part of the real limit"


def test_an_input_that_exceeds_the_context_window_is_final_with_a_code_of_its_own() -> None:
    sent = verdict(failure(FailureKind.CONTEXT_EXCEEDED), Attempts(calls=1))
    assert (sent.final, sent.record.code, sent.record.attempts) == (True, "context_exceeded", 1)
    error = failure(FailureKind.CONTEXT_EXCEEDED)
    error.excused = True  # it was not sent
    unsent = verdict(error, Attempts())
    assert (unsent.final, unsent.record.retryable, unsent.record.attempts) == (True, False, 0)


@pytest.mark.parametrize(
    "failure_kind",
    [FailureKind.NOT_FOUND, FailureKind.FORBIDDEN, FailureKind.TOO_LARGE, FailureKind.CONTEXT_EXCEEDED],
)
def test_a_model_that_will_not_do_hands_the_call_to_the_fallback_at_once(failure_kind: FailureKind) -> None:
    moved = verdict(failure(failure_kind), Attempts(too_large=5), patience=3600.0)
    assert (moved.final, moved.moves, moved.record.code) == (True, True, "model_unusable")
    stays = verdict(failure(failure_kind), Attempts(too_large=5))
    code = "context_exceeded" if failure_kind is FailureKind.CONTEXT_EXCEEDED else "provider_error"
    assert (stays.final, stays.moves, stays.record.code) == (True, False, code)
    paid = verdict(failure(failure_kind), Attempts(too_large=5, sent=True), patience=3600.0)
    assert (paid.final, paid.moves) == (True, False)


def test_failures_in_quick_succession_are_one_attempt_and_are_told_as_calls() -> None:
    attempts = Attempts(calls=7)
    for at in (0.0, 2.0, 39.0):
        assert not outage(attempts, at).final
        assert attempts.made == 1
    outage(attempts, 41.0)
    assert attempts.made == 2
    for at in (82.0, 121.0):
        assert not outage(attempts, at).final
    last = outage(attempts, 123.0)
    assert last.final and "(the LLM failed 3 times). 7 calls were sent. Last: " in last.record.message


def test_a_call_that_takes_longer_than_the_spacing_is_an_attempt_of_its_own() -> None:
    attempts = Attempts()
    finals = [outage(attempts, at, took=600.0).final for at in (0.0, 601.0, 1203.0)]
    assert finals == [False, False, True]


def test_a_failure_of_the_requests_own_counts_at_once() -> None:
    attempts = Attempts()
    outage(attempts, 0.0)
    empty = [
        verdict(failure(FailureKind.UNUSABLE_EMPTY), attempts, at=1e9 + at, attempt_spacing_seconds=40).final
        for at in (1.0, 2.0)
    ]
    assert empty == [False, True]


def test_twenty_rate_limits_are_no_attempt_and_the_wait_grows_to_its_bound() -> None:
    attempts = Attempts()
    waits = [verdict(failure(FailureKind.RATE), attempts).wait_seconds for _ in range(20)]
    assert waits[:4] == [1, 2, 4, 8] and waits[-1] == 60
    assert attempts.made == 0
    assert verdict(failure(FailureKind.OUTAGE), attempts).record.attempts == 1


def test_the_providers_own_wait_is_obeyed_and_never_zero() -> None:
    assert verdict(failure(FailureKind.RATE, wait=20.0), Attempts()).wait_seconds == 20
    assert verdict(failure(FailureKind.RATE, wait=0.0), Attempts()).wait_seconds == SHORTEST_WAIT_SECONDS


def test_a_call_is_back_in_its_queue_every_minute_however_long_the_provider_asked_for() -> None:
    """So soon it sees that an operator, or another process, knows better."""
    for error in (failure(FailureKind.RATE, wait=86_400.0), HeldBack(7 * 86_400.0)):
        assert 30 < verdict(error, Attempts()).wait_seconds <= 60


CONNECTION_REFUSED = failure(FailureKind.LOST_BEFORE_SENDING)
CONNECTION_REFUSED.excused = True


@pytest.mark.parametrize("error", [CONNECTION_REFUSED, JournalUnavailable("…")], ids=["connection", "journal"])
def test_what_this_machine_could_not_send_is_no_attempt_and_soon_anothers(error: FleetError) -> None:
    attempts, waits = Attempts(), []
    for _ in range(30):
        found = verdict(error, attempts)
        assert found.benign and not found.final and attempts.made == 0
        waits.append(found.wait_seconds)
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0] and max(waits) == 5.0


LIMITED = [HeldBack(50.0), failure(FailureKind.RATE, wait=50.0), CONNECTION_REFUSED]


@pytest.mark.parametrize("error", LIMITED, ids=lambda error: error.code + str(getattr(error, "failure_kind", "")))
def test_what_a_limit_holds_for_too_long_goes_to_another_provider(error: FleetError) -> None:
    moves = verdict(error, Attempts(), waited=59.9, patience=60.0)
    assert (moves.moves, moves.final, moves.benign) == (True, True, True)
    assert (moves.record.code, moves.record.message) == ("held_back", str(error))
    for again in (
        verdict(error, Attempts(), waited=1.0, patience=60.0),
        verdict(error, Attempts(), waited=1e6),
        verdict(error, Attempts(sent=True), waited=1e6, patience=60.0),
        verdict(error, Attempts(open_at="a journal"), waited=1e6, patience=60.0),
        verdict(error, Attempts(untold=True), waited=1e6, patience=60.0),
    ):
        assert not (again.final or again.moves)


def test_only_a_providers_limit_sends_a_call_elsewhere() -> None:
    for error in (AssignmentUnavailable("…"), BackendUnavailable("…"), failure(FailureKind.OVERLOAD)):
        assert not verdict(error, Attempts(), waited=100.0, patience=60.0).final


@pytest.mark.parametrize(
    "failure_kind",
    [failure_kind for failure_kind in FailureKind if not failure(failure_kind).retryable],
)
def test_what_waiting_does_not_help_fails_at_once_with_one_attempt(failure_kind: FailureKind) -> None:
    ours = verdict(failure(failure_kind), Attempts())
    assert ours.final and ours.record.attempts == 1 and not ours.record.retryable


def test_a_missing_key_is_final_and_no_attempt() -> None:
    ours = verdict(ApiKeyMissing("no key"), Attempts())
    assert ours.final and ours.record.attempts == 0 and ours.record.code == "api_key_missing"


def test_a_backend_that_is_away_is_waited_for_until_patience_ends() -> None:
    """From the first attempt in a row that found it away, however long the call had waited in its queue."""
    away, attempts = BackendUnavailable("away"), Attempts()
    for passed in (0.0, 899.0):
        ours = verdict(away, attempts, at=1e9 + passed, waited=50_000.0 + passed)
        assert ours.benign and not ours.final
    attempts = Attempts.resume([asdict(attempts)], 3)
    gone = verdict(away, attempts, at=1e9 + 901, waited=50_901.0)
    assert gone.final and gone.record.code == "backend_unavailable"


def test_patience_with_the_backend_begins_anew_once_it_has_answered() -> None:
    away, attempts = BackendUnavailable("away"), Attempts()
    verdict(away, attempts, at=1e9)
    verdict(failure(FailureKind.RATE), attempts, at=1e9 + 600)
    assert not verdict(away, attempts, at=1e9 + 1200).final


def test_a_pipeline_that_no_worker_runs_is_waited_for_without_end() -> None:
    ours = verdict(AssignmentUnavailable("…"), Attempts(), waited=1e6)
    assert ours.benign and not ours.final


def test_a_pipeline_that_answers_with_an_error_is_asked_again_for_a_day() -> None:
    attempts, day = Attempts(), 86_400.0
    assert not verdict(AssignmentRefused("…"), attempts, at=1e9).final
    assert not verdict(AssignmentRefused("…"), attempts, at=1e9 + day - 1).final
    assert verdict(AssignmentRefused("…"), attempts, at=1e9 + day + 1).final


def test_an_unforeseen_error_is_tried_three_times_and_then_final() -> None:
    attempts = Attempts()
    outcomes = [verdict(ZeroDivisionError("division by zero"), attempts) for _ in range(3)]
    assert [outcome.final for outcome in outcomes] == [False, False, True]
    assert "execute_assistant failed 3 times. Last: ZeroDivisionError" in outcomes[-1].record.message


def test_an_attempt_that_never_ended_was_a_lost_worker_and_not_a_failure() -> None:
    began = {"provider_failures": 1, "lost_workers": 0, "waits": 0, "under_way": True}
    resumed = Attempts.resume([began])
    assert (resumed.provider_failures, resumed.lost_workers, resumed.made) == (1, 1, 2)
    ended = began | {"under_way": False}
    assert Attempts.resume([ended]).lost_workers == 0


@pytest.mark.parametrize("details", [[], [None], ["text"], [{}]])
def test_foreign_heartbeat_details_mean_a_first_attempt(details: list[object]) -> None:
    assert Attempts.resume(details).made == 0


def test_a_key_in_an_unforeseen_error_does_not_reach_the_record() -> None:
    ours = verdict(ValueError("bad header sk-abcdefghijklmnop"), Attempts())
    assert "sk-abc" not in ours.record.message
