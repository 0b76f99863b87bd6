"""The log files of this machine's processes, read as one and merged into one."""
