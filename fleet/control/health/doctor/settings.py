"""Checks what the fleet was given: its settings and its packages."""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from operator import eq, ge, gt, le, lt, ne

from dotenv import dotenv_values

from fleet.config import variables
from fleet.control.health.doctor.check import Check
from fleet.near_names import nearest
from fleet.setting_files import CONFIG_VARIABLE, setting_files

_PACKAGE = "assistant-fleet"
#: Google's older SDK conflicts with newer versions of other packages, and replaces the newer SDK.
_INSTEAD = {"google-genai": "google-generativeai"}
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[.*?\])?\s*\(?([^;()]*)\)?")
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([\d.]+)")
_COMPARED: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": ge,
    "<=": le,
    "==": eq,
    "!=": ne,
    ">": gt,
    "<": lt,
}
_PREFIX = "FLEET_"
#: Variables that are not settings of the fleet: which file has them, and those of the scripts.
_OTHERS = {
    CONFIG_VARIABLE,
    "FLEET_UPDATE_PATIENCE_SECONDS",
    "FLEET_UPDATE_SIGNERS",
    "FLEET_MACHINES_DIR",
    "FLEET_TEST_PROCESSES",
}


def environment_checks(wrong: Sequence[str], doubtful: Sequence[str] = ()) -> Iterator[Check]:
    """Check settings and packages: one line for each thing that is wrong or doubtful, or one line in all."""
    yield from _settings(wrong)
    for warning in doubtful:
        says, _, remedy = warning.partition(" Remedy: ")
        yield Check("environment", True, says, remedy)
    yield _python()
    yield from _packages()


def _settings(wrong: Sequence[str]) -> Iterator[Check]:
    yield from (_complaint(line) for line in wrong)
    strange = unknown_variables()
    yield from (Check("environment", False, says, remedy) for says, remedy in strange)
    if not wrong and not strange:
        yield Check("environment", True, f"nothing is missing or wrong; {_given()}")


def unknown_variables() -> list[tuple[str, str]]:
    """What is wrong with the variables that are named like settings and are none, and the remedy of each."""
    known = {variable.removeprefix(_PREFIX): variable for variable in variables()}
    found = []
    for name in sorted(name for name in os.environ if name.startswith(_PREFIX) and not _is_setting(name)):
        near = nearest(name.removeprefix(_PREFIX), known)
        hint = f" (did you mean {known[near]}?)" if near else ""
        found.append((f"{name} is not a setting", f"correct its name, or remove it{hint}"))
    return found


def _given() -> str:
    """The variables that are set, and in which of the three sources, without their values."""
    found = [f"in {source} {', '.join(names)}" for source, names in _set_by_source().items() if names]
    return f"set are {'; '.join(found)}" if found else "no setting is set, so all have their defaults"


def _set_by_source() -> dict[str, list[str]]:
    """The names of what is set in each source; a source that cannot be read is reported elsewhere."""
    env_file: set[str] = set()
    toml: set[str] = set()
    files = setting_files()
    with suppress(OSError, ValueError):
        env_file = {*dotenv_values(files.env)}
        toml = {*tomllib.loads(files.toml.read_text("utf-8"))}
    return {
        "the environment": sorted(filter(_is_variable, os.environ)),
        str(files.env): sorted(filter(_is_variable, env_file)),
        str(files.toml): sorted(toml),
    }


def _is_variable(name: str) -> bool:
    return name in variables() or name.startswith(("FLEET_PROVIDERS__", "TEMPORAL_"))


def _complaint(line: str) -> Check:
    says, _, remedy = line.partition(" Remedy: ")
    return Check("environment", False, says, remedy or "correct it in the environment, .env or fleet.toml")


def _is_setting(variable: str) -> bool:
    return _is_variable(variable) or variable in _OTHERS


def _python() -> Check:
    wanted, there = metadata(_PACKAGE)["Requires-Python"], sys.version.split()[0]
    ok = fits(there, wanted)
    return Check("Python", ok, f"{there}, {wanted} is asked for", "" if ok else "install that and make .venv anew")


def _packages() -> Iterator[Check]:
    """Compare the requirements of the installed package with what is installed."""
    fine, wrong = [], []
    for name, wanted in required():
        there = _version(name) or _version(_INSTEAD.get(name, name))
        if there is None:
            wrong.append(f"{name} is missing")
        elif _version(name) is not None and not fits(there, wanted):
            wrong.append(f"{name} is {there}, {wanted} is asked for")
        else:
            fine.append(f"{name} {there}")
    remedy = "install the release anew: scripts/update.sh, or requirements/base.txt into .venv"
    yield from (Check("packages", False, says, remedy) for says in wrong)
    if not wrong:
        yield Check("packages", True, f"{_PACKAGE} {_version(_PACKAGE)} with {', '.join(fine)}")


def required() -> Iterator[tuple[str, str]]:
    """Each package that the fleet always needs, with the required versions."""
    for requirement in requires(_PACKAGE) or []:
        found = _REQUIREMENT.match(requirement)
        if found and ";" not in requirement:  # a requirement with a semicolon belongs to an extra
            yield found[1], found[2].strip()


def fits(there: str, wanted: str) -> bool:
    """Whether a version satisfies a requirement such as ``>=1.35,<2``."""
    return all(
        _COMPARED[how](*_same_length(_numbers(there), _numbers(bound))) for how, bound in _CLAUSE.findall(wanted)
    )


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _same_length(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    most = max(len(first), len(second))
    return first + (0,) * (most - len(first)), second + (0,) * (most - len(second))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
