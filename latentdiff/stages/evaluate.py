"""Measure a model: distances to real images, floors, speed."""

from __future__ import annotations

from latentdiff.command_line import command, parse, run_stage
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.runs.launch import start_processes


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(EvaluateStage, argv)
    if start_processes("evaluate", argv, settings.devices):
        return
    from latentdiff.evaluation.evaluate import evaluate_with_settings  # torch: --help does not wait for it
    from latentdiff.training.ema_choice import with_ema

    evaluate_with_settings(with_ema(settings), command("evaluate", argv))


if __name__ == "__main__":
    run_stage(main, several_processes=True)
