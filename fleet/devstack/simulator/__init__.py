"""A simulator of the vendors whose wires it has, faithful enough that their unmodified SDKs cannot tell.

It is an instrument and imports nothing else of the fleet: what it knows about the providers it knows by
itself, so that it can contradict us. Every text that it writes says that a simulator wrote it.
"""
