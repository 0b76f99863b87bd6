"""``python -m fleet.cli``: the ``fleet`` command, for those who know the interpreter and not its folder."""

from fleet.cli.main import main

if __name__ == "__main__":
    main()
