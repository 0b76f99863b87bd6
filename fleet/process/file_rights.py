"""The rights of the files that this project's processes create."""

import os

#: Nothing for others than the user and the group; a stricter umask, such as systemd's, stays as it is.
_WITHHELD = 0o027


def withhold_from_others() -> None:
    """Create all further files without rights for other users. To be called before the first file is created:
    supervisord sets its ``umask`` only when it becomes a daemon, which it does not here."""
    os.umask(os.umask(_WITHHELD) | _WITHHELD)
