"""The table of what a failure means, and that everything which decides something follows it."""

import re

import pytest

from fleet.budgets.law.breaker import Breaker
from fleet.budgets.law.budget import Budget
from fleet.budgets.messages import Report, Trouble
from fleet.budgets.worker.report_builder import News, SentCall
from fleet.contracts import Limited, LimitSettings
from fleet.control.web.page_state import _kind_of
from fleet.errors import ProviderError
from fleet.execution.attempts import Attempts
from fleet.execution.verdicts import judge
from fleet.failures import LIMITS, Billed, Concerns, FailureKind, traits_of
from scripts import render_rules
from tests.unit.test_verdicts import settings

EVERY = pytest.mark.parametrize("failure_kind", FailureKind)


def test_the_rows_agree_with_themselves() -> None:
    for failure_kind in FailureKind:
        row = traits_of(failure_kind)
        if not row.counts:
            assert row.retryable and row.billed is Billed.NO, failure_kind
        if row.parks:
            assert row.retryable and not row.counts, failure_kind
        assert not (row.limit and row.outage), failure_kind
        assert row.limit <= (row.concerns in (Concerns.ACCOUNT, Concerns.MODEL, Concerns.REQUEST)), failure_kind
        assert row.outage == (row.concerns in (Concerns.PROVIDER, Concerns.HOST)), failure_kind


def reported(failure_kind: FailureKind) -> Report:
    news = News()
    news.sent({Limited.REQUESTS: 1.0})
    call = SentCall("m", {Limited.REQUESTS: 1.0}, 0.0)
    news.failed(ProviderError(failure_kind, "openai", "…"), call, [], "key")
    return news.report("openai_00", 0)


@EVERY
def test_a_report_tells_the_budget_what_the_row_says(failure_kind: FailureKind) -> None:
    row, report = traits_of(failure_kind), reported(failure_kind)
    assert (report.charged, report.spent[Limited.REQUESTS]) == ((1, 1.0) if row.uses_limit else (0, 0.0))
    assert report.answered == row.works
    assert [trouble.meaning for trouble in report.troubles] == (
        [] if row.works and not row.holds_model else [failure_kind]
    )


@EVERY
def test_a_budget_counts_every_refusal_by_a_limit_as_refused(failure_kind: FailureKind) -> None:
    """Once it counted those for the rate alone, while its metric promises all."""
    budget = Budget("llm-openai", LimitSettings(rpm=60))
    budget.take(reported(failure_kind), 1.0)
    assert budget.refused == traits_of(failure_kind).limit


@EVERY
def test_a_breaker_follows_the_row(failure_kind: FailureKind) -> None:
    breaker, row = Breaker(), traits_of(failure_kind)
    breaker.take(0, [Trouble(failure_kind, 20)], 1.0)
    troubled = row.outage or row.limit
    assert breaker.state == ("parked" if row.parks else "probing" if troubled else "closed")


def test_a_budget_takes_what_a_later_release_tells_of_for_an_outage() -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble("melted", 20, "hot")], 1.0)
    assert (breaker.state, breaker.why) == ("probing", "melted: hot")


@EVERY
def test_the_page_counts_refusals_by_a_limit_apart_from_failures(failure_kind: FailureKind) -> None:
    assert _kind_of(failure_kind) == ("refused" if traits_of(failure_kind).limit else "failed")


def test_the_alert_rules_leave_out_just_the_refusals_by_a_limit() -> None:
    left_out = re.findall(r'outcome!~"([^"]+)"', render_rules.TEMPLATE.read_text("utf-8"))
    assert left_out
    for names in left_out:
        assert set(names.split("|")) - {"answered", "cut_off"} == LIMITS


@EVERY
def test_an_attempt_follows_the_row(failure_kind: FailureKind) -> None:
    attempts, row = Attempts(at="here"), traits_of(failure_kind)
    attempts.open_at = "here"
    error = ProviderError(failure_kind, "openai", "…")
    attempts.failed(error)
    billed = row.billed is not Billed.NO
    # It has ended, so nobody need wait for its answer.
    assert (attempts.sent, attempts.maybe_paid, attempts.open_at) == (billed, int(billed), "")
    assert error.may_be_billed is billed
    judged = judge(
        error,
        attempts,
        settings(),
        doing="execute_assistant",
        provider="openai",
        started_at=1e9,
        took_seconds=0.1,
        waited_seconds=0.0,
    )
    assert (attempts.provider_failures, judged.final, judged.record.retryable) == (
        int(row.counts),
        not row.retryable,
        row.retryable,
    )
