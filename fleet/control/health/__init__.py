"""Whether the fleet is well: status, doctor, readiness, metrics, and the observer that looks."""

from fleet.control.health.readiness import Health, health_check

__all__ = ["Health", "health_check"]
