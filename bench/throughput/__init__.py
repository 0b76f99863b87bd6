"""Throughput, CPU and memory of the fleet beside those of a bare worker that makes the same calls."""
