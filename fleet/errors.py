"""Every error that the fleet raises on purpose.

::

    FleetError
    ├── SettingsError            a setting is missing or wrong
    ├── InputError               the pipeline's own arguments cannot be used
    ├── BackendError
    │   ├── BackendUnavailable   the backend cannot be reached or answers 5xx: waiting helps
    │   ├── BackendAnswerError   the backend's answer does not match its contract
    │   ├── ProjectNotFound      the project does not exist
    │   ├── NoAssistants         the project has no active assistant
    │   ├── AssistantDamaged     an assistant lacks a required field or contradicts another one
    │   └── ApiKeyMissing        the backend has no key for a provider
    ├── ProviderError            a provider's call failed; ``failure_kind`` says how
    ├── HeldBack                 a provider's limit has no room for a call yet: waiting helps
    ├── AttemptsExhausted        a provider failed as often as is allowed
    ├── WorkerLost               too many worker processes died during the same call
    ├── AssignmentUnavailable    the pipeline could not be asked for an assistant's inputs: waiting helps
    │   └── AssignmentRefused    it answered with an error: waiting helps until a broken release is fixed
    ├── OpenElsewhere            another machine may have sent the call: its answer is awaited
    ├── TaskTaken                the task was given to another worker meanwhile, or its pipeline has ended
    ├── AmbiguousCall            a call may have been paid, and the policy forbids sending it again
    ├── TooLarge                 something is larger than what Temporal carries
    ├── JournalUnavailable       the journal cannot be written, so no call may be sent: waiting helps
    ├── TemporalUnavailable      the Temporal server cannot be reached
    └── OperationError           an operator's command cannot be carried out

A message says what happened, to which thing, and what to do about it. ``code`` is stable and meant for programs;
``retryable`` says whether the same thing may succeed later without intervention, and ``wait_seconds`` when, where
that is known. ``before_sending``: it failed on this machine and no part of the call left it, so another machine
may still make the call. The first line of a class docstring is the default message of that error.
"""

from collections.abc import Mapping
from typing import ClassVar

from fleet.failures import Billed, FailureKind, FailureTraits, traits_of


class FleetError(Exception):
    """Something in the fleet went wrong."""

    code: ClassVar[str] = "fleet_error"
    retryable: bool = False
    before_sending: bool = False
    wait_seconds: float | None = None

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])

    @property
    def message(self) -> str:
        """The one-line text for people."""
        return str(self)


class SettingsError(FleetError):
    """A setting is missing or wrong."""

    code = "bad_settings"


class InputError(FleetError):
    """The pipeline's own arguments cannot be used."""

    code = "bad_input"


class BackendError(FleetError):
    """A request to the Backend API failed."""

    code = "backend_error"


class BackendUnavailable(BackendError):
    """The Backend API cannot be reached or answers with a server error."""

    code = "backend_unavailable"
    retryable = True
    before_sending = True


class BackendAnswerError(BackendError):
    """The answer of the Backend API does not match its contract."""

    code = "backend_bad_answer"


class ProjectNotFound(BackendError):
    """The project does not exist in the backend."""

    code = "project_not_found"


class NoAssistants(BackendError):
    """The project has no active assistant."""

    code = "no_assistants"


class AssistantDamaged(BackendError):
    """An assistant in the database lacks a required field or contradicts another one."""

    code = "assistant_damaged"

    def __init__(self, message: str | None = None) -> None:
        # It quotes names and keys of the database, which may have line breaks.
        super().__init__(" ".join(message.split()) if message else None)


class ApiKeyMissing(BackendError):
    """The backend has no API key for a provider."""

    code = "api_key_missing"


class ProviderError(FleetError):
    """A provider's call failed.

    ``failure_kind`` is the kind of failure, ``wait_seconds`` the wait that the provider asked for (None where it
    asked for none), ``status`` the HTTP status (None where no answer came), ``headers`` those of the answer, names
    in lower case. ``excused``: the failure does not count as an attempt, since the call was not sent or the
    provider was known to be failing. ``goes_on``: the call still runs at the provider; only the request for its
    answer failed. ``remedy`` stands in place of that of its kind.
    """

    code = "provider_error"

    def __init__(
        self,
        failure_kind: FailureKind,
        provider: str,
        detail: str,
        *,
        status: int | None = None,
        wait_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        remedy: str = "",
    ) -> None:
        self._own_remedy = remedy
        self.failure_kind = failure_kind
        self.provider = provider
        self.detail = detail
        self.headers = dict(headers or {})
        self.excused = False
        self.goes_on = False
        self.status = status
        self.wait_seconds = wait_seconds
        answered = f" (HTTP {status})" if status is not None else ""
        super().__init__(f"{provider}: {failure_kind.value}{answered}: {detail}. Remedy: {self.remedy}")

    def as_kind(self, failure_kind: FailureKind, detail: str, remedy: str = "") -> "ProviderError":
        """The same failure with a more precise kind, detail or remedy than the answer alone shows."""
        known = ProviderError(
            failure_kind,
            self.provider,
            detail,
            status=self.status,
            wait_seconds=self.wait_seconds,
            headers=self.headers,
            remedy=remedy,
        )
        known.goes_on = self.goes_on
        return known

    @property
    def remedy(self) -> str:
        """What a person can do."""
        return self._own_remedy or self.traits.remedy.replace("PROVIDER", self.provider)

    @property
    def traits(self) -> FailureTraits:
        """The traits of its kind."""
        return traits_of(self.failure_kind)

    @property
    def counts(self) -> bool:
        """Whether it used up one of the call's attempts."""
        return self.traits.counts and not self.excused and not self.goes_on

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may charge for the call, now or when the call ends there."""
        return self.goes_on or self.traits.billed is not Billed.NO

    @property
    def is_ambiguous(self) -> bool:
        """Whether sending the call again may mean paying twice; a call that still runs at the provider is not sent
        again."""
        return self.may_be_billed and not self.goes_on

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Whether the same call may succeed later."""
        return self.traits.retryable

    @property
    def before_sending(self) -> bool:  # type: ignore[override]
        """Whether no part of the call left this machine."""
        return self.traits.before_sending


class HeldBack(FleetError):
    """The provider's limit leaves no room for this call yet."""

    code = "held_back"
    retryable = True

    def __init__(
        self, wait_seconds: float, why: str = "the provider's limit leaves no room for this call"
    ) -> None:
        super().__init__(
            f"{why} for {wait_seconds:.0f} s. Remedy: nothing to do, it is made when there is; raise the limit at "
            "the provider if this is usual"
        )
        self.wait_seconds = wait_seconds


class OutputBroken(FleetError):
    """No answer matches the assistant's output_schema."""

    code = "output_broken"
    #: When the last of the calls was sent (ISO 8601).
    last_asked: str = ""


class AttemptsExhausted(FleetError):
    """A provider failed the maximum number of times."""

    code = "attempts_exhausted"


class WorkerLost(FleetError):
    """Too many worker processes died during the same call."""

    code = "worker_lost"


class AssignmentUnavailable(FleetError):
    """The pipeline could not be asked for an assistant's inputs."""

    code = "assignment_unavailable"
    retryable = True


class AssignmentRefused(AssignmentUnavailable):
    """The pipeline answered with an error when it was asked for an assistant's inputs."""

    code = "assignment_refused"


class OpenElsewhere(FleetError):
    """Another machine may have sent the call, so its answer is awaited."""

    code = "open_elsewhere"
    retryable = True

    def __init__(self, function_key: str, machine: str, seconds_left: float, wait_seconds: float) -> None:
        super().__init__(
            f"{function_key}: {machine or 'another machine'} may have sent this call; its answer is awaited, "
            f"{seconds_left:.0f} s at most. Remedy: see that it reaches the Temporal server"
        )
        self.wait_seconds = wait_seconds


class TaskTaken(FleetError):
    """Another worker has the task now, or its pipeline has ended; this process sent nothing."""

    code = "task_taken"
    retryable = True


class AmbiguousCall(FleetError):
    """A call was or may have been paid, and the policy forbids sending it again."""

    code = "ambiguous_call"

    def __init__(self, workflow_id: str, function_key: str, why: str) -> None:
        super().__init__(
            f"{function_key}: {why}; that was or may have been paid, and by policy (on_ambiguous) it is not sent "
            f"again. Remedy: check the provider's usage page, then run `fleet retry {workflow_id}`"
        )


class TooLarge(FleetError):
    """Something is larger than what Temporal carries."""

    code = "too_large"

    def __init__(self, what: str, size: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what}: {size:,} bytes, where Temporal carries {limit:,} at most. Remedy: {remedy}")


class JournalUnavailable(FleetError):
    """The journal cannot be written, so no call may be sent."""

    code = "journal_unavailable"
    retryable = True
    before_sending = True


class TemporalUnavailable(FleetError):
    """Temporal server connection failed."""

    code = "temporal_unavailable"
    retryable = True


class OperationError(FleetError):
    """An operator's command cannot be carried out."""

    code = "operation_failed"


def without_remedy(message: str) -> str:
    """What a message says, without its remedy and the full stop before it."""
    return message.partition("Remedy:")[0].strip().rstrip(".")


def remedy_in(message: str) -> str:
    """The remedy of a message; empty if it names none."""
    return message.partition("Remedy:")[2].strip().rstrip(".")
