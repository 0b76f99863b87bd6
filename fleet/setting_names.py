"""The names of settings: their variables."""


def variable_of(location: tuple[int | str, ...]) -> str:
    """The environment variable that sets the setting at a validation error's location."""
    head, *rest = (str(part) for part in location)
    if head.isupper():
        return head
    return "__".join(["FLEET_" + head.upper(), *(part.upper() for part in rest)])
