"""Files that readers find whole: the old content or the new, never a part."""

import os
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a temporary file beside ``path`` and rename it to ``path``. Nothing is left behind when it fails.
    ``mode`` is that of the new file, less the process's umask.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.touch(mode=mode)
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
