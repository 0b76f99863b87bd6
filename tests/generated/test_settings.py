"""What stands in the environment, .env and fleet.toml is settings or is refused by a line for each wrong thing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from fleet.cli.find_fleet import find_anyhow
from fleet.config import Settings, load_settings, variables
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import FleetError, SettingsError
from fleet.process.child_environment import fleet_environment
from tests.generated.inputs import TEXTS, check_each

SECRET = "hunter2-hunter2-hunter2"
PROVIDER_KEYS = [
    "KIND",
    "BASE_URL",
    "QUEUE",
    "CONCURRENCY",
    "RPM",
    "TPM",
    "MODELS",
    "MODELS__GPT-4O__RPM",
    "TIMEOUT_SECONDS",
    "API",
    "SDK",
    "NEEDS_KEY",
    "API_KEY_FILE",
    "BACKGROUND",
    "ENABLED",
    "SIMULATE",
    "PRICES",
    "ALLOW_HTTP",
    "BASEURL",
    "",
]
NAMES = (
    st.sampled_from(variables())
    | st.builds(
        "FLEET_PROVIDERS__{}__{}".format,
        st.sampled_from(["OPENAI", "GROQ", "BAD NAME", "", "PIPELINE", "x" * 60]),
        st.sampled_from(PROVIDER_KEYS),
    )
    | st.sampled_from(
        ["FLEET_PROVIDERS", "FLEET_", "FLEET__", "TEMPORAL_TLS", "TEMPORAL_ADDRESS", "fleet_log_dir"]
    )
)
VALUES = TEXTS | st.sampled_from(
    [
        "true",
        "1",
        "0",
        "10",
        "3.5",
        "1e400",
        "-0",
        "nan",
        "inf",
        "١٠",
        "9" * 5_000,
        "http://localhost:1",
        "http://example.com",
        "https://user:hunter2-hunter2-hunter2@example.com",
        "https://[::1",
        "https://[v1.x]:8000",
        "http://localhost:99999",
        "https://ex ample.com",
        "https://example.com:x",
        "localhost:7233",
        "[::1]:7233",
        "/nowhere/x",
        "..",
        "openai",
        "gemini",
        "responses",
        "{}",
        "[]",
        "null",
        '{"a": {"rpm": 1}}',
        '{"input": 1, "output": "x"}',
        "[" * 5_000,
        '{"openai": {"models": {"m": {"rpm": -1}}}}',
        "a,b, ,c",
        "text",
        "DEBUG",
        "warning",
    ]
)
#: Settings that a fleet can have, of which some are changed.
GOOD = {
    "API_BASE_URL": "http://localhost:1",
    "TEMPORAL_HOST": "localhost:7233",
    "LOG_LEVEL": "DEBUG",
    "FLEET_PROVIDERS__OPENAI__RPM": "10",
    "FLEET_PROVIDERS__OPENAI__BASE_URL": "https://example.com/v1",
    "FLEET_PROVIDERS__GROQ__KIND": "openai",
    "FLEET_PROVIDERS__GROQ__BASE_URL": "https://example.com/v1",
}
GOOD_TOML = [
    "log_level = 'DEBUG'",
    "[providers.openai]",
    "base_url = 'https://example.com/v1'",
    "rpm = 10",
    "models = {m = {rpm = 1}}",
]
TOML_LINES = st.sampled_from(
    [
        "log_level = 'DEBUG'",
        "api_base_url = 'http://localhost:1'",
        "[providers.openai]",
        "[providers.groq]",
        "[providers]",
        "[[providers]]",
        "base_url = 'https://example.com'",
        "kind = 'openai'",
        "rpm = 10",
        "rpm = inf",
        "models = {m = {rpm = 1}}",
        "models = 5",
        "x = 1979-05-27T07:32:00Z",
        "providers = 5",
        "state_dir = ''",
        "a = [" + "[" * 2_000,
        "log_level = ",
        "\udc80",
    ]
)


@dataclass(frozen=True)
class Given:
    """Variables of the environment, and the lines of both files; ``doctor``: read as it reads them, too."""

    environment: dict[str, str]
    env_file: list[str]
    toml: list[str]
    doctor: bool


def storable(text: str) -> bool:
    return "\0" not in text and text.isprintable() | ("\n" in text) and "\ud800" not in text


@st.composite
def given_settings(draw: st.DrawFn) -> Given:
    """The good settings, divided between the environment and the files, with some changed or added."""
    pairs = st.tuples(NAMES.filter(bool) | st.sampled_from(sorted(GOOD)), VALUES.filter(storable))
    in_file = draw(st.sets(st.sampled_from(sorted(GOOD))))
    environment = {name: value for name, value in GOOD.items() if name not in in_file}
    environment |= dict(draw(st.lists(pairs, max_size=2)))
    further = draw(st.lists(pairs, max_size=1)) if draw(st.booleans()) else []
    env_file = [f"{name}={value}" for name, value in [*((name, GOOD[name]) for name in sorted(in_file)), *further]]
    toml = list(GOOD_TOML) if draw(st.booleans()) else []
    if draw(st.booleans()):
        place = draw(st.integers(0, len(toml)))
        toml[place : place + draw(st.integers(0, 1))] = draw(st.lists(TOML_LINES, max_size=2))
    return Given(environment, env_file, toml, draw(st.integers(0, 4)) == 0)


class Sources:
    """A folder with the two files, and the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, given: Given) -> bool:
        """Whether the settings are accepted."""
        for name, lines in ((".env", given.env_file), ("fleet.toml", given.toml)):
            path = self.folder / name
            if lines:
                path.write_text("\n".join(lines), "utf-8", "surrogateescape")
            else:
                path.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in given.environment.items():
                patch.setenv(name, value)
            accepted = self._loads()
            if given.doctor:
                settings, wrong = find_anyhow()  # the doctor has settings, whatever is wrong
                assert isinstance(settings, Settings)
                _lines("\n".join(wrong))
        return accepted

    def _loads(self) -> bool:
        try:
            settings = load_settings()
        except SettingsError as error:
            assert error.message.strip()
            _lines(error.message)
            return False
        use(settings)
        return True


def _lines(message: str) -> None:
    assert SECRET not in message, message
    assert "Traceback" not in message
    for line in message.split("\n"):
        assert len(line) < 2_000, "a line that nobody reads"


def use(settings: Settings) -> None:
    """What every process does with settings that were accepted."""
    assert settings.state_dir.absolute() != Path.cwd(), "the working directory is no state folder"
    for path in (settings.logs, settings.state_dir):
        assert str(path.absolute())
    settings.control_address.encode()
    for warning in settings.warnings:
        assert len(warning.splitlines()) == 1
    for provider in settings.providers.values():
        assert provider.limits and provider.queue
        assert provider.on_loopback in (True, False)
    assert fleet_environment(os.environ).keys() <= os.environ.keys()
    try:
        Home.of(settings)._refuse_unusable_path()
    except FleetError as error:
        assert "Remedy: " in error.message


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("FLEET_CONFIG", str(tmp_path))  # files that are not named may set little
    return Sources(tmp_path)


def test_any_settings_are_used_or_refused_by_a_line_for_each(sources: Sources) -> None:
    check_each("settings", given_settings(), sources.check, min_share=0.2)


@pytest.mark.parametrize("variable", ["FLEET_STATE_DIR", "FLEET_LOG_DIR"])
def test_an_empty_folder_is_the_default_one(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "http://localhost:1")
    default: Any = load_settings()
    monkeypatch.setenv(variable, "")
    settings = load_settings()
    assert (settings.state_dir, settings.logs) == (default.state_dir, default.logs)
