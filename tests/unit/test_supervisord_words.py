"""What the fleet says to supervisord without its package is what its package says."""

import io

from supervisor.childutils import listener
from supervisor.xmlrpc import Faults

from fleet.control.supervision import supervisord_client
from workers.guardian import HANDLED, READY


def test_the_fault_codes_are_supervisords_own() -> None:
    ours = {
        "SHUTDOWN_STATE": supervisord_client._SHUTDOWN_STATE,
        "ALREADY_STARTED": supervisord_client._ALREADY_STARTED,
        "NOT_RUNNING": supervisord_client._NOT_RUNNING,
    }
    assert ours == {name: getattr(Faults, name) for name in ours}


def test_the_guardian_speaks_as_supervisords_own_listener() -> None:
    said = io.StringIO()
    listener.ready(said)
    listener.ok(said)
    assert said.getvalue().encode() == READY + HANDLED
