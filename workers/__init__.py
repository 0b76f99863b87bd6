"""Entry points of the worker processes: settings, wire, run; nothing else."""
