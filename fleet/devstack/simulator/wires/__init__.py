"""What each vendor's API looks like on the wire: requests, answers, streams, errors and limit headers.

:mod:`fleet.devstack.simulator.vendors` finds each module that declares a ``VENDOR``; the others are parts of one.
"""
