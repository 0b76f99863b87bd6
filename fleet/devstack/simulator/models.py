"""A vendor's models: which refuse temperature, how long their inputs and answers may be.

Each vendor's table stands in its wire, apart from the fleet's, so that a wrong profile there is refused here as it
would be in production. A model is found by the longest prefix of its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """``sampling``: which of temperature and top_p it takes: "both", "one" (not together) or "none". ``schema``:
    whether its answers can be bound to a JSON Schema. ``window`` is its context window in tokens, None for no
    bound; ``window_has_output``: max_tokens counts there too."""

    max_output_tokens: int
    sampling: str = "both"
    schema: bool = True
    window: int | None = None
    window_has_output: bool = False


_ANY = Model(32_768)


def exceeds_window(model: Model, input_tokens: int, max_tokens: int | None) -> bool:
    """Whether a request is refused since it exceeds the model's context window."""
    output = max_tokens or 0 if model.window_has_output else 0
    return model.window is not None and input_tokens + output > model.window


def find_model(table: Mapping[str, Model] | None, name: str) -> Model | None:
    """The model of that name in a vendor's table, None if there is none; without a table it has any."""
    if table is None:
        return _ANY if name else None
    if known := table.get(name):
        return known
    # A dated or "-latest" version of a family; what follows the prefix must begin with a dash.
    families = [
        prefix for prefix in table if name.startswith(f"{prefix}-") and _is_version(name[len(prefix) + 1 :])
    ]
    return table[max(families, key=len)] if families else None


def _is_version(suffix: str) -> bool:
    return suffix in ("latest", "preview") or suffix.replace("-", "").isdigit() or suffix.startswith("preview-")
