"""Benchmarks: what basestore costs on this machine. `python -m benchmarks --help`."""
