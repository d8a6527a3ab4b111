"""Train diffusion models for equal seconds with different settings, and rank them."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import SweepStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(SweepStage, argv)
    from latentdiff.comparison.sweep import run_sweep  # torch: --help does not wait for it

    run_sweep(settings)


if __name__ == "__main__":
    run_stage(main)
