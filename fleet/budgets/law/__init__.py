"""The control law: reports in, a dispatch rate out. Pure: no I/O and no clock."""
