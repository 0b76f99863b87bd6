"""One check of the doctor."""

from dataclasses import dataclass

#: Replaces an address that is missing or wrong in the settings; no request is sent to it.
NOT_SET = "not-set.invalid"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's output. ``remedy`` is empty if nothing needs to be done. ``because`` names the
    check that has the cause, if this one failed only for that."""

    what: str
    ok: bool
    says: str
    remedy: str = ""
    because: str = ""


def from_error(what: str, error: Exception) -> Check:
    """A failed check with an error's message and its remedy."""
    says, _, remedy = str(error).partition(" Remedy: ")
    return Check(what, False, says, remedy or "see the server's own log")


def unseen(what: str, why: str, because: str = "") -> Check:
    """A failed check for something that could not be checked; ``because`` names the check that has the cause."""
    return Check(what, False, f"cannot be looked at: {why}", "mend that first", because)
