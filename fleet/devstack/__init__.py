"""A stand-in for what production brings along: Temporal, the Backend API and the providers, on loopback.

It stands outside supervisord, as the real ones do, so that a restart of the fleet leaves it alone.
"""
