"""A checkout whose releases have a fake for their ``fleet`` command, and a machine where they are installed."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fleet.config import PROJECT_ROOT

STEP_SECONDS = 60
#: Its words are those of the test's world: `health` shows a file, `roll` runs a script, and each is written down.
FAKE_FLEET = """#!/bin/bash
world={world}
echo "{release} $1" >>$world/calls
case "$1" in
health) if [ -s $world/health ]; then cat $world/health; exit 1; else echo ok; fi ;;
replay) . $world/on_replay ;;
roll) release={release}; . $world/on_roll ;;
esac
"""
#: `status` shows a file, where there is one.
FAKE_SUPERVISORCTL = """#!/bin/sh
[ ! -e {world}/nothing_runs ] || exit 1
[ "$3" != status ] || cat {world}/status 2>/dev/null
"""


@dataclass
class World:
    """An installed machine below ``root``, a checkout that is ahead of it by one commit, and what happens."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def prefix(self) -> Path:
        return self.root / "opt/seo-worker"

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def current(self) -> str:
        return (self.prefix / "current").readlink().name

    @property
    def releases(self) -> set[str]:
        return {path.name for path in (self.prefix / "releases").iterdir()}

    def begin(self) -> None:
        """Make the checkout, and the machine's folders."""
        for folder in ("scripts", "deploy/systemd", "requirements"):
            shutil.copytree(PROJECT_ROOT / folder, self.checkout / folder)
        shutil.copy(PROJECT_ROOT / "pyproject.toml", self.checkout)
        for place in (
            "opt/seo-worker",
            "etc/seo-worker",
            "etc/systemd/system",
            "usr/local/bin",
            "var/lib/seo-worker",
        ):
            (self.root / place).mkdir(parents=True)
        (self.root / "etc/seo-worker/environment").write_text("API_BASE_URL=https://backend:1\n", "utf-8")
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.happens("on_roll", "")
        self.happens("on_replay", "echo '9 histories replayed, 0 failed'")

    def calls(self, what: str) -> list[str]:
        """The releases whose ``fleet`` was told so, in order."""
        lines = (self.folder / "calls").read_text("utf-8").splitlines()
        return [release for release, _, command in (line.partition(" ") for line in lines) if command == what]

    @property
    def calls_at_all(self) -> bool:
        """Whether any ``fleet`` was told anything."""
        return (self.folder / "calls").exists()

    def git(self, *arguments: str, at: Path | None = None) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=at or self.checkout, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, at: Path | None = None) -> str:
        """One commit more; the name of the release that it would make, which is there already."""
        self.git("commit", "-q", "--allow-empty", "-m", "change", at=at)
        return self.place_release(at)

    def place_release(self, at: Path | None = None) -> str:
        """The name of the present commit's release, which is there from now on."""
        release = f"{version('assistant-fleet')}-{self.git('rev-parse', '--short=12', 'HEAD', at=at)}"
        bin_folder = self.prefix / "releases" / release / ".venv/bin"
        bin_folder.mkdir(parents=True)
        self.script(bin_folder / "fleet", FAKE_FLEET.format(world=self.folder, release=release))
        self.script(bin_folder / "supervisorctl", FAKE_SUPERVISORCTL.format(world=self.folder))
        shutil.copytree(PROJECT_ROOT / "deploy/systemd", self.prefix / "releases" / release / "deploy/systemd")
        (self.prefix / "releases" / release / ".complete").touch()
        return release

    def script(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        path.chmod(0o755)

    def happens(self, event: str, text: str) -> None:
        """Bash that runs in the fake; ``$release`` is whose ``roll`` it is."""
        (self.folder / event).write_text(f"{text}\n", "utf-8")

    def is_ill(self, *problems: str) -> None:
        (self.folder / "health").write_text("".join(f"{problem}\n" for problem in problems), "utf-8")

    def start(self, *options: str, patience: int = 1) -> "Started":
        command = ["scripts/update.sh", "--root", str(self.root), *options]
        environment = os.environ | {"FLEET_UPDATE_PATIENCE_SECONDS": str(patience)}
        said = self.folder / "said"
        with said.open("w") as log:
            return Started(
                subprocess.Popen(command, cwd=self.checkout, env=environment, stdout=log, stderr=log), said
            )

    def update(self, *options: str) -> tuple[int, str]:
        return self.start(*options).end()

    def rolls(self) -> bool:
        """Whether a fake roll has begun that says so."""
        return (self.folder / "rolling").exists()


@dataclass
class Started:
    """An update at work; what it says goes to a file, since what it starts may outlive it."""

    process: "subprocess.Popen[bytes]"
    file: Path

    def end(self) -> tuple[int, str]:
        """Its exit status and what it said."""
        status = self.process.wait(STEP_SECONDS)
        return status, self.file.read_text("utf-8")
