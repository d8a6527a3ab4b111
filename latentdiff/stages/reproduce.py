"""Train, release, measure and compare all models of a data set."""

from __future__ import annotations

import sys

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import ReproduceStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ReproduceStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.comparison.reproduce import reproduce  # torch: --help does not wait for it

    reproduce(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write a data set's name before the first flag as its recipe."""
    if not arguments or arguments[0].startswith("-"):
        return arguments
    return ["--config", f"{arguments[0]}/reproduce.yaml", *arguments[1:]]


if __name__ == "__main__":
    run_stage(main)
