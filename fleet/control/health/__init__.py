"""The fleet's health: status, doctor, readiness, metrics, and the observer that takes snapshots."""

from fleet.control.health.readiness import Health, health_check

__all__ = ["Health", "health_check"]
