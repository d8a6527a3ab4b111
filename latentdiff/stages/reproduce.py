"""Train, release, measure and compare all models of a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from latentdiff.command_line import parse, run_stage
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.config.data import DatasetName
from latentdiff.resources import find_config


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the settings of a command line; see ``--help``."""
    settings = parse(ReproduceStage, _expand_arguments(sys.argv[1:] if argv is None else argv))
    from latentdiff.comparison.reproduce import reproduce  # torch: --help does not wait for it

    reproduce(settings)


def _expand_arguments(arguments: list[str]) -> list[str]:
    """Write what stands before the first flag as settings.

    A data set's name means its recipe. It means a preset if there is no recipe, or if a preset is named. The path of a
    folder or zip of images, of Parquet files or tars, means a preset too. Runs that ``--config`` or ``--runs`` gives
    replace both.
    """
    if not arguments or arguments[0].startswith("-"):
        return arguments
    name, *flags = arguments
    given = {flag.split("=")[0] for flag in flags}
    has_runs = bool(given & {"--config", "--runs"} and parse(ReproduceStage, flags).runs)
    is_data_set = name in get_args(DatasetName)  # not ./celeba or celeba/, which are paths
    if not has_runs and "--preset" not in given and is_data_set and find_config(f"{name}/reproduce.yaml"):
        return ["--config", f"{name}/reproduce.yaml", *flags]
    preset = [] if has_runs else ["--preset", "small"]
    if is_data_set or name.startswith("hf:"):
        return ["--data.name", name, *preset, *flags]
    from latentdiff.data.path_kind import name_of_path  # torch: --help does not wait for it

    own = name_of_path(name)
    is_own = own != "folder" or Path(name).expanduser().exists()
    data = ["--data.name", own, "--data.path", name] if is_own else ["--data.name", name]
    return [*data, *preset, *flags]


if __name__ == "__main__":
    run_stage(main)
