"""``scripts/install.sh`` as root, on this machine as it is: in a mount namespace, whose changes go with it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.fake_releases import STEP_SECONDS, World

#: From here on all changes stay in memory, and systemd is out of reach. The release is there already.
BEGIN = r"""
set -euo pipefail
umask 077
memory=$1 checkout=$2 releases=$3 python=$4
mount -t tmpfs memory "$memory"
overlay() { # overlay FOLDER
    mkdir -p "$memory/$1/upper" "$memory/$1/work"
    chmod 755 "$memory/$1/upper"
    mount -t overlay overlay -o "lowerdir=/$1,upperdir=$memory/$1/upper,workdir=$memory/$1/work" "/$1"
}
for place in etc opt usr/local usr/bin var; do overlay "$place"; done
[ ! -d /run/systemd ] || mount -t tmpfs nothing /run/systemd
say() { printf '=== %s\n' "$1"; }
(umask 022 && mkdir -p /opt/seo-worker && cp -r "$releases" /opt/seo-worker)
rm -f /usr/bin/python3* /usr/local/bin/python3*
mkdir "$memory/private" && ln -s "$python" "$memory/private/python3"
cd "$checkout"
"""
SCRIPT = r"""
say refused
PATH=$PATH:$memory/private scripts/install.sh 2>&1 || echo "status $?"

say installed
(umask 022 && printf '#!/bin/sh\n' >/usr/local/bin/python3 && chmod 755 /usr/local/bin/python3)
scripts/install.sh
echo LOG_LEVEL=DEBUG >>/etc/seo-worker/environment

say again
scripts/install.sh

say places
cd /
stat -c '%n %U:%G %a' /etc/seo-worker /etc/seo-worker/environment /var/lib/seo-worker /var/log/seo-worker \
    /opt/seo-worker /opt/seo-worker/releases /usr/local/bin/fleet /usr/local/bin/fleet-supervisorctl \
    /etc/systemd/system/seo-worker.service
readlink /var/lib/seo-worker/logs
getent passwd seo-worker

say settings
cat /etc/seo-worker/environment

say command
fleet hello

say nobody
runuser -u nobody -- fleet hello 2>&1 || echo "status $?"

say collector
runuser -u seo-worker -- sh -c 'umask 027 && echo told >/var/log/seo-worker/openai_00.log'
useradd --system vector
usermod -aG seo-worker vector
runuser -u vector -- cat /var/log/seo-worker/openai_00.log
runuser -u vector -- ls /var/lib/seo-worker 2>&1 || true
runuser -u nobody -- cat /var/log/seo-worker/openai_00.log 2>&1 || true

say removed
cd "$checkout"
scripts/install.sh --uninstall
ls -d /opt/seo-worker /usr/local/bin/fleet /etc/systemd/system/seo-worker.service 2>/dev/null || true
ls -d /etc/seo-worker /var/lib/seo-worker /var/log/seo-worker

say purged
scripts/install.sh --uninstall --purge
ls -d /etc/seo-worker /var/lib/seo-worker /var/log/seo-worker 2>/dev/null || true
getent passwd seo-worker || true
"""


def said_by_root(world: World, script: str) -> dict[str, str]:
    """What each part of a script says that begins with ``say NAME``, run by root in a namespace of its own."""
    memory = world.folder / "memory"
    memory.mkdir()
    arguments = [str(memory), str(world.checkout), str(world.prefix / "releases"), sys.executable]
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", BEGIN + script, "root", *arguments],
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = (part.partition("\n") for part in done.stdout.split("=== ")[1:])
    return {name: said.strip() for name, _, said in parts}


def can_be_root() -> bool:
    probe = "mount -t tmpfs nothing /mnt"
    return (
        os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "sh", "-c", probe], check=False).returncode
    )


@pytest.fixture
def world() -> Iterator[World]:
    """In a folder that other users can enter, unlike those of pytest."""
    if not can_be_root():
        pytest.skip("needs root and mount namespaces")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        world = World(Path(folder))
        world.begin()
        yield world


def test_root_installs_uses_and_removes_it(world: World) -> None:
    release = world.commit()
    fake = world.prefix / "releases" / release / ".venv/bin/fleet"
    world.script(
        fake, '#!/bin/bash\necho "$(id -un) $(umask) $(pwd) $FLEET_STATE_DIR $FLEET_LOG_DIR $LOG_LEVEL $*"\n'
    )
    said = said_by_root(world, SCRIPT)

    assert "cannot run" in said["refused"] and "Remedy: " in said["refused"]
    assert said["refused"].endswith("status 1")
    assert f"installed {release} in /opt/seo-worker" in said["installed"]
    assert "now set API_BASE_URL" in said["installed"] and "now set" not in said["again"]
    assert "LOG_LEVEL=DEBUG" in said["settings"] and "API_BASE_URL=" in said["settings"]
    *places, user = said["places"].splitlines()
    assert places == [
        "/etc/seo-worker root:seo-worker 750",
        "/etc/seo-worker/environment root:seo-worker 640",
        "/var/lib/seo-worker seo-worker:seo-worker 700",
        "/var/log/seo-worker seo-worker:seo-worker 750",
        "/opt/seo-worker root:root 755",
        "/opt/seo-worker/releases root:root 755",
        "/usr/local/bin/fleet root:root 755",
        "/usr/local/bin/fleet-supervisorctl root:root 755",
        "/etc/systemd/system/seo-worker.service root:root 644",
        "/var/log/seo-worker",
    ]
    assert user.endswith(":/var/lib/seo-worker:/usr/sbin/nologin")
    state, logs = "/var/lib/seo-worker", "/var/log/seo-worker"
    assert said["command"] == f"seo-worker 0027 /etc/seo-worker {state} {logs} DEBUG hello"
    assert said["nobody"] == ("fleet: this is for root and for seo-worker. Remedy: sudo fleet hello\nstatus 1")
    told, *refused = said["collector"].splitlines()
    assert told == "told" and len(refused) == 2 and all("Permission denied" in line for line in refused)
    assert said["removed"].splitlines()[1:] == ["/etc/seo-worker", state, logs]
    assert said["purged"] == "removed, with its settings, journals and logs"


#: Everything that the clone's git starts writes down as whom.
SPY = """#!/bin/sh
echo "{name} $(id -u)" >>{marks}
{then}
"""
FOREIGN = r"""
say refused
scripts/install.sh 2>&1 || echo "status $?"
SUDO_UID=6 scripts/update.sh --ref main 2>&1 || echo "status $?"
ls -d /etc/seo-worker 2>/dev/null || true
getent passwd seo-worker || true

say sudo
(umask 022 && printf '#!/bin/sh\n' >/usr/local/bin/python3 && chmod 755 /usr/local/bin/python3)
chmod -R g+w .
SUDO_UID=5 scripts/install.sh
SUDO_UID=5 scripts/update.sh --ref main
find . ! -uid 5

say returned
chown root .git/FETCH_HEAD
SUDO_UID=5 scripts/update.sh --ref main 2>&1 || echo "status $?"

say readers
chmod o+w scripts/release.sh
SUDO_UID=5 scripts/install.sh 2>&1 || echo "status $?"
chmod o-w scripts/release.sh
chgrp users scripts/update.sh
SUDO_UID=5 scripts/install.sh 2>&1 || echo "status $?"
chgrp games scripts/update.sh
chmod 777 ..
SUDO_UID=5 scripts/install.sh 2>&1 || echo "status $?"
"""


def test_root_takes_no_foreign_clone_and_runs_nothing_of_its_git_configuration(world: World) -> None:
    release = world.commit()
    origin, marks = world.folder / "origin", world.folder / "marks"
    world.git("clone", "-q", "--bare", str(world.checkout), str(origin), at=world.folder)
    world.git("remote", "add", "origin", str(origin))
    for name, then in (("fsmonitor", "exit 1"), ("hook", ""), ("uploadpack", 'exec git-upload-pack "$@"')):
        world.script(world.folder / name, SPY.format(name=name, marks=marks, then=then))
    world.git("config", "core.fsmonitor", str(world.folder / "fsmonitor"))
    world.git("config", "remote.origin.uploadpack", str(world.folder / "uploadpack"))
    shutil.copy(world.folder / "hook", world.checkout / ".git/hooks/post-checkout")
    subprocess.run(["chown", "-hR", "5:60", str(world.checkout), str(origin)], check=True)
    marks.touch()
    marks.chmod(0o666)
    said = said_by_root(world, FOREIGN)

    foreign, other, *rest = (line for line in said["refused"].splitlines() if not line.startswith("status"))
    assert all("checkout belongs to games" in line and "Remedy: " in line for line in (foreign, other)), said
    assert said["refused"].count("status 1") == 2 and not rest, "something was made before it was refused"
    assert f"installed {release}" in said["sudo"] and "installed already" in said["sudo"]
    assert str(world.checkout) not in said["sudo"], "git left files of another user"
    assert {*marks.read_text("utf-8").splitlines()} == {"fsmonitor 5", "hook 5", "uploadpack 5"}
    assert f"sudo chown -hR games {world.checkout}/.git" in said["returned"]
    assert "scripts/release.sh belongs to another user, or can be written by others" in said["readers"]
    assert "scripts/update.sh belongs to another user, or can be written by others" in said["readers"]
    assert f"{world.folder} can be written by others" in said["readers"]
    assert said["readers"].count("status 1") == 3


#: What a build calls: a Python that writes down as whom it is run, and makes an environment.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    mkdir -p $4/bin $4/lib/python3/site-packages
    cp -- "$0" $4/bin/python
    ln -s /usr/bin/env $4/bin/python3 ;;
"-m pip" | "-m compileall")
    echo "$2 $(id -un) $HOME, secret: ${{SECRET:-none}}" >>{marks}
    chmod u+s $0
    [ ! -e {marks}.evil ] || ln -s /etc/planted .complete ;;
esac
"""
BUILDING = r"""
(umask 022 && cp "$checkout/../python" /usr/local/bin/python3)
marks=$checkout/../marks
touch "$marks"
chmod 666 "$marks"
SECRET=of-root scripts/install.sh
say built
cat "$marks"
say owners
find /opt/seo-worker/ ! -user root -o ! -type l -perm /6022
runuser -u seo-worker -- ls /opt/seo-worker/current/.venv/bin/python /opt/seo-worker/current/fleet.py
say linked
touch "$marks.evil"
rm -r /opt/seo-worker/releases/*
scripts/install.sh 2>&1 || echo "status $?"
[ ! -e /etc/planted ]
say purged
scripts/install.sh --uninstall --purge
getent passwd seo-worker-build || true
"""


def test_a_build_runs_as_a_user_of_its_own_and_its_result_is_roots(world: World) -> None:
    world.script(world.folder / "python", FAKE_PYTHON.format(marks=world.folder / "marks"))
    (world.prefix / "releases").mkdir(parents=True)
    (world.checkout / "fleet.py").touch()
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "first")
    said = said_by_root(world, BUILDING)

    assert {*said["built"].splitlines()} == {
        f"{what} seo-worker-build /nonexistent, secret: none" for what in ("pip", "compileall")
    }
    assert len(said["owners"].splitlines()) == 2, said["owners"]
    assert "the build has made ./.complete, a link" in said["linked"] and said["linked"].endswith("status 1")
    assert said["purged"] == "removed, with its settings, journals and logs"
