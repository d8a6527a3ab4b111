"""Measure samplers against their number of steps, on one model."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.comparison_stages import SamplersStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(SamplersStage, argv)
    from latentdiff.comparison.samplers import compare_samplers  # torch: --help does not wait for it

    compare_samplers(settings, command("samplers", argv))


if __name__ == "__main__":
    run_stage(main)
