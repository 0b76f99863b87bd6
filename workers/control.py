"""``python -m workers.control``: observes and operates this machine's part of the fleet."""

from fleet.control.web.server import serve
from fleet.process.runtime import run_temporal_process

if __name__ == "__main__":
    run_temporal_process("control", serve)
