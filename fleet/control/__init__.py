"""What observes and operates the fleet of one machine: its home, its programs, its supervisor, its health."""
