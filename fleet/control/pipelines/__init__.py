"""Pipelines, looked at from outside: which there are, what they did, what was sent, and how they are cancelled."""
