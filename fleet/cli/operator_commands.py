"""Commands for the operator of a fleet: show its state, control its queues and processes, read its logs.

Each command imports what it needs when it runs: importing everything takes a second of CPU time, even for
``--help``.
"""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import Json, print_json
from fleet.errors import OperationError
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.terminal import write_error, write_line

if TYPE_CHECKING:
    from fleet.cli import limits as budgets
    from fleet.config import Settings
    from fleet.control.logs.log_files import LogRecord

#: As many log lines as fit into memory with ease.
MAX_LINES = 1_000_000
PAUSED = "paused by the operator"

app = typer.Typer()


@app.command()
def status(
    all_machines: Annotated[
        bool, typer.Option("--all", help="Ask the other machines of the fleet too, and count their problems.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show Temporal, backend, processes and queues; the exit status is 1 if there is a problem."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for, show_status
    from fleet.control.health.status import status_of

    settings, _ = find_fleet()
    found = asyncio.run(status_of(settings, others_too=all_machines))
    if as_json:
        print_json(found.to_json())
    else:
        show_status(console_for(), found, in_all=all_machines)
    well = not found.problems() and not any(machine.told and machine.told.problems for machine in found.machines)
    raise typer.Exit(EXIT_OK if well else EXIT_FAILED)


@app.command()
def top(
    once: Annotated[
        bool, typer.Option("--once", help="Show it once; so it is where there is no terminal.")
    ] = False,
    all_machines: Annotated[bool, typer.Option("--all", help="Show the other machines of the fleet too.")] = False,
    as_json: Json = False,
) -> None:
    """Show providers, backlog, pipelines and errors, live; q ends it."""
    from fleet.cli import top as watching
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    if as_json:
        print_json(watching.Watched(settings).look())
    elif once or not console_for().is_terminal:
        watching.show_once(console_for(), settings, in_all=all_machines)
    else:
        watching.show_live(console_for(), settings, in_all=all_machines)


@app.command()
def page() -> None:
    """Print a link to the page of this machine's fleet; it logs one browser in, once, within 15 minutes."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.page import page_link, refuse_no_page

    settings, _ = find_fleet()
    refuse_no_page(settings)
    write_line(page_link(settings))


Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="openai, anthropic, gemini, or an added one.")]


@app.command()
def limits(
    provider: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", help="All of them without it.")] = None,
    rpm: Annotated[float | None, typer.Option(min=0.1, help="Requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(min=1, help="Tokens a minute, as the provider counts them.")] = None,
    input_tpm: Annotated[float | None, typer.Option(min=1, help="Input tokens a minute.")] = None,
    output_tpm: Annotated[float | None, typer.Option(min=1, help="Output tokens a minute.")] = None,
    model: Annotated[str | None, typer.Option(help="Of a model with limits of its own.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the limits of the settings.")] = False,
    as_json: Json = False,
) -> None:
    """Show what each queue dispatches and why; with options, set a provider's limits for the whole fleet."""
    from fleet.cli import limits as budgets
    from fleet.cli.find_fleet import find_fleet
    from fleet.contracts import LimitSettings

    settings, _ = find_fleet()
    given = LimitSettings(rpm, tpm, input_tpm, output_tpm)
    if not given.refills() and not reset:
        _show_limits(settings, asyncio.run(budgets.see(settings, provider)), as_json=as_json)
        return
    if provider is None:
        raise OperationError("whose limits? Remedy: name the provider, e.g. `fleet limits openai --rpm 500`")
    _show_limits(
        settings, asyncio.run(budgets.change(settings, provider, model, given, reset=reset)), as_json=as_json
    )


@app.command()
def pause(
    provider: Provider,
    why: Annotated[str, typer.Option(help="Shown to everybody who asks.")] = PAUSED,
    as_json: Json = False,
) -> None:
    """Stop dispatching a provider's calls, on all machines; calls in flight finish as usual."""
    from fleet.cli import limits as budgets
    from fleet.cli.find_fleet import find_fleet

    settings, _ = find_fleet()
    _show_limits(settings, asyncio.run(budgets.shut(settings, provider, why.strip() or PAUSED)), as_json=as_json)


@app.command()
def resume(provider: Provider, as_json: Json = False) -> None:
    """Dispatch a provider's calls again, after a pause, a spent quota or a rejected key."""
    from fleet.cli import limits as budgets
    from fleet.cli.find_fleet import find_fleet

    settings, _ = find_fleet()
    _show_limits(settings, asyncio.run(budgets.open_again(settings, provider)), as_json=as_json)


def _show_limits(settings: "Settings", budget_statuses: "budgets.BudgetStatuses", *, as_json: bool) -> None:
    from fleet.cli import limits as budgets
    from fleet.cli.show import console_for
    from fleet.control.health.status import cut_off_queues

    cut_off = cut_off_queues(settings)
    if as_json:
        print_json(budgets.to_json(budget_statuses, cut_off))
    else:
        budgets.show_budget_statuses(console_for(), budget_statuses, cut_off)


@app.command()
def scale(
    program: Annotated[str, typer.Argument(help="A program, such as openai; see `fleet status`.")],
    count: Annotated[int, typer.Argument(help="How many processes it shall have on this machine.")],
) -> None:
    """Set the number of a program's processes; those that stay keep their calls, others finish theirs first."""
    from fleet.cli import scale_and_roll
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    scale_and_roll.scale(settings, program, count, console_for())


@app.command()
def roll(
    programs: Annotated[list[str] | None, typer.Argument(help="All of them without it.")] = None,
) -> None:
    """Replace processes after an update or a change of settings, without a pause or a lost call."""
    from fleet.cli import scale_and_roll
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    scale_and_roll.renew(settings, programs or [], console_for())


@app.command()
def supervise() -> None:
    """Run supervisord with the fleet's programs in the foreground, as systemd and containers do."""
    from fleet.cli import supervise as supervision
    from fleet.cli.show import console_for

    supervision.supervise(console_for().say)


@app.command()
def replay(as_json: Json = False) -> None:
    """Replay recorded and open workflows on this release; the exit status is 1 if one cannot continue on it."""
    from fleet.cli import scale_and_roll
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    done = asyncio.run(scale_and_roll.replay_all(settings))
    if as_json:
        print_json(asdict(done))
    else:
        console = console_for()
        for name, said in done.failures.items():
            console.say(f"{name}: {said}")
        console.say(f"{done.count} histories replayed, {len(done.failures)} failed")
    raise typer.Exit(EXIT_FAILED if done.failures else EXIT_OK)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything that a fleet on this machine needs; the exit status is 1 if something is wrong."""
    from fleet.cli.find_fleet import find_anyhow
    from fleet.cli.show import console_for, show_checks
    from fleet.control.health.doctor import examine

    settings, wrong = find_anyhow()
    checks = asyncio.run(examine(settings, wrong))
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        show_checks(console_for(), checks)
    raise typer.Exit(EXIT_OK if all(check.ok for check in checks) else EXIT_FAILED)


@app.command()
def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    workflow: Annotated[str | None, typer.Option(help="Of pipelines whose id contains this.")] = None,
    provider: Annotated[str | None, typer.Option(help="Of one provider.")] = None,
    process: Annotated[str | None, typer.Option(help="Of one process, such as openai_00.")] = None,
    level: Annotated[str, typer.Option(help="This level and above.")] = "DEBUG",
    since: Annotated[str | None, typer.Option(help="10m, 2h, 1d, or a local time; all of it.")] = None,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, max=MAX_LINES, help="Without --since, the last so many.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show the logs of all processes of this machine, merged in order of time."""
    from fleet.cli import logs as logbook
    from fleet.cli.find_fleet import settings_for_embedded
    from fleet.control.logs.log_files import Wanted

    settings = settings_for_embedded()
    begin = logbook.moment(since) if since is not None else None
    wanted = logbook.known(settings, Wanted(workflow, provider, process, logbook.level(level), begin))

    def show(record: "LogRecord") -> None:
        if as_json:
            print_json(record.to_json())
        else:
            write_line(record.text)

    found, readers = logbook.past(settings, wanted, None if since is not None else lines)
    for record in found:
        show(record)
    if not found and lines and not follow:
        write_error("fleet: no line of the logs matches. Remedy: see all of them with `fleet logs`")
    if follow:
        logbook.follow(settings, wanted, readers, show)


@app.command()
def health(as_json: Json = False) -> None:
    """Ask the control process whether this machine is healthy; the exit status is 1 if it is not."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for
    from fleet.control.health.readiness import health_check

    settings, _ = find_fleet()
    found = health_check(settings)
    if as_json:
        print_json(found.to_json())
    else:
        console_for().say("\n".join(found.problems) or "ok")
    raise typer.Exit(EXIT_OK if found else EXIT_FAILED)
