"""Commands and workers where no fleet is up: what they refuse, and what they wait for."""

import os
import pty
import re
import signal
import subprocess
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.fleet import OPENAI_ALONE, Fleet
from tests.waiting import LONGEST_SECONDS, wait_for


def begun(idle: Fleet, program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A command as its users have it: from the start of its interpreter."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(BIN / program), *arguments], env=idle.variables, stdout=pipe, stderr=pipe, text=True
    )


def ended(process: "subprocess.Popen[str]") -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=LONGEST_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_the_command_says_which_release_it_is(idle: Fleet) -> None:
    done = idle.fleet("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"assistant-fleet {version('assistant-fleet')}")


def test_without_a_fleet_the_commands_say_how_to_get_one(idle: Fleet) -> None:
    for arguments in (("run", "t", "--project", "p"), ("status",)):
        done = ended(begun(idle, "fleet", *arguments))
        assert done.returncode == 1 and "`fleet up`" in done.stderr
    down = ended(begun(idle, "fleet", "down"))
    assert down.returncode == 0 and "nothing to end" in down.stdout


CSV_FILES = [
    (b"a,b\n1\n", "csv_data line 2 has 1 columns"),
    (b"a,b\n1,\x00\n", "control character"),
    (b'a,b\n"1,2\n', "cannot be read"),
    (bytes(range(128, 256)), "keywords.csv is not text in UTF-8 or cp1250. Remedy: save or export it as CSV"),
    (b"", "keywords.csv is empty. Remedy: name a file with a header and rows, or leave --csv out"),
    (b"a,b\n\n", "keywords.csv has a header and no rows. Remedy: add rows"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "keywords.csv is a PNG image, not a CSV"),
    ("\ufeffa;b\n1;2\n".encode("utf-16-le"), "keywords.csv is UTF-16 or UTF-32 text, not a CSV"),
    (b"a" * 5000, "csv_data has 5,000 letters and digits and no row of values"),
    (b"a\n" + b"x" * 1_000_000, "at most 1,000,000"),
]


@pytest.mark.parametrize(("content", "said"), CSV_FILES, ids=[said for _, said in CSV_FILES])
def test_a_csv_file_that_cannot_be_used_is_refused(idle: Fleet, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keywords.csv"
    path.write_bytes(content)
    done = idle.fleet("run", "Kávovar", "--project", "seo-demo", "--csv", str(path))
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


WRONG_SETTINGS = [
    ({"FLEET_MAX_ATTEMPTS": "zero"}, "", "FLEET_MAX_ATTEMPTS='zero'"),
    ({"FLEET_PROVIDERS__GROQ__KIND": "openai"}, "", "FLEET_PROVIDERS__GROQ__BASE_URL"),
    ({"TEMPORAL_HOST": "localhost"}, "", "must be host:port"),
    ({}, "max_attemts = 3\n", "unknown setting max_attemts"),
    ({}, "this is no TOML", "cannot be read"),
]


@pytest.mark.parametrize(
    ("environment", "toml", "said"), WRONG_SETTINGS, ids=[said for *_, said in WRONG_SETTINGS]
)
def test_a_wrong_setting_is_named_and_nothing_starts(
    idle: Fleet, tmp_path: Path, environment: dict[str, str], toml: str, said: str
) -> None:
    idle.environment = environment
    if toml:
        (tmp_path / "fleet.toml").write_text(toml, "utf-8")
    done = idle.fleet("up", "--port-base", str(idle.port_base))
    assert done.returncode == 78 and said in done.stderr and "Traceback" not in done.stderr
    assert not idle.state.exists()


def worker(idle: Fleet, module: str) -> "subprocess.Popen[str]":
    return begun(idle, "python", "-P", "-m", module)


def test_a_worker_waits_for_temporal_and_leaves_when_told(idle: Fleet) -> None:
    idle.environment = {"TEMPORAL_HOST": f"127.0.0.1:{idle.port_base}", "API_BASE_URL": "http://127.0.0.1:1"}
    process = worker(idle, "workers.pipeline")
    log = idle.state / "logs" / "pipeline.log"
    said = "Temporal server connection failed"
    wait_for("it says that Temporal is away", lambda: log.exists() and log.read_text("utf-8").count(said) >= 2)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log.read_text("utf-8")


def test_a_worker_without_a_backend_address_names_the_setting(idle: Fleet) -> None:
    done = ended(worker(idle, "workers.assistants"))
    assert done.returncode == 78
    assert "API_BASE_URL není nastavena" in done.stderr
    assert "Remedy" in done.stderr and "Traceback" not in done.stderr


def _left_of(idle: Fleet) -> list[str]:
    """The command lines of the processes that name its state folder or one of its ports."""
    own = re.compile(
        rf"{re.escape(str(idle.state))}|--port ({'|'.join(map(str, range(idle.port_base, idle.port_base + 5)))})\b"
    )
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            lines.append(process.read_text("utf-8", errors="replace").replace("\0", " "))
    return [line for line in lines if own.search(line) and "--port-base" not in line]


@pytest.mark.parametrize(
    ("command", "part", "number"),
    [("up", "temporal.db", signal.SIGHUP), ("demo", "supervisord.conf", signal.SIGTERM)],
)
def test_a_fleet_that_is_being_started_ends_with_its_command(
    idle: Fleet, command: str, part: str, number: signal.Signals
) -> None:
    """As with Ctrl-C: nothing is left up, such as a server that has its database locked."""
    idle.environment = OPENAI_ALONE
    up = begun(idle, "fleet", command, "--port-base", str(idle.port_base))
    wait_for(f"{part} is in use", lambda: any(part in line for line in _left_of(idle)))
    up.send_signal(number)
    done = ended(up)
    assert (done.returncode, done.stderr) == (128 + number, ""), done.stdout
    assert _left_of(idle) == [] and not (idle.state / "fleet.json").exists()


def test_a_fleet_in_the_foreground_ends_with_its_terminal(idle: Fleet) -> None:
    """What is said to a terminal that is gone is an error, which does not keep the fleet up."""
    idle.environment = OPENAI_ALONE
    inner, outer = pty.openpty()
    with os.fdopen(inner, "rb", buffering=0) as terminal:
        up = subprocess.Popen(
            [str(BIN / "fleet"), "up", "--port-base", str(idle.port_base)],
            env=idle.variables,
            preexec_fn=partial(os.login_tty, outer),
        )
        os.close(outer)
        said = b""
        while b"Ctrl-C ends it" not in said:
            said += terminal.read(1000)
    assert up.wait(LONGEST_SECONDS) == 0
    assert _left_of(idle) == [] and not (idle.state / "fleet.json").exists()


def test_a_fleet_in_the_foreground_ends_with_ctrl_c(idle: Fleet) -> None:
    """Also before it has said how it is reached and ended."""
    idle.environment = OPENAI_ALONE
    up = begun(idle, "fleet", "up", "--port-base", str(idle.port_base))
    assert up.stdout is not None
    said = ""
    while "\ncontrol " not in said:
        said += up.stdout.readline()
    up.send_signal(signal.SIGINT)
    rest = up.stdout.read()  # not `communicate`, which knows nothing of what `readline` has read ahead
    done = ended(up)
    assert (done.returncode, done.stderr) == (0, ""), rest
    assert "Ctrl-C ends it" in rest
    assert not (idle.state / "fleet.json").exists() and not (idle.state / "supervisor.sock").exists()
