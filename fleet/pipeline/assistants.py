"""A project's assistants: the backend's JSON parsed and checked, and which assistant waits for which.

Nothing is guessed and no assistant is skipped: one that lacks something ends the pipeline before anything is paid.
Pure, since the workflow uses it too.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fleet.contracts import CSV_KEY, DATE_KEY, PIPELINE_KEYS, TOPIC_KEY, Assistant, CsvSelection, ModelChoice
from fleet.errors import AssistantDamaged, NoAssistants, SettingsError
from fleet.model_options import OPTIONS, WANTED, ModelOptions, option_value, options_in
from fleet.pipeline.csv_selection import SelectionError, selection_of
from fleet.pipeline.structured_outputs import declared_fields, schema_problem
from fleet.pipeline.templates import TemplateError, names_in
from fleet.redaction import excerpt

ProviderName = Callable[[str], str]
#: Would split lines of logs and errors, which name assistants by their keys.
_LINE_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_NAME_MISSING = (
    "Asistent nemá název - databáze poškozená (an assistant has no name, the database is damaged): "
    "{which}. Remedy: UPDATE Assistant SET name='...' WHERE name IS NULL"
)


def parse_assistants(
    payload: Any,
    project_id: str,
    *,
    default_temperature: float,
    default_max_tokens: int | None,
    provider_name: ProviderName,
) -> list[Assistant]:
    """The active assistants of a project, sorted by ``order``.

    ``payload`` is the backend's decoded JSON list. ``provider_name`` returns a provider's own name for any of its
    spellings, and raises SettingsError for a provider that is not configured.

    Raises:
        NoAssistants: there is none, or none is active.
        AssistantDamaged: a required field is missing or wrong, or two assistants contradict each other.
    """
    if not payload:
        raise NoAssistants(
            f"project {project_id!r} has no assistants. Remedy: add assistants to it in the backend"
        )
    rows = [_Row(entry, position, provider_name) for position, entry in enumerate(payload, start=1)]
    active = [row for row in rows if row.active()]
    if not active:
        raise NoAssistants(
            f"all {len(rows)} assistants of project {project_id!r} are inactive. Remedy: UPDATE Assistant SET "
            "active=true for those that are to run"
        )
    assistants = [row.assistant(default_temperature, default_max_tokens) for row in active]
    assistants.sort(key=lambda assistant: assistant.order)
    _refuse_twins(assistants)
    _refuse_unknown_inputs(assistants, {row.label for row in rows if not row.active()})
    _refuse_cycle(dependencies(assistants))
    _refuse_templates(assistants)
    _refuse_unread_csv(assistants)
    return assistants


class _Row:
    """One assistant of the backend's list, read field by field with errors that name it."""

    def __init__(self, entry: Any, position: int, provider_name: ProviderName) -> None:
        if not isinstance(entry, Mapping):
            raise AssistantDamaged(
                f"assistant number {position} is no JSON object but {type(entry).__name__}. Remedy: repair the "
                "backend's answer"
            )
        self._entry = entry
        self._provider_name = provider_name
        key = entry.get("functionKey")
        self.label = key if isinstance(key, str) and key.strip() else f"number {position}"

    def active(self) -> bool:
        """Whether it takes part; a missing value means yes."""
        value = self._entry.get("active")
        return value is None or bool(self._checked("active", value, bool))

    def assistant(self, default_temperature: float, default_max_tokens: int | None) -> Assistant:
        """The assistant, with every field checked."""
        name = self._entry.get("name")
        if name is None or (isinstance(name, str) and not name.strip()):
            raise AssistantDamaged(_NAME_MISSING.format(which=f"assistant {self.label}"))
        temperature = self._number("temperature", 0.0, 2.0)
        max_tokens = self._entry.get("max_tokens")
        return Assistant(
            function_key=self._function_key(),
            name=self._required_text("name"),
            order=self._required("order", int),
            provider=self._provider(self._required_text("model_provider")),
            model=self._required_text("model"),
            system_prompt=self._required_text("system_prompt"),
            temperature=default_temperature if temperature is None else temperature,
            top_p=self._number("top_p", 0.0, 1.0),
            max_tokens=default_max_tokens if max_tokens is None else self._max_tokens(max_tokens),
            input_keys=self._input_keys(),
            fallback=self._fallback(),
            on_ambiguous=self._on_ambiguous(),
            user_template=self._user_template(),
            system_template=self._system_template(),
            output_schema=self._output_schema(),
            csv=self._csv(),
            options=self._options(),
        )

    def _damaged(self, what: str, remedy: str) -> AssistantDamaged:
        return AssistantDamaged(f"assistant {self.label}: {what}. Remedy: {remedy}")

    def _checked(self, field: str, value: Any, kind: type) -> Any:
        # bool is an int in Python, but never a valid number in the database.
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            shown = excerpt(repr(value), 40).encode("ascii", "backslashreplace").decode()
            raise self._damaged(f"{field} is {shown}", f"set {field} to a {_KINDS[kind]} in the database")
        return value

    def _required(self, field: str, kind: type) -> Any:
        value = self._entry.get(field)
        if value is None:
            remedy = f"UPDATE Assistant SET {field}=... WHERE {field} IS NULL"
            raise self._damaged(f"{field} is missing", remedy)
        return self._checked(field, value, kind)

    def _required_text(self, field: str) -> str:
        text: str = self._required(field, str)
        if not text.strip():
            raise self._damaged(f"{field} is empty", f"set {field} in the database")
        return self._sendable(field, text)

    def _sendable(self, field: str, text: str) -> str:
        """The text, unless it contains half of a surrogate pair, which JSON can write and no provider can be
        sent."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._damaged(f"{field} is not valid Unicode text", f"correct {field}") from None
        return text

    def _function_key(self) -> str:
        key = self._required_text("functionKey")
        if _LINE_BREAK.search(key):
            raise self._damaged("functionKey contains a line break or a control character", "rename it")
        if key in PIPELINE_KEYS:
            raise self._damaged(
                f"functionKey {key!r} is the name of a pipeline input", "rename the assistant's key"
            )
        return key

    def _number(self, field: str, low: float, high: float) -> float | None:
        value = self._entry.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            shown = excerpt(repr(value), 40)
            raise self._damaged(f"{field} is {shown}", f"set {field} to a number from {low} to {high} or NULL")
        return float(value)

    def _max_tokens(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._damaged(
                f"max_tokens is {excerpt(repr(value), 40)}", "set max_tokens to a positive number or NULL"
            )
        return value

    def _provider(self, spelling: str) -> str:
        try:
            return self._provider_name(spelling.strip().lower())
        except SettingsError as error:
            raise AssistantDamaged(f"assistant {self.label}: {error}") from None

    def _input_keys(self) -> list[str] | None:
        keys = self._entry.get("input_keys")
        if keys is None:
            return None
        if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
            raise self._damaged(
                "input_keys is not a list of names", "list functionKeys, topic, csv or date, or set it to NULL"
            )
        if len(set(keys)) != len(keys):
            raise self._damaged("input_keys names something twice", "name each input once")
        return keys

    def _on_ambiguous(self) -> str | None:
        value = self._entry.get("on_ambiguous")
        if value not in (None, "send", "fail"):
            raise self._damaged(
                f"on_ambiguous is {excerpt(repr(value), 40)}", "set on_ambiguous to send, fail or NULL"
            )
        return None if value is None else str(value)

    def _user_template(self) -> str | None:
        template = self._entry.get("user_template")
        if template is None:
            return None
        if not isinstance(template, str) or not template.strip():
            raise self._damaged("user_template is not a text", "set user_template to a template, or to NULL")
        return self._sendable("user_template", template)

    def _system_template(self) -> bool:
        value = self._entry.get("system_template")
        return value is not None and bool(self._checked("system_template", value, bool))

    def _output_schema(self) -> dict[str, Any] | None:
        schema = self._entry.get("output_schema")
        if schema is None:
            return None
        if problem := schema_problem(schema):
            remedy = 'write it as {"type": "object", "properties": {…}, "required": […]}, or set it to NULL'
            raise self._damaged(f"output_schema cannot be used: {problem}", remedy)
        return dict(schema)

    def _csv(self) -> CsvSelection | None:
        value = self._entry.get("csv")
        if value is None:
            return None
        try:
            return selection_of(value)
        except SelectionError as error:
            raise self._damaged(f"csv {error.says}", error.remedy) from None

    def _options(self) -> ModelOptions | None:
        return options_in({name: self._option(name, self._entry.get(name)) for name in OPTIONS})

    def _option(self, name: str, value: Any) -> Any:
        try:
            return None if value is None else option_value(name, value)
        except ValueError:
            shown = excerpt(repr(value), 40).encode("ascii", "backslashreplace").decode()
            raise self._damaged(f"{name} is {shown}", f"set {name} to {WANTED[name]}, or to NULL") from None

    def _fallback(self) -> list[ModelChoice]:
        choices = self._entry.get("fallback") or []
        remedy = 'write fallback as [{"model_provider": "…", "model": "…"}] or set it to NULL'
        if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
            raise self._damaged("fallback is not a list of models", remedy)
        pairs = [(choice.get("model_provider"), choice.get("model")) for choice in choices]
        if not all(isinstance(part, str) and part.strip() for pair in pairs for part in pair):
            raise self._damaged("a fallback lacks model_provider or model", remedy)
        return [
            ModelChoice(self._provider(str(provider)), self._sendable("a fallback's model", str(model)))
            for provider, model in pairs
        ]


_KINDS: dict[type, str] = {str: "text", int: "whole number", bool: "true or false"}


def _refuse_twins(assistants: list[Assistant]) -> None:
    keys: dict[str, Assistant] = {}
    orders: dict[int, Assistant] = {}
    for assistant in assistants:
        if assistant.function_key in keys:
            raise AssistantDamaged(
                f"functionKey {assistant.function_key!r} is used by two active assistants "
                f"({keys[assistant.function_key].name} and {assistant.name}). Remedy: give one of "
                "them another key, or make it inactive"
            )
        if twin := orders.get(assistant.order):
            raise AssistantDamaged(
                f"assistants {twin.function_key} and {assistant.function_key} both have order {assistant.order}. "
                "Remedy: give each active assistant an order of its own"
            )
        keys[assistant.function_key] = orders[assistant.order] = assistant


def _refuse_unknown_inputs(assistants: list[Assistant], inactive: set[str]) -> None:
    by_key = {assistant.function_key: assistant for assistant in assistants}
    known = by_key.keys() | PIPELINE_KEYS
    for assistant in assistants:
        for key in assistant.input_keys or []:
            if key in known:
                continue
            owner, path = source_of(key, by_key)
            if path:
                _refuse_unknown_field(assistant, key, by_key[owner], path)
                continue
            why = "is inactive" if key in inactive else "does not exist"
            raise AssistantDamaged(
                f"assistant {assistant.function_key}: its input {key!r} {why}. "
                f"Remedy: correct input_keys; this project has {', '.join(sorted(known))}"
            )


def _refuse_unknown_field(assistant: Assistant, key: str, owner: Assistant, path: list[str]) -> None:
    what = f"assistant {assistant.function_key}: its input {key!r}"
    if owner.output_schema is None:
        raise AssistantDamaged(
            f"{what} is a field of {owner.function_key}, which has no output_schema. Remedy: give it one, or read "
            f"{owner.function_key!r} as a whole"
        )
    for depth in range(len(path)):
        there = declared_fields(owner.output_schema, path[:depth]) or []
        if path[depth] not in there:
            place = ".".join([owner.function_key, *path[:depth]])
            raise AssistantDamaged(
                f"{what}: the output_schema of {owner.function_key} has no property {path[depth]!r} there. "
                f"Remedy: read one of {', '.join(f'{place}.{name}' for name in there) or place}, or add it to the "
                "schema"
            )


def source_of(key: str, function_keys: Collection[str]) -> tuple[str, list[str]]:
    """The functionKey that an input names, and the path of the field within its output; an empty path is the
    whole output. A functionKey may itself contain dots."""
    if key in function_keys:
        return key, []
    owner = max((known for known in function_keys if key.startswith(f"{known}.")), key=len, default=None)
    return (key, []) if owner is None else (owner, key[len(owner) + 1 :].split("."))


def _refuse_cycle(waits_for: Mapping[str, list[str]]) -> None:
    left = dict(waits_for)
    while free := [key for key, inputs in left.items() if not any(needed in left for needed in inputs)]:
        for key in free:
            del left[key]
    if left:
        raise AssistantDamaged(
            f"input_keys form a cycle: {', '.join(sorted(left))} wait for each other. Remedy: remove one of "
            "these inputs"
        )


def templates_of(assistant: Assistant) -> dict[str, str]:
    """The assistant's texts that are templates, by the name of their field."""
    found = {"system_prompt": assistant.system_prompt} if assistant.system_template else {}
    return found if assistant.user_template is None else found | {"user_template": assistant.user_template}


def _refuse_templates(assistants: list[Assistant]) -> None:
    """Raise AssistantDamaged for a template that cannot be used, or that names what its assistant does not
    read."""
    for assistant in assistants:
        read = reads(assistant, assistants)
        for field, template in templates_of(assistant).items():
            try:
                unread = [name for name in names_in(template) if name not in read]
            except TemplateError as error:
                raise AssistantDamaged(f"assistant {assistant.function_key}: {field}, {error}") from None
            if unread:
                raise AssistantDamaged(
                    f"assistant {assistant.function_key}: {field} names {unread[0]!r}, which it does not read. "
                    f"Remedy: add it to input_keys, or name one of {', '.join(read)}"
                )


def _refuse_unread_csv(assistants: list[Assistant]) -> None:
    for assistant in assistants:
        if assistant.csv is not None and CSV_KEY not in reads(assistant, assistants):
            raise AssistantDamaged(
                f"assistant {assistant.function_key}: csv chooses from the CSV, which it does not read. Remedy: "
                "add csv to input_keys, or set csv to NULL"
            )


def reads(assistant: Assistant, assistants: list[Assistant]) -> list[str]:
    """The inputs of an assistant, in order: functionKeys, fields of them (``key.field``), and topic, csv, date.

    Default inputs, where ``input_keys`` is None: the date, then the output of the previous assistant by ``order``,
    or the topic for the first one. ``assistants`` are all of the pipeline, sorted by ``order``.
    """
    if assistant.input_keys is not None:
        return assistant.input_keys
    position = [listed.function_key for listed in assistants].index(assistant.function_key)
    return [DATE_KEY, assistants[position - 1].function_key if position else TOPIC_KEY]


def dependencies(assistants: list[Assistant]) -> dict[str, list[str]]:
    """For each functionKey, the functionKeys that it waits for."""
    known = {assistant.function_key for assistant in assistants}
    return {
        assistant.function_key: list(
            dict.fromkeys(
                source_of(key, known)[0] for key in reads(assistant, assistants) if key not in PIPELINE_KEYS
            )
        )
        for assistant in assistants
    }


def reads_csv(assistants: list[Assistant]) -> bool:
    """Whether any assistant reads the CSV."""
    return any(CSV_KEY in reads(assistant, assistants) for assistant in assistants)
