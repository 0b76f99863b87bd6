"""Replaying what is open, on a server that may go away meanwhile."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from fleet.control.supervision.replay_check import Replayed, recorded, replay_open
from fleet.errors import TemporalUnavailable

GONE = RPCError("no such workflow", RPCStatusCode.NOT_FOUND, b"")
AWAY = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
HISTORY = next(history for history in recorded() if "pipeline-completed" in history.workflow_id)


def server(*histories: WorkflowHistory | RPCError, ends: RPCError | None = None) -> Client:
    """A Temporal server with these open workflows; an error in the place of one is what its history answers."""

    async def listed(query: str) -> AsyncIterator[Any]:
        for number in range(len(histories)):
            yield SimpleNamespace(id=str(number), run_id="r")
        if ends is not None:
            raise ends

    def handle(workflow_id: str, run_id: str) -> Any:
        async def fetch_history() -> WorkflowHistory:
            found = histories[int(workflow_id)]
            if isinstance(found, RPCError):
                raise found
            return found

        return SimpleNamespace(fetch_history=fetch_history)

    return cast(Client, SimpleNamespace(list_workflows=listed, get_workflow_handle=handle))


async def test_a_workflow_that_is_removed_after_it_was_listed_stops_nothing() -> None:
    done = Replayed()
    await replay_open(server(GONE, HISTORY), done)
    assert (done.count, done.failures) == (1, {})


@pytest.mark.parametrize("client", [server(HISTORY, AWAY), server(HISTORY, ends=AWAY)], ids=["history", "list"])
async def test_a_server_that_goes_away_is_told_and_is_no_failure_of_the_release(client: Client) -> None:
    done = Replayed()
    with pytest.raises(TemporalUnavailable, match=r"Temporal server connection failed: after 1 .*Remedy: "):
        await replay_open(client, done)
    assert done.failures == {}
