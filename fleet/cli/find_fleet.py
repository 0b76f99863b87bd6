"""How a command finds the fleet that it works on."""

import os
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from fleet.cli.fleet_record import FleetRecord
from fleet.cli.not_permitted import NotPermitted
from fleet.config import (
    Settings,
    file_sources,
    load_settings,
    with_temporal_config,
)
from fleet.control.health.doctor import NOT_SET
from fleet.errors import OperationError, SettingsError
from fleet.harmless_settings import harmless
from fleet.setting_errors import NO_BACKEND
from fleet.setting_files import setting_files
from fleet.terminal import write_error

_STAND_IN = "http://127.0.0.1:8000"
#: Addresses used when none is known, so that no request goes to an address that the user did not name.
_UNKNOWN: dict[str, Any] = {"API_BASE_URL": f"https://{NOT_SET}", "TEMPORAL_HOST": f"{NOT_SET}:7233"}
_CONTRADICTORY = ("providers", "heartbeat_interval_seconds", "heartbeat_timeout_seconds")


def settings_for_embedded() -> Settings:
    """The settings when API_BASE_URL need not be set, since the embedded backend will replace it; Temporal's own
    configuration is ignored, since the embedded Temporal will replace what it names.

    Raises:
        SettingsError: another setting is wrong.
    """
    try:
        return load_settings(temporal_config=False)
    except SettingsError:
        return load_settings(API_BASE_URL=_STAND_IN, temporal_config=False)


def find_fleet() -> tuple[Settings, FleetRecord | None]:
    """The settings that reach the running fleet: from the record in the state folder, or the user's own.

    Raises:
        OperationError: no fleet was started here, and none is configured.
        SettingsError: a setting is wrong.
    """
    state = settings_for_embedded().state_dir.absolute()
    record = FleetRecord.load(state)
    if record is not None:
        return load_settings(**record.overrides(), state_dir=state), record
    try:
        settings = load_settings()
    except SettingsError as error:
        if NO_BACKEND not in str(error):
            raise
        raise OperationError(
            f"no fleet is up in {state}. Remedy: start one with `fleet up`; or set FLEET_STATE_DIR to the state "
            "folder of one that runs; or set TEMPORAL_HOST and API_BASE_URL to reach one elsewhere"
        ) from None
    warn(settings)
    return settings, None


def warn(settings: Settings) -> None:
    """Print what is doubtful in the settings."""
    for warning in settings.warnings:
        write_error(f"fleet: {warning}")


def find_anyhow() -> tuple[Settings, list[str]]:
    """The settings that reach the fleet, as far as they can be used, and what is wrong with them, one line each.

    A wrong setting gets its default; a missing or wrong address becomes ``NOT_SET``.
    """
    wrong: list[str] = []
    overrides: dict[str, Any] = {}
    try:
        state = _usable().state_dir.absolute()
        if (record := FleetRecord.load(state)) is not None:
            overrides = record.overrides() | {"state_dir": state}
    except NotPermitted:  # all that is wrong would only follow from it
        raise
    except OperationError as error:
        wrong.append(str(error))
    try:
        return load_settings(**overrides), wrong
    except SettingsError as error:
        wrong += str(error).splitlines()
    except OSError as error:
        wrong.append(f"the settings cannot be read: {error}. Remedy: correct the rights of .env or fleet.toml")
    usable = _usable(**overrides)
    try:
        return with_temporal_config(usable, warn=False), wrong
    except SettingsError:  # one of those in ``wrong``; without TLS and keys, nothing is sent anywhere
        return usable.model_copy(update={"temporal_host": _UNKNOWN["TEMPORAL_HOST"]}), wrong


class _Given(Settings):
    """Settings from the given values only."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use neither the environment nor a file."""
        return (init_settings,)


def _usable(**overrides: Any) -> Settings:
    values = {"API_BASE_URL": _UNKNOWN["API_BASE_URL"]} | _sources() | overrides
    if values.get("projects_dir") and values["API_BASE_URL"] in ("", _UNKNOWN["API_BASE_URL"]):
        del values["API_BASE_URL"]  # the fleet's own program is the backend
    return _without_wrong(values)


def _without_wrong(values: dict[str, Any]) -> Settings:
    """The settings from those of the values that are right; removing a wrong one can show the next."""
    try:
        return _Given(**values)
    except ValidationError as error:
        right = deepcopy(values)
        for item in error.errors():
            _leave_out(right, item["loc"])
        return _without_wrong(right if right != values else dict(_UNKNOWN))


def _sources() -> dict[str, Any]:
    """The values in fleet.toml, .env and the environment, as far as each can be read and may set them; the later
    source wins."""
    values: dict[str, Any] = {}
    try:
        files, foreign = file_sources(), setting_files().foreign
    except SettingsError:  # a named file does not exist, which is reported
        files, foreign = {}, frozenset()
    for file, make in files.items():
        with suppress(SourceError, ValueError, OSError, RecursionError):
            found = make()()
            values = _laid_over(values, _by_key(harmless(found) if file in foreign else found))
    try:
        found = EnvSettingsSource(Settings)()
    except (SourceError, ValueError, OSError, RecursionError):
        found = _plain_variables()
    return _laid_over(values, _by_key(found))


def _by_key(found: Mapping[str, Any]) -> dict[str, Any]:
    return {_key_of(name): value for name, value in found.items()}


def _key_of(name: str) -> str:
    """The key of a setting: its variable, if that does not follow the fleet's naming, otherwise its name."""
    field = Settings.model_fields.get(name)
    return str(field.validation_alias or name) if field is not None else name


def _plain_variables() -> dict[str, str]:
    """The values in the environment, without the providers' sections."""
    found = {}
    for name in Settings.model_fields.keys() - {"providers"}:
        key = _key_of(name)
        variable = key if key.isupper() else f"FLEET_{key.upper()}"
        if variable in os.environ:
            found[name] = os.environ[variable]
    return found


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = below | above
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _laid_over(below[name], above[name])
    return merged


def _leave_out(values: dict[str, Any], place: tuple[int | str, ...]) -> None:
    """Remove what is wrong: the value at that place; or the section that lacks a value there; or, if settings
    contradict each other, those that may be the cause."""
    if not place:
        for name in _CONTRADICTORY:
            values.pop(name, None)
        return
    section, name = values, str(place[0])
    lacking: tuple[dict[str, Any], str] | None = None
    for inner in place[1:]:
        if not isinstance(section.get(name), dict):
            break
        lacking = section, name
        section, name = section[name], str(inner)
    if name in section:
        del section[name]
    elif lacking is not None:
        del lacking[0][lacking[1]]
    if place[0] in _UNKNOWN:
        values |= {str(place[0]): _UNKNOWN[str(place[0])]}
