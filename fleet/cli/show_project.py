"""What the ``fleet project`` commands show to people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fleet.cli.show import shown

if TYPE_CHECKING:
    from fleet.cli.console import Console
    from fleet.cli.project_plan import ProjectPlan


def show_graph(console: Console, plan: ProjectPlan) -> None:
    """Print the steps of a project; the assistants of one step run at the same time."""
    console.say(f"{plan.project_id}: {len(plan.assistants)} assistants, fingerprint {plan.fingerprint}")
    steps = sorted({assistant.step for assistant in plan.assistants})
    for step in steps:
        for assistant in (found for found in plan.assistants if found.step == step):
            mark = "*" if assistant.function_key in plan.critical_path else " "
            read = ", ".join(assistant.reads) or "nothing"
            line = f"  step {step} {mark} {assistant.function_key} ({assistant.model})  <- {read}"
            console.say(line)
            for option, value in assistant.options.items():
                console.say(f"             {option} {json.dumps(value, ensure_ascii=False)}")
            for model, names in assistant.left_out.items():
                console.say(f"             its fallback {model} is asked without {', '.join(names)}")
    console.say(f"* critical path: {' -> '.join(plan.critical_path)}")


def show_estimates(console: Console, plan: ProjectPlan) -> None:
    """Print the estimated tokens and cost of one pipeline."""
    names = ("assistant", "model", "input tokens", "output tokens, at most", "cost, at most")
    table = Table(*names, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for assistant in plan.assistants:
        tokens = (str(assistant.input_tokens), str(assistant.output_tokens))
        table.add_row(shown(assistant.function_key), shown(assistant.model), *tokens, _usd(assistant.usd))
    console.print(table)
    csv = "with this CSV" if plan.csv_counted else "without a CSV"
    console.say(f"one pipeline costs about {_usd(plan.usd)} at most, by list prices and {csv}")


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"${amount:.4f}"
