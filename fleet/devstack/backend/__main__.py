"""``python -m fleet.devstack.backend --port N --database FILE``: serves the backend on loopback."""

import argparse
from contextlib import closing
from pathlib import Path

from fleet.devstack.backend.app import create_app
from fleet.devstack.backend.database import connect, seed_keys, seed_sample
from fleet.devstack.backend.keys import real_key
from fleet.devstack.http_program import serve_until_signal
from fleet.projects.served_projects import ServedProjects


def main() -> None:
    """Read the options, seed if requested, serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="backend", description="Serves the Backend API's contract from SQLite.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--seed-sample", action="store_true", help="add the sample project seo-demo")
    parser.add_argument(
        "--key-for", nargs="*", default=[], metavar="PROVIDER", help="add a simulator's key for it"
    )
    parser.add_argument(
        "--real-keys-for",
        type=Path,
        metavar="FILE",
        help="for all other providers, give out PROVIDER_API_KEY of the environment and no stored key, to whoever "
        "sends the token in FILE",
    )
    parser.add_argument("--projects", type=Path, metavar="DIR", help="serve the projects in this folder too")
    options = parser.parse_args()
    with closing(connect(options.database)) as connection:
        if options.seed_sample:
            seed_sample(connection)
        seed_keys(connection, options.key_for)
    kept = options.database.parent / "projects"
    projects = ServedProjects(options.projects, kept) if options.projects else None
    app = create_app(options.database, stored_for=options.key_for, projects=projects)
    if options.real_keys_for is not None:
        token = options.real_keys_for.read_text("ascii")
        app = create_app(options.database, real_key, options.key_for, projects, token)
    serve_until_signal(app, host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
