"""Measure latentdiff beside diffusers, denoising-diffusion-pytorch, torch-fidelity, torchmetrics and scipy.

Implementations take turns in one run: compare ratios within the run. A table, benchmark.json and a figure are written.
The other projects' packages come with ``pip install ".[peers]"``; a package that is missing is left out.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from benchmarks.parts import PARTS
from latentdiff.benchmark.run_benchmark import run_benchmark
from latentdiff.command_line import run_stage
from latentdiff.config.tool_stages import BenchmarkSettings


def main(argv: list[str] | None = None) -> None:
    """Run the benchmarks with the settings of a command line; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller batches, fewer repetitions, fewer parts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=(), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--folder", default="stages/benchmarks", help="where the results go (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU, if any")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--inception_weights", help="file of the FID Inception's weights")
    arguments = vars(parser.parse_args(argv))
    settings = BenchmarkSettings(**arguments | {"parts": tuple(arguments["parts"])})
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)])
    run_benchmark(settings, command, PARTS)


if __name__ == "__main__":
    run_stage(main)
