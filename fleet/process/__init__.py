"""What every process of the fleet has in common: its life, its log, its liveness, its metrics, its identity."""
