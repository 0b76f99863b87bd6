"""The orders of the page's operator, and what is wrong with one that is not valid."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fleet.config import NAME_PATTERN
from fleet.control.supervision.scaling import MAX_PROCESSES
from fleet.errors import InputError
from fleet.redaction import excerpt

ACTIONS = ("pause", "resume", "scale", "roll")
_MAX_SHOWN = 80
#: A command cannot take such a name for an option.
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN.pattern}$")]


def _whole(value: Any) -> Any:
    """In JSON, 2.0 is the same number as 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Pause(_Order):
    """Dispatch no more calls of a provider, on all machines. ``why`` is shown to everybody."""

    action: Literal["pause"]
    provider: Name
    why: Annotated[str, Field(max_length=1000)] | None = None


class Resume(_Order):
    """Dispatch its calls again."""

    action: Literal["resume"]
    provider: Name


class Scale(_Order):
    """Run so many processes of a program on this machine."""

    action: Literal["scale"]
    program: Name
    count: Annotated[int, Field(ge=1, le=MAX_PROCESSES), BeforeValidator(_whole)]


class Roll(_Order):
    """Renew the processes of a program on this machine, or those of all programs."""

    action: Literal["roll"]
    program: Name | None = None


Order = Annotated[Pause | Resume | Scale | Roll, Field(discriminator="action")]
_ORDERS: TypeAdapter[Pause | Resume | Scale | Roll] = TypeAdapter(Order)


def order_in(body: bytes) -> Pause | Resume | Scale | Roll:
    """The order in the body of a request.

    Raises:
        InputError: it is not valid.
    """
    try:
        return _ORDERS.validate_json(body)
    except ValidationError as error:
        raise InputError(_told(error)) from None


def _told(error: ValidationError) -> str:
    """The first mistake, and its remedy."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    match first["type"], where:
        case "json_invalid", _:
            return "the order is not valid JSON. Remedy: send what /openapi.json describes"
        case _, "":
            return f"unknown action. Remedy: send one of {', '.join(ACTIONS)}"
        case "missing", _:
            return f"the order names no {where}. Remedy: send it"
        case "extra_forbidden", _:
            return f"the order has an unknown field {excerpt(where, _MAX_SHOWN)!r}. Remedy: leave it out"
        case _:
            return f"{where}: {first['msg']}. Remedy: send what /openapi.json describes"
