"""The context of tests/benchmark: the smallest networks and batches."""

import runpy
from pathlib import Path

context = runpy.run_path(str(Path(__file__).parents[1] / "benchmark" / "conftest.py"))["context"]
