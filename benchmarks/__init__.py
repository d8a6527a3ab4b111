"""Benchmarks for maintainers: latentdiff beside other projects' code. Run them with ``python -m benchmarks``."""
