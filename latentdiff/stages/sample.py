"""Sample images from a trained model, or reconstruct, interpolate or inpaint images with it."""

from __future__ import annotations

from latentdiff.command_line import parse, run_stage
from latentdiff.config.model_stages import SampleStage
from latentdiff.runs.launch import start_processes


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(SampleStage, argv)
    if start_processes("sample", argv, settings.devices):
        return
    if settings.task == "sample":
        from latentdiff.inference.sample_to_files import sample_to_files  # torch: --help does not wait for it

        sample_to_files(settings)
    else:
        from latentdiff.inference.edit_images import edit_images  # data sets: sampling does not wait for them

        edit_images(settings)


if __name__ == "__main__":
    run_stage(main, several_processes=True)
