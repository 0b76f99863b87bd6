"""Writes a process's log as the fleet's processes do: ``python log_writer.py PROCESS LINES A_SECOND ENOUGH``.

It writes at least so many lines and goes on until the file ENOUGH is there; how many it wrote is what it prints.
"""

import sys
import time
from itertools import count
from pathlib import Path

from loguru import logger

from fleet.config import load_settings
from fleet.process.logging import setup_logging


def main(process: str, lines: int, a_second: int, enough: Path) -> None:
    """Write them."""
    setup_logging(load_settings(), process)
    began = time.monotonic()
    for number in count():
        if number >= lines and enough.exists():
            break
        logger.bind(workflow_id=f"seo-{number % 7}").info("line {} of {}", number, process)
        ahead = number / a_second - (time.monotonic() - began)
        if ahead > 0.05:
            time.sleep(ahead)
    print(number)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
