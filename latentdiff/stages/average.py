"""Average the weights of several runs that started from one another."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.model_stages import AverageStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(AverageStage, argv)
    from latentdiff.runs.patched_models import average_models  # torch: --help does not wait for it

    average_models(settings, command("average", argv))


if __name__ == "__main__":
    run_stage(main)
