"""An answer is paid: whatever is done with it besides handing it on may fail without losing it."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def answer_kept(what: str) -> Iterator[None]:
    """Do something with an answer; a failure is told of in the log, and goes no further.

    ``what`` is its name there, e.g. "counting the answer".
    """
    try:
        yield
    except Exception:
        logger.exception("{} failed; the answer is kept", what)
