"""A project from its folder: all its files, checked together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.contracts import CSV_KEY, DATE_KEY, PIPELINE_KEYS, TOPIC_KEY
from fleet.errors import InputError, OperationError, SettingsError
from fleet.model_options import options_in
from fleet.near_names import did_you_mean
from fleet.pipeline.assistants import source_of
from fleet.pipeline.fingerprint import fingerprint_of
from fleet.pipeline.inputs import clean_inputs
from fleet.pipeline.structured_outputs import declared_fields
from fleet.projects.problems import Problem
from fleet.projects.prompt_file import FILE_WORDS, SUFFIX, PromptFile, read_prompt_file
from fleet.provider_settings import ProviderSettings
from fleet.providers.options import refused_options

ProviderOf = Callable[[str], ProviderSettings]


@dataclass(frozen=True)
class Project:
    """A project whose files are sound; ``assistants`` is what the Backend API's contract returns for it."""

    project_id: str
    assistants: list[dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its assistants."""
        return fingerprint_of(self.assistants)


def projects_in(folder: Path) -> list[Path]:
    """The folders of the projects in ``folder``: those that have a prompt file, by name."""
    try:
        return sorted(path for path in folder.iterdir() if _is_project(path))
    except OSError:
        return []


def is_project(folder: Path) -> bool:
    """Whether the folder itself is a project, and not a folder of projects."""
    return any(folder.glob(f"*{SUFFIX}"))


def problems_in(folder: Path, provider_of: ProviderOf | None = None) -> list[Problem]:
    """What is wrong with the projects in a folder of projects; for ``provider_of`` see :func:`read_project`.

    Raises:
        OperationError: it is no such folder.
    """
    refuse_no_projects(folder)
    return [problem for path in projects_in(folder) for problem in read_project(path, provider_of)[1]]


def refuse_no_projects(folder: Path) -> None:
    """Raise OperationError if this is not a folder of projects."""
    if not folder.is_dir():
        raise OperationError(f"{folder} is not a folder. Remedy: name the folder that has your projects' folders")
    if is_project(folder):
        raise OperationError(
            f"{folder} is a project, and not a folder of projects. Remedy: name its parent, "
            f"{folder.absolute().parent}"
        )
    if not projects_in(folder):
        raise OperationError(
            f"{folder} has no project. Remedy: make one with `fleet project new NAME --dir {folder}`"
        )


def _is_project(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_dir() and is_project(path)


def read_project(folder: Path, provider_of: ProviderOf | None = None) -> tuple[Project | None, list[Problem]]:
    """The project in a folder and what is wrong with it; None where something is.

    ``provider_of`` returns a provider's settings for any spelling of its name, or raises SettingsError where it is
    not configured; without it every provider will do, and no model's options are checked.
    """
    problems = _of_name(folder.name)
    files = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        found, wrong = read_prompt_file(path, f"{folder.name}/{path.name}")
        problems += wrong
        files += [found] if found else []
    if not files and not problems:
        problems.append(Problem(folder.name, 0, f"it has no file *{SUFFIX}", f"add one such as 10-brief{SUFFIX}"))
    files = _with_inputs(sorted(files, key=lambda file: int(file.row["order"])))
    problems += _together(files, provider_of, whole=not problems)
    if problems:
        return None, problems
    rows = [{"id": f"{folder.name}-{number}", **file.row} for number, file in enumerate(files, start=1)]
    return Project(folder.name, rows), []


def _with_inputs(files: Sequence[PromptFile]) -> list[PromptFile]:
    """The files, with the inputs of those whose system prompt is a template that names more than the default
    inputs: these, and what it names."""
    active = [file for file in files if file.row["active"]]
    completed = {}
    for file, read in _reading(active):
        further = [name for name in file.template_lines if name not in read]
        if further and "input_keys" not in file.row and "input_keys" not in file.lines:
            completed[file.file] = replace(file, row={**file.row, "input_keys": [*read, *further]})
    return [completed.get(file.file, file) for file in files]


def _of_name(project_id: str) -> list[Problem]:
    try:
        clean_inputs("topic", project_id, "", "", csv_max_bytes=1)
    except InputError:
        remedy = "rename the folder: no spaces, ?, # and %, and at most 200 characters"
        return [Problem(project_id, 0, "its name cannot be a project's id", remedy)]
    return []


def _together(files: Sequence[PromptFile], provider_of: ProviderOf | None, *, whole: bool) -> Iterator[Problem]:
    """What is wrong between the files. ``whole``: every file of the project could be read, so that an input that
    is not found does not exist."""
    twins = list(_twins(files))
    yield from twins
    if provider_of is not None:
        yield from _unknown_providers(files, provider_of)
        yield from _refused_options(files, provider_of)
    active = [file for file in files if file.row["active"]]
    if whole and not active:
        folder = files[0].file.split("/")[0]
        yield Problem(
            folder, 0, "all its assistants are inactive", "remove `fleet.active: false` from one of them"
        )
    if whole:
        yield from _unknown_inputs(active, files)
    yield from _unread(active)
    for file, read in _reading(active):
        if "csv" in file.row and CSV_KEY not in read:
            remedy = "add csv to fleet.inputs, or remove fleet.csv"
            yield file.problem("csv", "fleet.csv chooses from the CSV, which it does not read", remedy)
    if not twins:
        yield from _cycle(active)


def _twins(files: Sequence[PromptFile]) -> Iterator[Problem]:
    keys: dict[str, PromptFile] = {}
    orders: dict[int, PromptFile] = {}
    for file in files:
        key, order = file.row["functionKey"], file.row["order"]
        if twin := keys.get(key):
            yield file.problem(
                "functionKey", f"key {key!r} is used by {twin.file} too", "rename one of the two files"
            )
        if twin := orders.get(order):
            remedy = "begin the name of one with another number, or set fleet.order"
            yield file.problem("order", f"order {order} is used by {twin.file} too", remedy)
        keys.setdefault(key, file)
        orders.setdefault(order, file)


def _unknown_providers(files: Sequence[PromptFile], provider_of: ProviderOf) -> Iterator[Problem]:
    for file in files:
        named = [("model", file.row["model_provider"])]
        named += [("fallback", choice["model_provider"]) for choice in file.row.get("fallback") or []]
        for field, provider in named:
            try:
                provider_of(provider)
            except SettingsError as error:
                says, _, remedy = str(error).partition(". Remedy: ")
                yield file.problem(field, says, remedy.replace("the assistant's model_provider", field))


def _refused_options(files: Sequence[PromptFile], provider_of: ProviderOf) -> Iterator[Problem]:
    """Options that the assistants' own models do not take."""
    for file in files:
        row, options = file.row, options_in(file.row)
        if options is None:
            continue
        with suppress(SettingsError):
            provider = provider_of(row["model_provider"])
            for each in refused_options(provider, row["model"], options, row["max_tokens"], FILE_WORDS):
                at = ".".join((each.name, *each.path))
                yield file.problem(at if at in file.lines else each.name, each.says, each.remedy)


def _unknown_inputs(active: Sequence[PromptFile], files: Sequence[PromptFile]) -> Iterator[Problem]:
    known = [file.row["functionKey"] for file in active] + sorted(PIPELINE_KEYS)
    by_key = dict.fromkeys(PIPELINE_KEYS) | {file.row["functionKey"]: file for file in active}
    inactive = {file.row["functionKey"] for file in files} - set(known)
    for file in active:
        for key in file.row.get("input_keys") or []:
            owner, path = source_of(key, known)
            line = file.lines.get("input_keys") or file.template_lines.get(key, 1)
            if path:
                yield from _unknown_field(Problem(file.file, line, "", ""), key, by_key[owner], path)
            elif key not in known:
                why = "is inactive" if source_of(key, inactive)[0] in inactive else "does not exist"
                others = [name for name in known if name != file.row["functionKey"]]
                meant = did_you_mean(key, others)
                yield Problem(
                    file.file, line, f"its input {key!r} {why}{meant}", f"name some of {', '.join(others)}"
                )


def _unknown_field(at: Problem, key: str, owner: PromptFile | None, path: Sequence[str]) -> Iterator[Problem]:
    """The problem of an input that is a field, if the output of its owner has none of that name."""
    if owner is None:
        yield replace(at, says=f"its input {key!r} does not exist", remedy=f"name {key.split('.')[0]} as a whole")
        return
    name, schema = owner.row["functionKey"], owner.row.get("output_schema")
    if schema is None:
        says = f"its input {key!r} is a field, and {owner.file} has no output.schema"
        yield replace(at, says=says, remedy=f"describe it in output.schema there, or name {name} as a whole")
        return
    for depth, field in enumerate(path):
        there = declared_fields(schema, path[:depth]) or []
        if field not in there:
            place = ".".join([name, *path[:depth]])
            says = f"its input {key!r}: the output.schema of {owner.file} has no property {field!r} there"
            choices = ", ".join(f"{place}.{other}" for other in there) or place
            yield replace(at, says=says, remedy=f"name one of {choices}, or add it to the schema")
            return


def _unread(active: Sequence[PromptFile]) -> Iterator[Problem]:
    """Names in templates that are not among the inputs."""
    for file, read in _reading(active):
        for name, line in file.template_lines.items():
            if name not in read:
                remedy = f"add it to fleet.inputs, or name one of {', '.join(read)}"
                yield Problem(file.file, line, f"its template names {name!r}, which it does not read", remedy)


def _reading(active: Sequence[PromptFile]) -> Iterator[tuple[PromptFile, list[str]]]:
    for position, file in enumerate(active):
        before = active[position - 1].row["functionKey"] if position else TOPIC_KEY
        read = file.row.get("input_keys")
        yield file, [DATE_KEY, before] if read is None else read


def _cycle(active: Sequence[PromptFile]) -> Iterator[Problem]:
    keys = {file.row["functionKey"] for file in active}
    left = {
        file.row["functionKey"]: (file, [source_of(key, keys)[0] for key in read])
        for file, read in _reading(active)
    }
    while free := [key for key, (_, read) in left.items() if not any(needed in left for needed in read)]:
        for key in free:
            del left[key]
    if left:
        file, _ = next(iter(left.values()))
        says = f"the inputs form a cycle: {', '.join(left)} wait for each other"
        if len(left) == 1:
            says = "it reads its own output"
        yield file.problem("input_keys", says, "remove one of these inputs")
