"""How a command finds the fleet that it is about."""

from fleet.cli.record import FleetRecord
from fleet.config import Settings, load_settings
from fleet.errors import OperationError, SettingsError

_STAND_IN = "http://127.0.0.1:8000"


def settings_for_embedded() -> Settings:
    """The settings where API_BASE_URL need not be set, since the embedded backend will take its place.

    Raises:
        SettingsError: another setting is wrong.
    """
    try:
        return load_settings()
    except SettingsError:
        return load_settings(API_BASE_URL=_STAND_IN)


def find_fleet() -> tuple[Settings, FleetRecord | None]:
    """The settings that reach the running fleet: those of the record in the state folder, or one's own.

    Raises:
        OperationError: no fleet was started here, and none is configured.
        SettingsError: a setting is wrong.
    """
    state = settings_for_embedded().state_dir.absolute()
    record = FleetRecord.load(state)
    if record is not None:
        return load_settings(**record.overrides(), state_dir=state), record
    try:
        return load_settings(), None
    except SettingsError:  # only API_BASE_URL can be missing by now
        raise OperationError(
            f"no fleet is up in {state}. Remedy: start one with `fleet up`; or set FLEET_STATE_DIR to the state "
            "folder of one that runs; or set TEMPORAL_HOST and API_BASE_URL to reach one elsewhere"
        ) from None
