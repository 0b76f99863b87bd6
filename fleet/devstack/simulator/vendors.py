"""The vendors that the simulator plays: each module of ``wires`` that declares a ``VENDOR``, by its name."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from starlette.requests import Request
from starlette.responses import Response

from fleet.devstack.simulator import wires
from fleet.devstack.simulator.calls import Call
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.limits import Kind
from fleet.devstack.simulator.models import Model, find_model

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a vendor's API.

    Where vendors share one, ``header`` is what only this vendor's clients send; the vendor without such a header
    gets all other requests."""

    method: str
    path: str
    handler: Handler
    header: str = ""


@dataclass(frozen=True, slots=True)
class SimulatedVendor:
    """One vendor.

    - ``addresses``: where its API is; a handler may raise :class:`fleet.devstack.simulator.calls.Refusal`.
    - ``models``: the models that exist, see :mod:`fleet.devstack.simulator.models`; None for any.
    - ``charges``: what a call costs of each limit at its arrival.
    - ``settles_output``: whether the output's charge is corrected when the answer is known.
    - ``charges_refused``: whether a call that is refused for a limit counts as a request.
    """

    addresses: Callable[[Engine], list[Address]]
    models: Mapping[str, Model] | None
    charges: Callable[[Call], dict[Kind, float]]
    settles_output: bool = False
    charges_refused: bool = False


@cache
def all_vendors() -> dict[str, SimulatedVendor]:
    """The vendors by name."""
    modules = {
        found.name: import_module(f"{wires.__name__}.{found.name}") for found in iter_modules(wires.__path__)
    }
    return {name: module.VENDOR for name, module in modules.items() if hasattr(module, "VENDOR")}


def vendor_of(provider: str) -> SimulatedVendor:
    """The vendor of that name; an added provider speaks OpenAI's API."""
    return all_vendors().get(provider) or _compatible()


def model_of(provider: str, name: str) -> Model | None:
    """The provider's model of that name, None if there is none; an added provider has any model."""
    return find_model(vendor_of(provider).models, name)


@cache
def _compatible() -> SimulatedVendor:
    """An endpoint that speaks OpenAI's API: it has any model, and does not count what it refuses."""
    return replace(all_vendors()["openai"], models=None, charges_refused=False)
