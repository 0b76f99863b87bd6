"""One assistant from one Dotprompt file: its fields as the Backend API's contract has them, and their lines."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.contracts import PIPELINE_KEYS
from fleet.model_options import WANTED, option_value
from fleet.near_names import nearest
from fleet.pipeline.csv_selection import SelectionError, selection_of
from fleet.pipeline.structured_outputs import schema_fault, schema_problem
from fleet.pipeline.templates import Prompt, TemplateError, split_prompt
from fleet.projects.front_matter import FrontMatter, Unreadable, Value, read_front_matter
from fleet.projects.picoschema import PicoschemaError, json_schema_of
from fleet.projects.problems import Problem

SUFFIX = ".prompt"
MAX_BYTES = 1_000_000
_FILE_NAME = re.compile(r"(?:(\d{1,9})[-_. ])?(.+)")
KEY = re.compile(r"[^\s{}\"'|=#/.,()\[\]]+")
#: Fields of Dotprompt that describe a prompt and change nothing in a pipeline.
_DESCRIPTIVE = ("description", "version", "metadata")
_OWN = (
    "model",
    "name",
    "config.temperature",
    "config.topP",
    "config.maxOutputTokens",
    "config.stopSequences",
    "config.seed",
    "config.reasoningEffort",
    "config.thinkingBudget",
    "config.providerOptions",
    "fleet.order",
    "fleet.key",
    "fleet.inputs",
    "fleet.fallback",
    "fleet.on_ambiguous",
    "fleet.active",
    "fleet.csv",
    "output.format",
    "output.schema",
)
#: Other spellings of the options that models have.
_SPELLINGS = {
    "config.top_p": "config.topP",
    "config.max_tokens": "config.maxOutputTokens",
    "config.max_output_tokens": "config.maxOutputTokens",
    "config.stop": "config.stopSequences",
    "config.stop_sequences": "config.stopSequences",
    "config.reasoning_effort": "config.reasoningEffort",
    "config.thinking_budget": "config.thinkingBudget",
    "config.provider_options": "config.providerOptions",
}
#: Where the further options of a model stand, by the contract's name.
OPTION_KEYS = {
    "reasoning_effort": "config.reasoningEffort",
    "thinking_budget": "config.thinkingBudget",
    "stop": "config.stopSequences",
    "seed": "config.seed",
    "provider_options": "config.providerOptions",
}
#: The fields of an assistant as these files name them, for messages.
FILE_WORDS = OPTION_KEYS | {
    "model": "model",
    "temperature": "config.temperature",
    "top_p": "config.topP",
    "max_tokens": "config.maxOutputTokens",
    "output_schema": "output.schema",
}
_MODEL_REMEDY = "write PROVIDER/MODEL, such as openai/gpt-6-luna"


@dataclass(frozen=True)
class PromptFile:
    """An assistant and the lines of its fields: ``row`` is what the Backend API's contract has for it, without its
    ``id``. ``template_lines`` are the lines in which its templates name inputs, by name."""

    file: str
    row: Mapping[str, Any]
    lines: Mapping[str, int]
    template_lines: Mapping[str, int]

    def problem(self, field: str, says: str, remedy: str) -> Problem:
        """A problem of one of its fields, by the contract's name."""
        return Problem(self.file, self.lines.get(field, 1), says, remedy)


def read_prompt_file(path: Path, file: str) -> tuple[PromptFile | None, list[Problem]]:
    """The assistant in a file and what is wrong with it; None where something is. ``file`` is its name in
    problems."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return None, [Problem(file, 0, f"it cannot be read ({error.strerror})", "correct its rights")]
    if len(raw) > MAX_BYTES:
        says = f"it has {len(raw):,} bytes, at most {MAX_BYTES:,} are allowed"
        return None, [Problem(file, 0, says, "shorten it")]
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Problem(file, line, "it is not UTF-8 text", "store it as UTF-8")]
    return parse_prompt(text, file)


def parse_prompt(text: str, file: str) -> tuple[PromptFile | None, list[Problem]]:
    """The assistant in a file's text, as :func:`read_prompt_file` returns it."""
    try:
        front = read_front_matter(text)
    except Unreadable as error:
        return None, [error.problem(file)]
    reader = _Reader(file, front)
    found = reader.assistant()
    return (None if reader.problems else found), reader.problems


class _Reader:
    """Reads the fields one by one and collects what is wrong."""

    def __init__(self, file: str, front: FrontMatter) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._body, self._body_line = front.body, front.body_line
        self._lines = {"system_prompt": front.body_line}
        self._values: dict[str, Value] = {}
        for spelling, value in front.values.items():
            name = _SPELLINGS.get(spelling, spelling)
            if name in self._values:
                first = self._values[name].line
                self._wrong(value.line, f"{name} is set twice, first in line {first}", "remove one of them")
            self._values[name] = value

    def assistant(self) -> PromptFile:
        """The assistant, which is of use if there are no problems."""
        self._refuse_unknown()
        number, stem = self._from_file_name()
        key = self._key(stem)
        provider, model = self._model()
        prompt = self._prompt()
        named: dict[str, int] = {}
        for place in prompt.named:
            named.setdefault(place.name, place.line + self._body_line - 1)
        row = {
            "functionKey": key,
            "name": self._read("name", "name", _text, "a text") or key,
            "order": self._order(number),
            "active": self._read("fleet.active", "active", _truth, "true or false") is not False,
            "model_provider": provider,
            "model": model,
            "system_prompt": prompt.system,
            "temperature": self._read("config.temperature", "temperature", _between(0, 2), "a number from 0 to 2"),
            "top_p": self._read("config.topP", "top_p", _between(0, 1), "a number from 0 to 1"),
            "max_tokens": self._read("config.maxOutputTokens", "max_tokens", _positive, "a positive whole number"),
            "on_ambiguous": self._read(
                "fleet.on_ambiguous", "on_ambiguous", _one_of("send", "fail"), "send or fail"
            ),
        }
        optional = {
            "input_keys": self._inputs(prompt, named),
            "fallback": self._fallback(),
            "user_template": prompt.user,
            "system_template": prompt.dynamic or None,
            "output_schema": self._schema(),
            "csv": self._csv(),
            **{name: self._option(name, key) for name, key in OPTION_KEYS.items()},
        }
        row |= {name: value for name, value in optional.items() if value is not None}
        return PromptFile(self._file, row, self._lines, named)

    def _wrong(self, line: int, says: str, remedy: str) -> None:
        self.problems.append(Problem(self._file, line, says, remedy))

    def _refuse_unknown(self) -> None:
        for name, value in self._values.items():
            if name in _OWN or name in _DESCRIPTIVE:
                continue
            if name.startswith("metadata") or ("." in name and name.split(".")[0] not in _READ_SECTIONS):
                continue  # another program's namespace
            self._wrong(value.line, f"{name} is not supported", _remedy_for(name))

    def _read(self, name: str, field: str, usable: Callable[[Any], Any], wanted: str) -> Any:
        """The value of a key, None where it is not set; ``usable`` returns it, or raises ValueError."""
        found = self._values.get(name)
        if found is None or found.value is None:
            return None
        self._lines[field] = found.line
        try:
            return usable(found.value)
        except (ValueError, TypeError, AttributeError):
            self._wrong(found.line, f"{name} is {found.value!r:.60}", f"set {name} to {wanted}")
            return None

    def _option(self, name: str, key: str) -> Any:
        """One of the further options of the model. A single stop text may stand without brackets."""

        def usable(value: Any) -> Any:
            return option_value(name, [value] if name == "stop" and isinstance(value, str) else value)

        within = self._values[key].lines if key in self._values else {}
        self._lines |= {".".join((name, *map(str, path))): line for path, line in within.items()}
        return self._read(key, name, usable, WANTED[name])

    def _from_file_name(self) -> tuple[int | None, str]:
        found = _FILE_NAME.fullmatch(Path(self._file).name.removesuffix(SUFFIX))
        if found is None:
            self._wrong(0, "its name has no key", "name it such as 10-brief.prompt")
            return None, "unnamed"
        return (int(found[1]) if found[1] else None), found[2]

    def _key(self, stem: str) -> str:
        key = self._read("fleet.key", "functionKey", _text, "a text") or stem
        line = self._lines.get("functionKey", 0)
        if key in PIPELINE_KEYS:
            self._wrong(line, f"key {key!r} is the name of a pipeline input", "rename the file, or set fleet.key")
        elif not KEY.fullmatch(key):
            remedy = "use letters, digits, - and _ in the file's name or in fleet.key"
            self._wrong(line, f"key {key!r:.60} cannot be used in a template", remedy)
        return str(key)

    def _order(self, number: int | None) -> int:
        order = self._read("fleet.order", "order", _whole, "a whole number")
        if order is None and number is None and "fleet.order" not in self._values:
            remedy = "begin its name with a number (10-brief.prompt), or set fleet.order"
            self._wrong(1, "it has no place in the order", remedy)
        return int(order if order is not None else number or 0)

    def _model(self) -> tuple[str, str]:
        found = self._values.get("model")
        if found is None or found.value is None:
            self._wrong(2 if found is None else found.line, "model is missing", _MODEL_REMEDY)
            return "", ""
        self._lines["model"] = self._lines["model_provider"] = found.line
        choice = model_choice(found.value)
        if choice is None:
            self._wrong(found.line, f"model is {found.value!r:.60}", _MODEL_REMEDY)
            return "", ""
        return choice

    def _fallback(self) -> list[dict[str, str]] | None:
        def models(value: Any) -> list[dict[str, str]]:
            choices = [model_choice(entry) for entry in ([value] if isinstance(value, str) else value)]
            if not all(choices):
                raise ValueError(value)
            return [{"model_provider": choice[0], "model": choice[1]} for choice in choices if choice]

        found: list[dict[str, str]] | None = self._read(
            "fleet.fallback", "fallback", models, "a list of PROVIDER/MODEL"
        )
        return found

    def _schema(self) -> dict[str, Any] | None:
        """The JSON Schema of its output; None if the output is text."""
        form = self._read("output.format", "output_format", _one_of("text", "json"), "text or json")
        found = self._values.get("output.schema")
        if found is None or found.value is None:
            if form == "json":
                remedy = "describe the output in output.schema, or leave output.format out"
                self._wrong(self._lines["output_format"], "output.format is json without output.schema", remedy)
            return None
        self._lines["output_schema"] = found.line
        if form == "text":
            remedy = "write output.format: json, or remove output.schema"
            self._wrong(
                self._lines["output_format"], "output.format is text, and there is an output.schema", remedy
            )
        try:
            schema = json_schema_of(found.value)
        except PicoschemaError as error:
            self._wrong(found.line_of(error.path), f"output.schema: {error.says}", error.remedy)
            return None
        return schema if self._usable(schema, found) else None

    def _usable(self, schema: dict[str, Any], found: Value) -> bool:
        """Whether an output schema can be used; what is wrong with it is noted."""
        if fault := schema_fault(schema):
            path, why = fault
            self._wrong(found.line_of(tuple(path)), f"output.schema: {why}", "correct it: see json-schema.org")
            return False
        if problem := schema_problem(schema):
            self._wrong(found.line, f"output.schema: {problem}", "describe an object, without outside references")
            return False
        return True

    def _csv(self) -> dict[str, Any] | None:
        """What it reads of the CSV, as the contract has it; None for all of it."""
        found = self._values.get("fleet.csv")
        if found is None or found.value is None:
            return None
        self._lines["csv"] = found.line
        try:
            selection_of(found.value)
        except SelectionError as error:
            self._wrong(found.line_of(error.path), f"fleet.csv: {error.says}", error.remedy)
            return None
        return dict(found.value)

    def _inputs(self, prompt: Prompt, named: Mapping[str, int]) -> list[str] | None:
        """What it reads: as ``fleet.inputs`` says, otherwise what the template of its message names; None for the
        default."""
        inputs: list[str] | None = self._read("fleet.inputs", "input_keys", _names, "a list of names, each once")
        if inputs is None and prompt.user is not None and "fleet.inputs" not in self._values:
            return list(named)
        return inputs

    def _prompt(self) -> Prompt:
        try:
            prompt = split_prompt(self._body)
        except TemplateError as error:
            self._wrong(error.line + self._body_line - 1, error.says, error.remedy)
            return Prompt("", None, [], False)
        if not prompt.system:
            self._wrong(self._body_line, "it has no system prompt", "write it below the front matter")
        if prompt.user is not None and not prompt.user:
            says = 'there is nothing below {{role "user"}}'
            self._wrong(self._body_line, says, "write the message, or remove the tag")
        return prompt


_READ_SECTIONS = ("config", "fleet", "input", "output")


def _remedy_for(name: str) -> str:
    section = name.split(".")[0]
    if section == "input":
        return "name what it reads in fleet.inputs"
    known = [own for own in _OWN if own.startswith(f"{section}.")] if "." in name else []
    spelled = {own.lower(): own for own in known} | {other.lower(): own for other, own in _SPELLINGS.items()}
    if section == "config":
        near = nearest(name.lower(), spelled, 0.8)
        first = f"write {spelled[near]}" if near else "remove it"
        own = "if it is a field of the provider's own request, put it into config.providerOptions"
        return f"{first}; {own}; known are {', '.join(known)}"
    return f"correct or remove it; known are {', '.join(known or (own for own in _OWN if '.' not in own))}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    value.encode()  # YAML can write half of a surrogate pair, which is not text
    return value.strip()


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1_000_000_000:
        raise ValueError(value)
    return value


def _positive(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError(value)
    return int(value)


def _between(low: float, high: float) -> Callable[[Any], float]:
    def usable(value: Any) -> float:
        if isinstance(value, bool) or not low <= value <= high:
            raise ValueError(value)
        return float(value)

    return usable


def _one_of(*choices: str) -> Callable[[Any], str]:
    def usable(value: Any) -> str:
        if value not in choices:
            raise ValueError(value)
        return str(value)

    return usable


def _names(value: Any) -> list[str]:
    names = [_text(name) for name in ([value] if isinstance(value, str) else list(value))]
    if len(set(names)) != len(names) or not isinstance(value, str | list):
        raise ValueError(value)
    return names


def model_choice(value: Any) -> tuple[str, str] | None:
    """Provider and model of ``PROVIDER/MODEL``; a model's own name may contain slashes."""
    if not isinstance(value, str):
        return None
    provider, _, model = value.strip().partition("/")
    return (provider.lower(), model) if provider and model and not re.search(r"\s", value.strip()) else None
