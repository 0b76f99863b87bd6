"""Replaces what production provides: Temporal, the Backend API and the providers, on loopback.

It runs outside supervisord, as the real ones do, so that a restart of the fleet does not affect it.
"""
