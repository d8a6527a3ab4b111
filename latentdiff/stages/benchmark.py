"""Measure the speed of training, sampling and evaluation on this machine, beside the limits of its hardware."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.tool_stages import BenchmarkStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(BenchmarkStage, argv)
    from latentdiff.benchmark.run_benchmark import run_benchmark  # torch: --help does not wait for it

    run_benchmark(settings, command("benchmark", argv))


if __name__ == "__main__":
    run_stage(main)
