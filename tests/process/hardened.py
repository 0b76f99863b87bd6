"""Starts a command within the bounds that a systemd unit sets and that a process can set itself: ``python
hardened.py UNIT COMMAND...``, with its environment, folder, umask, system calls and memory protection."""

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Source: seccomp_init(3), prctl(2).
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 38, 65


def settings_of(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.+)$", unit.read_text("utf-8"), re.MULTILINE)


def setting_of(unit: Path, name: str) -> str:
    (value,) = settings_of(unit, name)
    return value


def can_filter() -> bool:
    """Whether the system calls can be looked up and filtered here."""
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return shutil.which("systemd-analyze") is not None


def calls_of(name: str) -> Iterator[str]:
    """The system calls of a set such as @system-service."""
    if not name.startswith("@"):
        yield name
        return
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines()[1:]:
        if (word := line.strip()) and not word.startswith("#"):
            yield from calls_of(word)


def allowed_calls(unit: Path) -> set[str]:
    """What the unit's filter lets pass. Source: systemd.exec(5), SystemCallFilter."""
    allowed = set(calls_of("@default"))
    for line in settings_of(unit, "SystemCallFilter"):
        named = {call for name in line.lstrip("~").split() for call in calls_of(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def refuse_all_but(allowed: set[str]) -> None:
    seccomp, libc = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_REFUSE))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(context, _ALLOW, number, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # the kernel may be too old for it
    assert seccomp.seccomp_load(context) == 0


def main(unit: Path, command: list[str]) -> None:
    variables = dict(word.split("=", 1) for word in setting_of(unit, "Environment").split())
    lines = Path(setting_of(unit, "EnvironmentFile")).read_text("utf-8").splitlines()
    variables |= dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    os.chdir(setting_of(unit, "WorkingDirectory"))
    os.umask(int(setting_of(unit, "UMask"), 8))
    files = int(setting_of(unit, "LimitNOFILE"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, most), most))
    if can_filter():
        refuse_all_but(allowed_calls(unit))
    os.execve(command[0], command, os.environ | variables)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
