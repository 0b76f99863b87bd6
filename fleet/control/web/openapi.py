"""The OpenAPI description of the control process, from its operations and the table of what they need."""

from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter
from starlette.routing import compile_path

from fleet.control.health.status import running_version
from fleet.control.web import shapes
from fleet.control.web.access import COOKIE, Access, access_to
from fleet.control.web.operations import OPERATIONS, Answer, Body, Operation

Json = dict[str, Any]
_Mode = Literal["validation", "serialization"]
_REFERENCE = "#/components/schemas/{model}"
_PORT = 8020
_INFO = """The HTTP interface of one machine's control process. What is `open` or `public`, others may request,
under an address or a name of the machine; everything else answers only requests from its own machine, and not
through a proxy. `HEAD` is answered as `GET` without a body, a method that is not listed with 405 and `Allow`.
Errors are JSON with `error`, for people. Fields may be added to answers."""
_ERROR = shapes.Error
#: Refusals of every operation.
_COMMON = {
    400: Answer("The Host header or the request is malformed.", _ERROR),
    403: Answer("The Host header names another machine, or only the machine itself may ask.", _ERROR),
    408: Answer("The request did not come in time.", _ERROR),
    431: Answer("The request line and headers are too large.", _ERROR),
    500: Answer("It failed; the reason is in the control process's log.", _ERROR),
    503: Answer("The server is busy.", _ERROR),
}
#: Refusals of operations that need a credential.
_REFUSED = {
    401: Answer("The credential is wrong or missing.", _ERROR),
    429: Answer("Too many wrong tokens were sent; it was not compared.", _ERROR),
}
_TOKEN: Json = {"token": []}
_SESSION: Json = {"session": []}
_SECURITY: Mapping[Access, list[Json]] = {
    Access.OPEN: [{}, _TOKEN, _SESSION],
    Access.PUBLIC: [],
    Access.HERE: [],
    Access.READ: [_TOKEN, _SESSION],
    Access.OPERATE: [_TOKEN],
}


@cache
def description(port: int = _PORT) -> Json:
    """The OpenAPI 3.1 document of a control process on that port."""
    schemas = _Schemas(OPERATIONS)
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Control process of a fleet",
            "version": running_version(),
            "description": " ".join(_INFO.split()),
        },
        "servers": [{"url": f"http://127.0.0.1:{port}"}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "responses": {
                _name_of(status): _answered(answer, None, schemas)
                for status, answer in (_COMMON | _REFUSED).items()
            },
            "securitySchemes": _schemes(port),
        },
    }


def methods_of(path: str) -> list[str]:
    """The methods of the operations of a path, empty if it has none."""
    found = {operation.method for operation in OPERATIONS if compile_path(operation.path)[0].match(path)}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _schemes(port: int) -> Json:
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "One of two tokens: that of the file `page/token` in the state folder reads, and "
            "FLEET_CONTROL_TOKEN reads and operates. Operations with `Access: operate` need the latter.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": f"{COOKIE}{port}",
            "description": "The cookie of a login, whose name ends with the port in the Host header: it reads.",
        },
    }


def _described(operation: Operation, schemas: "_Schemas") -> Json:
    access = access_to(operation.path)
    refusals = _COMMON | (_REFUSED if access in (Access.READ, Access.OPERATE) else {})
    found: Json = {
        "operationId": operation.name,
        "summary": operation.says,
        "description": f"Access: {access}. {operation.details}".strip(),
        "security": _SECURITY[access],
        "responses": {
            str(status): _answered(operation.answers[status], refusals.get(status), schemas)
            if status in operation.answers
            else {"$ref": f"#/components/responses/{_name_of(status)}"}
            for status in sorted(refusals.keys() | operation.answers.keys())
        },
    }
    if operation.parameters:
        found["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "description": parameter.says,
                "required": parameter.required,
                "schema": dict(parameter.schema),
            }
            for parameter in operation.parameters
        ]
    if operation.body is not None:
        schema = operation.body.schema or schemas.of(operation.body)
        found["requestBody"] = {"required": True, "content": {operation.body.media_type: {"schema": schema}}}
    return found


def _name_of(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")


def _answered(own: Answer, common: Answer | None, schemas: "_Schemas") -> Json:
    """An answer of an operation; its status may also be that of a refusal of all operations."""
    content: dict[str, list[Json]] = {}
    for answer in (own, common) if common else (own,):
        schema = dict(answer.schema) if answer.shape is None else schemas.of(answer)
        for media_type in answer.media_types:
            if schema not in content.setdefault(media_type, []):
                content[media_type].append(schema)
    found: Json = {"description": own.says}
    if content:
        found["content"] = {
            media_type: {"schema": one[0] if len(one) == 1 else {"anyOf": one}}
            for media_type, one in content.items()
        }
    return found


class _Schemas:
    """The JSON Schemas of all bodies and answers, with common ``definitions``."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        answers: dict[int, TypeAdapter[Any]] = {id(_ERROR): TypeAdapter(_ERROR)}
        bodies: dict[int, TypeAdapter[Any]] = {}
        for operation in operations:
            for answer in operation.answers.values():
                if answer.shape is not None:
                    answers[id(answer.shape)] = TypeAdapter(answer.shape)
            if operation.body is not None and operation.body.shape is not None:
                bodies[id(operation.body.shape)] = TypeAdapter(operation.body.shape)
        inputs: list[tuple[int, _Mode, TypeAdapter[Any]]]
        inputs = [(key, "serialization", adapter) for key, adapter in answers.items()]
        inputs += [(key, "validation", adapter) for key, adapter in bodies.items()]
        self._found, defined = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
        self.definitions: Json = defined["$defs"]

    def of(self, described: Answer | Body) -> Json:
        """The schema of its shape."""
        mode: _Mode = "validation" if isinstance(described, Body) else "serialization"
        return self._found[id(described.shape), mode]
