"""How long an operator's looks take: ``fleet status``, ``fleet top --once``, the page's list and one pipeline."""

import time
from collections.abc import Callable
from urllib.parse import quote

from tests.fleet import Fleet


def look_seconds(fleet: Fleet, workflow_id: str) -> dict[str, float]:
    """Seconds of each look, once. The commands are forked from a process that has their modules already."""

    def command(*arguments: str) -> Callable[[], None]:
        def run() -> None:
            done = fleet.fleet(*arguments)
            assert done.stdout, done.stderr

        return run

    def request(path: str) -> Callable[[], None]:
        return lambda: fleet.control(path).raise_for_status() and None

    looks = {
        "status": command("status", "--json"),
        "top": command("top", "--once"),
        "list": command("list", "--json"),
        "page_state": request("api/state"),
        "page_list": request("api/pipelines"),
        "page_pipeline": request(f"api/pipeline?workflow_id={quote(workflow_id)}"),
    }
    return {name: _seconds_of(look) for name, look in looks.items()}


def _seconds_of(look: Callable[[], None]) -> float:
    began = time.monotonic()
    look()
    return round(time.monotonic() - began, 3)
