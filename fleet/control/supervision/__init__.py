"""The processes of this machine: supervisord, its programs, scaling, rolling, healing."""
