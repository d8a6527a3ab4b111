"""Write a model in a form that other programs read."""

from __future__ import annotations

import sys

from latentdiff.command_line import parse, run_stage
from latentdiff.config.model_stages import ExportStage


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ExportStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.export.onnx_folder import export_onnx  # torch: --help does not wait for it

    export_onnx(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write a model before the first flag as ``--model``."""
    if arguments and not arguments[0].startswith("-"):
        return [f"--model={arguments[0]}", *arguments[1:]]
    return arguments


if __name__ == "__main__":
    run_stage(main)
