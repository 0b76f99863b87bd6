"""Keeps a paid answer if the bookkeeping after it fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def answer_kept(what: str) -> Iterator[None]:
    """Log an exception of the block instead of raising it. ``what`` names the block in the log."""
    try:
        yield
    except Exception:
        logger.exception("{} failed; the answer is kept", what)
