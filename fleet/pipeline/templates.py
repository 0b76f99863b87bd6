"""The templates that an assistant's prompt may have: checked before anything is paid, rendered by its worker.
Pure.

The language is the part of Dotprompt (Handlebars) that places texts: ``{{topic}}``, ``{{csv}}``, ``{{date}}`` and
``{{<functionKey>}}``, ``{{#if csv}} … {{else}} … {{/if}}``, ``{{#unless csv}} … {{/unless}}``,
``{{role "user"}}``, ``{{! a comment }}``, and ``\\{{`` for two braces that are text. Source:
google.github.io/dotprompt/reference.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

_TAG = re.compile(r"(?<!\\)\{\{~?!--.*?--~?\}\}|(?:\\\{\{|\{\{(?!~?!--))\{?[^{}]*\}?\}\}", re.DOTALL)
_NAME = r"[^\s!\"#%&'()*+,./;<=>@\[\\\]^`{|}~]+(?:\.[^\s!\"#%&'()*+,./;<=>@\[\\\]^`{|}~]+)*"
_PLACE = re.compile(_NAME)
_BLOCK = re.compile(rf"#(if|unless)\s+({_NAME})")
_END = re.compile(r"/(if|unless)")
_ROLE = re.compile(r"""role\s+["'](\w+)["']""")
_ROLES = ("system", "user")
#: Stands for the dot of ``{{brief.keywords}}`` in a template that is rendered: a character of no name.
_DOT = "\ue000"
_SUPPORTED = 'write {{topic}}, {{csv}}, {{date}}, {{<functionKey>}}, {{#if …}}, {{#unless …}} or {{role "user"}}'


class TemplateError(ValueError):
    """A template cannot be used. ``line`` counts from 1 in the template's own text."""

    def __init__(self, line: int, says: str, remedy: str) -> None:
        super().__init__(f"line {line} of the template: {says}. Remedy: {remedy}")
        self.line, self.says, self.remedy = line, says, remedy


@dataclass(frozen=True)
class Named:
    """A place in a template that names an input; ``line`` counts from 1."""

    name: str
    line: int


@dataclass(frozen=True)
class Prompt:
    """A template's text for each role. ``user`` None: it has no part for the user message. ``named`` has every
    place that names an input. ``dynamic``: the system text is a template; otherwise it is plain text."""

    system: str
    user: str | None
    named: list[Named]
    dynamic: bool


@dataclass(frozen=True)
class _Tag:
    """``inner`` is what stands between its braces, empty for a comment and for escaped braces."""

    start: int
    end: int
    line: int
    inner: str


def split_prompt(text: str) -> Prompt:
    """A prompt with its tags checked, divided by ``{{role}}``; what stands before the first role is the system's.

    Raises:
        TemplateError: a tag is not of the supported language, a block is not closed, a role is unknown.
    """
    parts: dict[str, list[str]] = {role: [] for role in _ROLES}
    role, began = "system", 0
    named: list[Named] = []
    blocks: list[tuple[str, int]] = []
    for tag in _tags(text):
        if found := _ROLE.fullmatch(tag.inner):
            _refuse_role(found[1], tag.line, blocks)
            parts[role].append(text[began : tag.start])
            role, began = found[1], tag.end
        else:
            named += _checked(tag, blocks)
    if blocks:
        kind, line = blocks[-1]
        raise TemplateError(line, f"{{{{#{kind}}}}} is not closed", f"end it with {{{{/{kind}}}}}")
    parts[role].append(text[began:])
    system = _joined(parts["system"])
    dynamic = any(not tag.group().startswith("\\") for tag in _TAG.finditer(system))
    if not dynamic:
        system = system.replace("\\{{", "{{")
    return Prompt(system, _joined(parts["user"]) if parts["user"] else None, named, dynamic)


def names_in(text: str) -> list[str]:
    """The inputs that a template names, each once, in order.

    Raises:
        TemplateError: see :func:`split_prompt`.
    """
    return list(dict.fromkeys(place.name for place in split_prompt(text).named))


def render_template(text: str, values: Mapping[str, str]) -> str:
    """The template with its places filled in; what a value contains is never read as a template. A name without a
    value is empty text.

    Raises:
        TemplateError: see :func:`split_prompt`.
    """
    return _compiled(text)({name.replace(".", _DOT): value for name, value in values.items()}).strip()


def escaped(text: str) -> str:
    """Plain text as a template that renders to it."""
    return text.replace("{{", "\\{{")


@lru_cache(maxsize=256)
def _compiled(text: str) -> Callable[[dict[str, str]], str]:
    # Imported here: only assistants that have a template need it.
    from dotpromptz_handlebars import EscapeFunction, Handlebars

    split_prompt(text)
    language = Handlebars(escape_fn=EscapeFunction.NO_ESCAPE)
    for helper in ("lookup", "log"):  # which would hide an assistant of that name
        language.unregister_helper(helper)
    # A dot would be a path into a value, and the values are texts.
    try:
        return language.compile(_TAG.sub(_without_dots, text))
    except ValueError as error:
        raise TemplateError(1, f"it cannot be read ({error})", _SUPPORTED) from None


def _without_dots(tag: re.Match[str]) -> str:
    return tag[0] if tag[0].startswith("\\") else tag[0].replace(".", _DOT)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(stripped for part in parts if (stripped := part.strip()))


def _tags(text: str) -> Iterator[_Tag]:
    end = 0
    for found in _TAG.finditer(text):
        _refuse_stray(text, end, found.start())
        end = found.end()
        whole = found.group()
        _refuse_uneven(text, found)
        inner = "" if whole.startswith(("\\", "{{!", "{{~!")) else whole.strip("{}").strip("~").strip()
        if not inner and not whole.startswith(("\\", "{{!", "{{~!")):
            inner = " "  # an empty tag, which is refused
        yield _Tag(found.start(), end, _line(text, found.start()), inner)
    _refuse_stray(text, end, len(text))


def _refuse_stray(text: str, start: int, end: int) -> None:
    """Raise TemplateError for braces that open between two tags and belong to none."""
    stray = text.find("{{", start, end)
    if stray >= 0:
        raise TemplateError(
            _line(text, stray), "{{ is not closed", "close it with }}, or write \\{{ for two braces that are text"
        )


def _refuse_uneven(text: str, tag: re.Match[str]) -> None:
    """Raise TemplateError for what the template engine does not take, or takes for something else: a tag that more
    braces open than close, anything but a name in three braces, two backslashes in front of a tag."""
    whole = tag[0]
    if whole.startswith("\\") and text[: tag.start()].endswith("\\"):
        remedy = "write one backslash for two braces that are text, and none for a tag"
        raise TemplateError(_line(text, tag.start()), "two backslashes stand in front of {{", remedy)
    if whole.startswith("\\"):
        return
    three = whole.startswith("{{{")
    if text[: tag.start()].endswith("{") or (three and not whole.endswith("}}}")):
        remedy = "open a tag with two braces, and put a space between it and a brace that is text"
        raise TemplateError(_line(text, tag.start()), "a tag has a brace too many in front of it", remedy)
    if three and not _PLACE.fullmatch(whole.strip("{}").strip()):
        remedy = "write it in two braces"
        raise TemplateError(_line(text, tag.start()), "only a name may stand in three braces", remedy)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _refuse_role(role: str, line: int, blocks: list[tuple[str, int]]) -> None:
    if role not in _ROLES:
        raise TemplateError(line, f"role {role!r} is not supported", "use system or user")
    if blocks:
        raise TemplateError(line, "a role stands within a block", "move it out of the block")


def _checked(tag: _Tag, blocks: list[tuple[str, int]]) -> list[Named]:
    """What the tag names; ``blocks`` are those that are open, with their lines, and follow the tag."""
    inner = tag.inner
    if not inner:
        return []
    if found := _BLOCK.fullmatch(inner):
        blocks.append((found[1], tag.line))
        return [Named(found[2], tag.line)]
    if found := _END.fullmatch(inner):
        if not blocks or blocks[-1][0] != found[1]:
            raise TemplateError(tag.line, f"{{{{/{found[1]}}}}} closes nothing", "remove it, or open its block")
        blocks.pop()
        return []
    if inner == "else" and blocks:
        return []
    if inner != "else" and _PLACE.fullmatch(inner):
        return [Named(inner, tag.line)]
    raise TemplateError(tag.line, f"{{{{{' '.join(inner.split())[:60]}}}}} is not supported", _SUPPORTED)
