"""Other machines on the same Temporal server are known by their pollers."""

from datetime import UTC, datetime, timedelta

from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.control.other_machines import OtherMachine, other_machines

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OWN = "control_00@vm1+aaaaaaaaaaaa:10"


def poller(identity: str, seconds_ago: float) -> PollerInfo:
    info = PollerInfo(identity=identity)
    info.last_access_time.FromDatetime(NOW - timedelta(seconds=seconds_ago))
    return info


def test_each_machine_is_listed_once_with_its_processes_and_its_latest_poll() -> None:
    pollers = [
        poller("openai_00@vm2+bbbbbbbbbbbb:7", 40.0),
        poller("openai_01@vm2+bbbbbbbbbbbb:8", 3.0),
        poller("openai_00@vm2+bbbbbbbbbbbb:7", 41.0),
        poller("gemini_00@vm1+cccccccccccc:9", 1.0),
        poller("openai_00@vm1+aaaaaaaaaaaa:5", 1.0),
        poller("openai_00@vm1:6", 1.0),
        poller("4711@laptop", 1.0),
        poller("", 1.0),
    ]
    assert other_machines(pollers, OWN, NOW) == [
        OtherMachine("vm1", "cccccccccccc", ["gemini_00"], 1.0),
        OtherMachine("vm2", "bbbbbbbbbbbb", ["openai_00", "openai_01"], 3.0),
    ], "a clone of this machine's host name is another one"
