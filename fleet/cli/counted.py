"""A number with its noun."""


def counted(number: float, noun: str, plural: str = "") -> str:
    """``1 problem``, ``2 problems``; ``plural`` where it is not the noun with an s."""
    return f"{number:,.0f} {noun if number == 1 else plural or noun + 's'}"
