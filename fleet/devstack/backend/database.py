"""The backend's tables, and the sample project that is seeded into them."""

import json
import sqlite3
from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fleet.projects.folder import Project, read_project
from fleet.projects.problems import ProjectDamaged

#: The sample project, a folder of fleet/devstack/sample, and the same without declared inputs.
_SAMPLE, _CLASSIC = "seo-demo", "seo-classic"
_SAMPLE_NAME = "SEO ukázka"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS Project (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ApiKey (provider TEXT PRIMARY KEY, api_key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS Assistant (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES Project (id), functionKey TEXT, name TEXT,
    "order" INTEGER, active INTEGER NOT NULL DEFAULT 1, model_provider TEXT, model TEXT, system_prompt TEXT,
    temperature REAL, top_p REAL, max_tokens INTEGER, input_keys TEXT, fallback TEXT,
    on_ambiguous TEXT, output_schema TEXT, reasoning_effort TEXT, thinking_budget INTEGER, stop TEXT, seed INTEGER,
    provider_options TEXT
);
"""
_JSON_COLUMNS = ("input_keys", "fallback", "output_schema", "stop", "provider_options")
#: Columns that a database of 0.2.0 lacks, with their types.
_LATER_COLUMNS = {
    "output_schema": "TEXT",
    "reasoning_effort": "TEXT",
    "thinking_budget": "INTEGER",
    "stop": "TEXT",
    "seed": "INTEGER",
    "provider_options": "TEXT",
}


def connect(database: Path) -> sqlite3.Connection:
    """Open the database, and create missing tables."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(_SCHEMA)
    columns = {row["name"] for row in connection.execute("PRAGMA table_info(Assistant)")}
    for name, kind in _LATER_COLUMNS.items():
        if name not in columns:
            connection.execute(f"ALTER TABLE Assistant ADD COLUMN {name} {kind}")
    return connection


def assistants_of(connection: sqlite3.Connection, project_id: str) -> list[dict[str, Any]] | None:
    """The project's assistants as the API returns them; None if the project does not exist."""
    if connection.execute("SELECT 1 FROM Project WHERE id = ?", (project_id,)).fetchone() is None:
        return None
    rows = connection.execute('SELECT * FROM Assistant WHERE project_id = ? ORDER BY "order"', (project_id,))
    return [_shown(dict(row)) for row in rows]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = row | {"active": bool(row["active"])}
    del shown["project_id"]
    for column in {*_JSON_COLUMNS, *_LATER_COLUMNS}:
        if shown[column] is None:
            del shown[column]
        elif column in _JSON_COLUMNS:
            shown[column] = json.loads(shown[column])
    return shown


def api_key_of(connection: sqlite3.Connection, provider: str) -> str | None:
    """The provider's key; None if there is none."""
    row = connection.execute("SELECT api_key FROM ApiKey WHERE provider = ?", (provider,)).fetchone()
    return row["api_key"] if row else None


def seed_sample(connection: sqlite3.Connection) -> None:
    """Add the sample project; existing rows are not changed."""
    assistants = sample_project().assistants
    with connection:
        for project_id, with_inputs in ((_SAMPLE, True), (_CLASSIC, False)):
            found = connection.execute("INSERT OR IGNORE INTO Project VALUES (?, ?)", (project_id, _SAMPLE_NAME))
            if found.rowcount:
                _insert_assistants(connection, project_id, assistants, with_inputs=with_inputs)


def sample_project() -> Project:
    """The sample project, from its folder."""
    with as_file(files("fleet.devstack.sample").joinpath(_SAMPLE)) as folder:
        project, problems = read_project(folder)
    if project is None:
        raise ProjectDamaged.by(problems)
    return project


def seed_keys(connection: sqlite3.Connection, providers: Iterable[str]) -> None:
    """Add a key for the simulator for each provider that has none."""
    keys = [(provider, f"sim-{provider}-key") for provider in providers]
    with connection:
        connection.executemany("INSERT OR IGNORE INTO ApiKey VALUES (?, ?)", keys)


def _insert_assistants(
    connection: sqlite3.Connection, project_id: str, assistants: list[dict[str, Any]], *, with_inputs: bool
) -> None:
    for position, assistant in enumerate(assistants, start=1):
        row = {
            "id": f"{project_id}-{position}",
            "project_id": project_id,
            **{name: value for name, value in assistant.items() if name not in ("id", "input_keys")},
            "input_keys": json.dumps(assistant["input_keys"]) if with_inputs else None,
        }
        columns = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO Assistant ({columns}) VALUES ({places})", tuple(row.values()))
