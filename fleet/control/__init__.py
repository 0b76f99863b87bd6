"""Observes and operates the fleet of one machine: its processes, health, logs and page, and what other machines
report."""
