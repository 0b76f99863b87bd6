"""Whether the fleet is well: status, doctor, readiness, metrics, and the observer that looks."""
