"""``python -m fleet.cli``: the ``fleet`` command, for callers that know the interpreter but not the folder of its
scripts."""

from fleet.cli.main import main

if __name__ == "__main__":
    main()
