"""Train diffusion models of equal length with different settings, from a list or by a search, and rank them."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import SweepStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(SweepStage, argv)
    # torch: --help does not wait for it
    if settings.search == "optuna":
        from latentdiff.comparison.search import run_search

        run_search(settings)
    else:
        from latentdiff.comparison.sweep import run_sweep

        run_sweep(settings)


if __name__ == "__main__":
    run_stage(main)
