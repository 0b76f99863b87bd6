"""Whether this machine's part of the fleet is healthy, for scripts, monitors and other programs."""

from dataclasses import dataclass, field
from typing import Any

from fleet.config import Settings, load_settings

_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Health:
    """``ok``, or the ``problems``, one line each. True as a condition if it is ok."""

    ok: bool
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.ok

    def to_json(self) -> dict[str, Any]:
        """The JSON that ``GET /health`` returns."""
        return {"ok": self.ok, "problems": self.problems}


def health_check(settings: Settings | None = None) -> Health:
    """Ask the control process; if it does not answer, that is the problem.

    Raises:
        SettingsError: ``settings`` is None, and those of the environment are wrong.
    """
    import httpx  # most commands load this package and make no request

    known = settings or load_settings()
    address = f"http://{known.control_host}:{known.control_port}"
    try:
        answer = httpx.get(f"{address}/health", timeout=_PATIENCE_SECONDS, trust_env=False, verify=False)
        found = answer.json()
        return Health(bool(found["ok"]), [str(problem) for problem in found["problems"]])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        said = str(error) or type(error).__name__
        remedy = "see `supervisorctl status`, or set FLEET_CONTROL_PORT to the fleet's port"
        return Health(False, [f"the control process at {address} does not answer ({said}). Remedy: {remedy}"])
