"""How long a call may take, whatever the clocks say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from fleet.config import load_settings
from fleet.execution.attempts import Attempts
from fleet.execution.call_runner import CallRunner


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=-10)], ids=["ahead", "behind"])
def test_a_clock_that_differs_from_the_servers_takes_nothing_from_a_call(ahead: timedelta) -> None:
    settings = load_settings(api_base_url="http://localhost:1")
    runner = CallRunner.__new__(CallRunner)
    runner._settings, runner._provider = settings, settings.provider("openai")

    def deadline() -> float:
        Attempts().make_current()
        return runner._seconds_left()

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, started_time=datetime.now(UTC) - ahead)
    longest = min(settings.provider("openai").timeout_seconds, settings.activity_timeout_seconds - 5)
    assert environment.run(deadline) == pytest.approx(longest, abs=1)
