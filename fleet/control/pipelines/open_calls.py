"""Where a call stands that Temporal has pending: in its queue, held, between two attempts, or with a process."""

from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import ApplicationErrorCategory, PendingActivityState, TimeoutType
from temporalio.api.workflow.v1 import PendingActivityInfo

from fleet.contracts import AssistantCall
from fleet.control.health.pipeline_runs import unix
from fleet.control.pipelines.queue_reasons import CUT_OFF, Missing, Reason, Surroundings, process_named
from fleet.control.pipelines.story import Asked, Story, decode
from fleet.errors import BackendUnavailable, HeldBack, ProviderError, remedy_in, without_remedy
from fleet.failures import FailureKind

_STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
_CANCELLING = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
_BENIGN = ApplicationErrorCategory.APPLICATION_ERROR_CATEGORY_BENIGN
#: In the message of a call that did not leave its machine.
_NOT_SENT = f": {FailureKind.LOST_BEFORE_SENDING}: "
#: A process that has had a task for longer and has not reported that it sent it holds it back; calls are reported
#: two seconds after they were sent.
_FETCHING_SECONDS = 4.0


def reason_of_call(asked: Asked, story: Story, around: Surroundings) -> tuple[Reason, float | None]:
    """Where an assistant's open call stands, and since when."""
    info = asked.pending
    since = asked.queued_at if info is None or info.attempt < 2 else _set(info.last_attempt_complete_time)
    queued = around.of_queue(asked.queue, asked.call.model, since or asked.queued_at)
    if info is None:
        return queued, asked.queued_at
    if info.state in (_STARTED, _CANCELLING):
        return _with_a_process(asked, info, story, around), unix(info.last_started_time)
    return pending_reason(info, around, queued), since or asked.queued_at


def pending_reason(info: PendingActivityInfo, around: Surroundings, queued: Reason) -> Reason:
    """Why an activity that no process has is not begun; ``queued``: why its queue does not dispatch it. An
    activity that a process has is being done."""
    if info.state == _STARTED:
        return Reason("running", "running", f"{process_named(info.last_worker_identity)} has it" + _after(info))
    next_at = _set(info.next_attempt_schedule_time)
    if queued.cause == CUT_OFF:  # it says why the tries before failed, too
        return queued
    if info.attempt > 1 and next_at is not None and next_at > around.now:
        return _between(info, around, queued, next_at)
    if info.attempt > 1:
        return Reason(queued.state, queued.cause, queued.why + _after(info), queued.remedy or _remedy_of(info))
    return queued


def _between(info: PendingActivityInfo, around: Surroundings, queued: Reason, next_at: float) -> Reason:
    failure, code, benign = info.last_failure, info.last_failure.application_failure_info.type, _benign(info)
    said = without_remedy(failure.message)
    comes = "its next try comes" if benign else f"attempt {info.attempt} comes"
    again = f"{comes} in {next_at - around.now:.0f} s, at {_clock(next_at)}"
    if failure.HasField("timeout_failure_info"):
        lost = failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT
        cause = "worker_lost" if lost else "timed_out"
        return Reason("between_attempts", cause, f"its worker was lost or too late; {again}", "nothing to do")
    if code == BackendUnavailable.code or (not around.status.backend.ok and code != ProviderError.code):
        remedy = remedy_in(failure.message) or "start the backend, then `fleet doctor`"
        return Reason("between_attempts", "backend_away", f"{said}; {again}", remedy)
    if queued.cause in ("paused", "parked", "no_pollers"):
        return Reason(queued.state, queued.cause, f"{queued.why}; its last attempt: {said}", queued.remedy)
    if code == ProviderError.code and _NOT_SENT in failure.message:
        return Reason("between_attempts", "not_sent", f"{said}; {again}", remedy_in(failure.message))
    if benign and code in (HeldBack.code, ProviderError.code) and queued.cause != "probing":
        return Reason("held_by_limit", "retry_after", f"{said}; {again}", remedy_in(failure.message))
    return Reason("between_attempts", code or "failed", f"{said}; {again}", remedy_in(failure.message))


def _with_a_process(asked: Asked, info: PendingActivityInfo, story: Story, around: Surroundings) -> Reason:
    process, model = process_named(info.last_worker_identity), _model(asked.call)
    begun = unix(info.last_started_time)
    heard = max(begun, _set(info.last_heartbeat_time) or 0.0)
    if around.gone(info.last_worker_identity):
        timeout = story.plan.limits.heartbeat_timeout_seconds if story.plan else 0.0
        missing = around.missing(asked.call.provider) if around.unpolled(asked.queue) else Missing("", "")
        why = f"{process}, which had it, has died; another process takes over by {_clock(heard + timeout)}"
        return Reason("between_attempts", "worker_lost", why + missing.why, missing.remedy or "nothing to do")
    if _is_sent(asked, info, begun):
        beat = f", its last heartbeat came {max(around.now - heard, 0):.0f} s ago"
        cancelled = "" if story.cancelled_at is None else "; the pipeline was cancelled, and the answer is awaited"
        return Reason("running", "sent", f"{process} has sent it to {model}{beat}{cancelled}" + _after(info))
    if not around.polled_pipeline and asked.call.assignment is None:
        nobody = around.nobody_decides("fetching_inputs")
        said = f"{process} has it and asks the pipeline for its inputs; {nobody.why}"
        return Reason(nobody.state, nobody.cause, said, nobody.remedy)
    budget = around.status.budgets.get(asked.queue)
    if around.now - begun > _FETCHING_SECONDS and budget is not None:
        why = f"{process} has it and holds it back until the limit has room ({without_remedy(budget.why)})"
        return Reason(
            "held_by_limit", "gate", why, f"nothing to do; `fleet limits {asked.call.provider}` shows it"
        )
    if asked.call.assignment is not None:
        return Reason(
            "running", "begun", f"{process} has it, with its inputs, and sends it to {model}" + _after(info)
        )
    return Reason("fetching_inputs", "fetching", f"{process} has it and asks the pipeline for its inputs")


def _is_sent(asked: Asked, info: PendingActivityInfo, begun: float) -> bool:
    """Whether this attempt has sent its call: the pipeline was told, or the heartbeat says so."""
    if asked.sent_at is not None and asked.sent_at >= begun:
        return True
    last: Any = decode(info.heartbeat_details.payloads[-1:])
    place = last.get("at") if isinstance(last, dict) and last.get("under_way") else None
    return bool(place) and last.get("open_at") == place


def _after(info: PendingActivityInfo) -> str:
    """What is known of the attempt before this one."""
    if info.attempt < 2:
        return ""
    said = without_remedy(info.last_failure.message or "unknown")
    if _benign(info):
        return f"; it was tried before, which counts as no attempt: {said}"
    return f"; this is attempt {info.attempt}, and the one before ended with: {said}"


def _benign(info: PendingActivityInfo) -> bool:
    """Whether the last try counts as no attempt."""
    return info.last_failure.application_failure_info.category == _BENIGN


def _remedy_of(info: PendingActivityInfo) -> str:
    return remedy_in(info.last_failure.message)


def _model(call: AssistantCall) -> str:
    return f"{call.provider}/{call.model}"


def _set(moment: Any) -> float | None:
    """A timestamp that may not be set."""
    return unix(moment) if moment.seconds else None


def _clock(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%H:%M:%S} UTC"
