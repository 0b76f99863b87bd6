"""A soak: pipelines run while their fleet is scaled, rolled, restarted and killed at random, and nothing is lost.

``operations`` holds what is done to the fleet and when, ``presence`` who polled which queue from when to when,
``answers`` which calls were sent again although they had been answered, ``kills`` the deaths at random.
"""
