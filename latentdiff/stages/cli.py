"""The command line of every stage: a frozen dataclass, a YAML file, dotted flags."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from latentdiff.shelf import find_config

Config = TypeVar("Config")


def parse(cls: type[Config], argv: list[str] | None = None) -> Config:
    """Parse ``argv`` (or the process's) into ``cls``: ``--config FILE``, then dotted flags over it.

    Unknown keys, in a file or among the flags, end the program with a message that names them.
    """
    from docstring_parser import DocstringStyle
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_style=DocstringStyle.GOOGLE)
    spec = sys.modules["__main__"].__spec__
    module = cls.__module__ if cls.__module__ != "__main__" or spec is None else spec.name
    parser = ArgumentParser(prog=f"python -m {module}")
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file of settings; flags after it win. A name under "
        "configs/, such as fashion-mnist/pixel.yaml, is found wherever latentdiff is installed.",
    )
    parser.add_class_arguments(cls)
    namespace = parser.instantiate(parser.parse_args(_usual(sys.argv[1:] if argv is None else argv)))
    return cls(**{name: value for name, value in vars(namespace).items() if name != "config"})


def _usual(arguments: list[str]) -> list[str]:
    """What people type, as jsonargparse wants it.

    Dashes in an option's name mean underscores, an option without a value means true, and ``--config`` takes a name
    under configs/ too.
    """
    result = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        if argument.startswith("--") and not argument.startswith(("--help", "--config")):
            name, equals, value = argument[2:].partition("=")
            argument = f"--{name.replace('-', '_')}{equals}{value}"
            if not equals and following.startswith("--") and name not in ("print-config", "print_config"):
                argument += "=true"
        elif argument.startswith("--config="):
            argument = f"--config={_located(argument.removeprefix('--config='))}"
        elif result and result[-1] == "--config":
            argument = _located(argument)
        result.append(argument)
    return result


def _located(name: str) -> str:
    return name if Path(name).is_file() else os.fspath(find_config(name.removeprefix("configs/")) or name)


def command(module: str, argv: list[str] | None) -> str:
    """The command line that made a run, for its records."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])


def _one_of_several() -> bool:
    """Whether torchrun or srun began this process among others; asked without torch, which takes a second."""
    return any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))


def _speaks() -> bool:
    """Whether this process is by itself, or the first of several."""
    return not _one_of_several() or os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def run_stage(main: Callable[[], Any], several: bool = False) -> None:
    """Run a stage's main; an error that is the user's to mend is one sentence, not a traceback.

    Args:
        main: What to run.
        several: It knows how to be one of several processes; of others torchrun must begin one alone.
    """
    from latentdiff.stages.folders import FolderError

    if _one_of_several():
        if not several:
            sys.exit("error: this stage is work for one process: begin it without torchrun or srun")
        from latentdiff import processes

        processes.join()
        if not processes.first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        main()
        if _one_of_several():
            processes.leave()
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept: a training run goes on with --run.resume true")
    except Exception as error:
        from latentdiff.checkpoint import CheckpointError
        from latentdiff.data import DataError
        from latentdiff.report.evaluation import ReportError

        expected = (FolderError, CheckpointError, DataError, ReportError, ValueError, FloatingPointError)
        if isinstance(error, subprocess.CalledProcessError):
            sys.exit(f"error: the stage above ended with status {error.returncode}; mended, the command goes on")
        if isinstance(error, expected) and not os.environ.get("LATENTDIFF_TRACEBACK"):
            # What the user did wrong is wrong in all processes; one says it.
            sys.exit(f"error: {error}" if _speaks() else 1)
        raise
