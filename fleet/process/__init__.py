"""What every process of the fleet has in common: its lifecycle, log, liveness record, metrics and identity."""
