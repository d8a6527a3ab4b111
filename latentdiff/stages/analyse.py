"""Look at a data set before training on it."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.tool_stages import AnalyseStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(AnalyseStage, argv)
    from latentdiff.evaluation.dataset_analysis import analyse_dataset  # torch: --help does not wait for it

    analyse_dataset(settings, command("analyse", argv))


if __name__ == "__main__":
    run_stage(main)
