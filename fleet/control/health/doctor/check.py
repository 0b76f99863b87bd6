"""One line of the doctor's."""

from dataclasses import dataclass

#: What stands for an address that is missing or wrong in the settings; nobody asks there.
NOT_SET = "not-set.invalid"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's. ``remedy`` is empty where nothing needs to be done."""

    what: str
    ok: bool
    says: str
    remedy: str = ""


def from_error(what: str, error: Exception) -> Check:
    """What an error says, and its remedy."""
    says, _, remedy = str(error).partition(" Remedy: ")
    return Check(what, False, says, remedy or "see the server's own log")


def unseen(what: str, why: str) -> Check:
    """What could not be looked at is a problem of its own."""
    return Check(what, False, f"cannot be looked at: {why}", "mend that first")
