"""Finds mistakes in supervisord's files that supervisord itself accepts silently.

Source: supervisord.org/configuration.html.
"""

import configparser

from fleet.config import Settings
from fleet.control.supervision.programs import TRACKED_PROGRAMS, programs_of
from fleet.control.supervision.supervisord_home import Home

_PROCESS = (
    "command process_name numprocs numprocs_start priority autostart startsecs startretries autorestart exitcodes "
    "stopsignal stopwaitsecs stopasgroup killasgroup user redirect_stderr stdout_logfile stdout_logfile_maxbytes "
    "stdout_logfile_backups stdout_capture_maxbytes stdout_events_enabled stdout_syslog stderr_logfile "
    "stderr_logfile_maxbytes stderr_logfile_backups stderr_capture_maxbytes stderr_events_enabled stderr_syslog "
    "environment directory umask serverurl"
)
_KEYS = {
    "unix_http_server": "file chmod chown username password",
    "supervisord": (
        "logfile logfile_maxbytes logfile_backups loglevel pidfile umask nodaemon silent minfds minprocs "
        "nocleanup childlogdir user directory strip_ansi environment identifier"
    ),
    "supervisorctl": "serverurl username password prompt history_file",
    "include": "files",
    "program": _PROCESS,
    "eventlistener": f"{_PROCESS} buffer_size events result_handler",
    "group": "programs priority",
}
# Sections whose keys depend on the plugin that they name.
_OPEN = ("rpcinterface", "ctlplugin")
_EVERY_PROGRAM = ("logs", "guardian")


def lint(home: Home, settings: Settings) -> list[str]:
    """The problems in the files, one line each; empty if there are none."""
    if not home.configuration.exists():
        return [f"{home.configuration} is not there"]
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=False)
    try:
        parser.read([home.configuration, *sorted(home.programs.glob("*.conf"))], "utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        return [str(error).splitlines()[0]]
    found = [problem for section in parser.sections() for problem in _section(parser, section, settings)]
    there = {section.partition(":")[2] for section in parser.sections()}
    return found + [f"no program {name}" for name in [*TRACKED_PROGRAMS, *_EVERY_PROGRAM] if name not in there]


def providers_without_program(home: Home, settings: Settings) -> list[str]:
    """The added providers that were configured after the fleet was started, which writes their programs."""
    added = [provider.name for provider in settings.added_providers]
    return [name for name in added if not (home.programs / f"{name}.conf").exists()]


def _section(parser: configparser.RawConfigParser, section: str, settings: Settings) -> list[str]:
    kind = section.partition(":")[0]
    if kind == "inet_http_server":
        return ["[inet_http_server] opens process control to the network: remove it, the socket is enough"]
    if kind in _OPEN:
        return []
    if kind not in _KEYS:
        return [f"unknown section [{section}]"]
    known = _KEYS[kind].split()
    found = [f"unknown key {key} in [{section}]" for key in parser.options(section) if key not in known]
    name = section.partition(":")[2]
    if kind == "program" and name in programs_of(settings):
        wait = parser.getint(section, "stopwaitsecs", fallback=10)
        if wait <= settings.drain_seconds:
            found.append(
                f"stopwaitsecs {wait} of {name} must exceed FLEET_DRAIN_SECONDS {settings.drain_seconds:g}"
            )
    return found
