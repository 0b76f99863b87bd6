"""Exit statuses. Source for the last: sysexits.h, EX_CONFIG."""

EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTINGS = 0, 1, 78
