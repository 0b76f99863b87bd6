"""``fleet results --topics``: the outputs of all pipelines of a topics file, and an index of them."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

from fleet.cli.look_back import detail_for
from fleet.cli.output import print_json
from fleet.cli.show import console_for
from fleet.cli.topics import Row
from fleet.config import Settings
from fleet.control.pipelines.result_files import Format, write_index, write_result
from fleet.errors import OperationError
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process.temporal_connection import connect_once

_AT_ONCE = 20
INDEX = ("row", "topic", "workflow_id", "state", "cost_usd", "simulated_cost_usd", "file")


def write_all(settings: Settings, rows: list[Row], form: Format, folder: Path, *, as_json: bool) -> int:
    """Write a file for each pipeline that has completed, and ``index.csv`` of all; the exit status is 1 if one has
    not completed."""
    index = asyncio.run(_write_all(settings, rows, form, folder))
    text = io.StringIO()
    writer = csv.DictWriter(text, INDEX, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in each.items()} for each in index)
    write_index(folder, text.getvalue())
    written = sum(bool(each["file"]) for each in index)
    if as_json:
        print_json({"written": written, "missing": len(index) - written, "index": str(folder / "index.csv")})
    else:
        console_for().say(f"wrote {written} of {len(index)} results to {folder}, and index.csv of all of them")
    return EXIT_OK if written == len(index) else EXIT_FAILED


async def _write_all(settings: Settings, rows: list[Row], form: Format, folder: Path) -> list[dict[str, Any]]:
    client, at_once = await connect_once(settings), asyncio.Semaphore(_AT_ONCE)

    async def write(row: Row) -> dict[str, Any]:
        known: dict[str, Any] = {"row": row.number, "topic": row.topic, "workflow_id": row.workflow_id}
        async with at_once:
            try:
                detail = await detail_for(client, settings, row.workflow_id)
            except OperationError:
                return known | {"state": "unknown", "cost_usd": "", "simulated_cost_usd": "", "file": ""}
            spent, file = detail["spent"], ""
            if detail["status"] == "completed":
                file = (await asyncio.to_thread(write_result, detail, form, folder)).name
            costs = {name: spent[name] for name in ("cost_usd", "simulated_cost_usd")}
            return known | {"state": detail["status"], **costs, "file": file}

    return await asyncio.gather(*map(write, rows))


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
