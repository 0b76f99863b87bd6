"""Options of a model that an assistant may set besides temperature, top_p and max_tokens.

One class for the Backend API's rows, the files of a project and everything that crosses Temporal. Values from
outside are validated by :func:`option_value`; what comes from Temporal is not validated again, since a reader of
another release must not fail on it. What a certain model takes: :mod:`fleet.providers.options`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

_MAX_CHARACTERS = 20_000


def _sendable(text: str) -> str:
    text.encode()  # half of a surrogate pair is not text
    return text


def _json(value: dict[str, Any]) -> dict[str, Any]:
    """The mapping, if JSON can carry it."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, RecursionError):
        raise ValueError("it is not JSON") from None
    text.encode()
    if len(text) > _MAX_CHARACTERS or json.loads(text) != value:  # JSON has no keys but texts
        raise ValueError("it is not JSON, or too long")
    return value


@dataclass(frozen=True)
class ModelOptions:
    """The options; None: not set, and not sent.

    ``reasoning_effort`` is how much a model thinks, in the provider's words (``low``, ``high`` …);
    ``thinking_budget`` the same in tokens, with 0 for no thinking and -1 for what the model decides. ``stop`` are
    texts at which the answer ends. ``seed`` makes equal requests more likely to be answered alike.
    ``provider_options`` are further fields of the provider's request, passed on as they are.
    """

    reasoning_effort: Annotated[str, Field(strict=True, pattern=r"\A[a-z]{1,20}\z")] | None = None
    thinking_budget: Annotated[int, Field(strict=True, ge=-1, le=10_000_000)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(strict=True, min_length=1, max_length=1000), AfterValidator(_sendable)]],
            Field(strict=True, min_length=1, max_length=32),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(strict=True, ge=0, le=2_147_483_647)] | None = None
    provider_options: Annotated[dict[str, Any], Field(strict=True, min_length=1), AfterValidator(_json)] | None = (
        None
    )

    @property
    def given(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}

    def without(self, names: tuple[str, ...]) -> "ModelOptions | None":
        """These options without those of the given names; None if nothing is left."""
        left = replace(self, **dict.fromkeys(set(names) & set(OPTIONS)))
        return left if left.given else None


OPTIONS = tuple(item.name for item in fields(ModelOptions))
#: What a value has to be, for messages.
WANTED = {
    "reasoning_effort": "a word such as low, medium or high",
    "thinking_budget": "a whole number of tokens, 0 for no thinking, or -1 for as much as the model decides",
    "stop": "a list of texts",
    "seed": "a whole number from 0 to 2147483647",
    "provider_options": "a mapping of fields of the provider's request",
}


@cache
def _validator() -> TypeAdapter[ModelOptions]:
    return TypeAdapter(ModelOptions)


def option_value(name: str, value: Any) -> Any:
    """The value of an option, validated.

    Raises:
        ValueError: it cannot be one; :data:`WANTED` says what it has to be.
    """
    try:
        return getattr(_validator().validate_python({name: value}), name)
    except (ValidationError, RecursionError):
        raise ValueError(f"{name} must be {WANTED[name]}") from None


def options_in(values: Mapping[str, Any]) -> ModelOptions | None:
    """The options among valid values by name; None if there are none."""
    options = ModelOptions(**{name: values[name] for name in OPTIONS if values.get(name) is not None})
    return options if options.given else None
