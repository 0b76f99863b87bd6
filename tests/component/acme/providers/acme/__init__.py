"""Acme, a vendor that does not exist."""
