"""What is installed is locked, comes as wheels, has an allowed licence, and can be audited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT
from scripts.check_licences import is_allowed
from scripts.read_audit import read

LOCKS = sorted((PROJECT_ROOT / "requirements").glob("*.txt"))
SOURCE_ONLY = {"supervisor-twiddler"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_locks_have_hashes_and_allow_wheels_only(lock: Path) -> None:
    first, *lines = lock.read_text("utf-8").splitlines()
    packages = [line for line in lines if "==" in line]
    source = {line.removeprefix("--no-binary ") for line in lines if line.startswith("--no-binary")}
    assert first == "--only-binary :all:" and source <= SOURCE_ONLY
    assert packages and all(line.endswith("\\") for line in packages), "each has a hash on the next line"


def test_pip_takes_no_source_that_is_not_named(tmp_path: Path) -> None:
    """pip reads the options from top to bottom; in the other order it would refuse the named package too."""
    for name in ("named", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "setup.py").write_text(f"from setuptools import setup\nsetup(name={name!r}, version='1')\n")
        sdist = [sys.executable, "setup.py", "-q", "sdist", "-d", str(tmp_path / "index")]
        subprocess.run(sdist, cwd=folder, check=True, capture_output=True)
    refused = {}
    for name in ("named", "other"):
        lock = tmp_path / "lock.txt"
        lock.write_text(f"--only-binary :all:\n--no-binary named\n{name}==1\n")
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-index", "--no-build-isolation", "-q"]
        where = ["-f", str(tmp_path / "index"), "-d", str(tmp_path / "got"), "-r", str(lock)]
        refused[name] = subprocess.run([*pip, *where], capture_output=True).returncode != 0
    assert refused == {"named": False, "other": True}


SOUND = {"name": "httpx", "version": "1", "vulns": []}
WEAK = {"name": "urllib3", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    "report", ["", "no JSON", "{}", '{"dependencies": []}', json.dumps({"dependencies": [SOUND, SKIPPED]})]
)
def test_an_audit_that_could_not_check_fails(report: str) -> None:
    status, (line,) = read("base", report)
    assert status == 2 and "not checked" in line and "Remedy: " in line


def test_an_audit_names_each_known_weakness_and_its_correction() -> None:
    assert read("base", json.dumps({"dependencies": [SOUND]}))[0] == 0
    status, (line,) = read("base", json.dumps({"dependencies": [SOUND, WEAK]}))
    assert status == 1 and "urllib3 1 has PYSEC-1. Remedy: use 2" in line


@pytest.mark.parametrize("licence", ["MIT", "MIT OR GPL-3.0-only", "Apache-2.0 AND MIT"])
def test_a_licence_that_is_allowed_passes(licence: str) -> None:
    assert is_allowed(licence)


@pytest.mark.parametrize(
    "licence", ["", "GPL-3.0-only", "MIT AND AGPL-3.0-only", "GPL-3.0-only AND (MIT OR ISC)", "Proprietary"]
)
def test_a_licence_that_is_not_allowed_is_refused(licence: str) -> None:
    assert not is_allowed(licence)
