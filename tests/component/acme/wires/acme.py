"""Acme's wire."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fleet.devstack.simulator.calls import Answer, Call, Refusal
from fleet.devstack.simulator.engine import Engine, Wire, body_of
from fleet.devstack.simulator.limits import Kind, OverLimit, Reading
from fleet.devstack.simulator.models import Model
from fleet.devstack.simulator.vendors import Address, SimulatedVendor, model_of

_MODELS = {"anvil-1": Model(8_192)}
#: Status and code of scripted errors; of all others the status is the name.
_ERRORS = {
    "revoked_key": (401, "unknown_key"),
    "quota": (429, "out_of_credit"),
    "day_quota": (429, "out_of_credit"),
    "slow_down": (503, "too_fast"),
}


def _error(status: int, code: str) -> Refusal:
    return Refusal(status, {"error": {"code": code, "message": f"Acme says: {code}"}})


def _parse(body: Any, headers: Mapping[str, str]) -> Call:
    if "acme-key" not in headers:
        raise _error(401, "no_key")
    if model_of("acme", body["model"]) is None:
        raise _error(404, "no_such_model")
    if not 0 <= body["temperature"] <= 1:
        raise _error(400, "out_of_range")
    return Call(
        provider="acme",
        api="write",
        model=body["model"],
        key=headers["acme-key"],
        idempotency_key=headers.get("idempotency-key"),
        system=body["system"],
        user=body["prompt"],
        max_tokens=body["max_tokens"],
    )


def _rate_headers(readings: Mapping[Kind, Reading]) -> dict[str, str]:
    names: dict[Kind, str] = {"requests": "requests", "input_tokens": "tokens"}
    return {
        f"acme-{names[kind]}-{part}": told
        for kind, reading in readings.items()
        if kind in names
        for part, told in (
            ("limit", f"{reading.limit:.0f}"),
            ("remaining", f"{reading.remaining:.0f}"),
            ("reset", f"{reading.reset_seconds:.3f}s"),
        )
    }


def _over_limit(call: Call, over: OverLimit) -> Refusal:
    return _error(429, "over_limit")


def _refusal(kind: str, call: Call, retry_after: float | None, form: str) -> Refusal:
    status, code = _ERRORS[kind] if kind in _ERRORS else (int(kind), "failed")
    return _error(status, code)


def _body(call: Call, answer: Answer, number: str) -> dict[str, Any]:
    tokens = {"tokens_in": call.input_tokens, "tokens_out": answer.output_tokens}
    return {"id": number, "model": call.model, "text": answer.text, "end": answer.finish} | tokens


def _events(call: Call, answer: Answer, number: str) -> list[bytes]:
    raise NotImplementedError("Acme does not stream")


_WIRE = Wire(_rate_headers, _over_limit, _refusal, _body, _events)


def _addresses(engine: Engine) -> list[Address]:
    async def write(request: Request) -> Response:
        return await engine.serve(_WIRE, _parse(await body_of(request), request.headers), request)

    return [Address("POST", "/write", write)]


def _charges(call: Call) -> dict[Kind, float]:
    return {"requests": 1.0, "input_tokens": float(call.input_tokens)}


VENDOR = SimulatedVendor(_addresses, _MODELS, _charges)
