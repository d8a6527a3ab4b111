"""The command line of every stage: a frozen dataclass, a YAML file, dotted flags.

torch is imported only where a stage begins to work: ``--help`` does not wait for it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from docstring_parser import DocstringStyle
from jsonargparse import ArgumentParser, set_parsing_settings

from latentdiff.errors import ConfigError, LatentdiffError
from latentdiff.resources import find_config

StageSettings = TypeVar("StageSettings")
PACKAGE = "latentdiff.stages"


def parse(settings: type[StageSettings], argv: list[str] | None = None) -> StageSettings:
    """The settings of a stage from ``--config FILE`` and dotted flags, which win over the file.

    Args:
        settings: The stage's dataclass; ``DiffusionStage`` is that of the stage ``diffusion``.
        argv: Its arguments. Default: this process's.

    Raises :class:`~latentdiff.errors.ConfigError` for an unknown key, in a file or among the flags, and for a value
    that a setting does not take.
    """
    stage = settings.__name__.removesuffix("Stage").lower()
    set_parsing_settings(docstring_parse_style=DocstringStyle.GOOGLE)
    parser = ArgumentParser(prog=f"python -m {PACKAGE}.{stage}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file of settings. Flags after it win. A name under configs/, such as fashion-mnist/pixel.yaml, is "
        "found wherever latentdiff is installed.",
    )
    parser.add_class_arguments(settings)
    try:
        parsed = parser.parse_args(_spelt_for_parser(sys.argv[1:] if argv is None else argv))
        namespace = parser.instantiate(parsed)
    except ConfigError:
        raise
    # jsonargparse raises ArgumentError, and what a dataclass raises while it is built, such as TypeError.
    except Exception as error:
        raise ConfigError(_in_short(str(error), stage)) from error
    return settings(**{name: value for name, value in vars(namespace).items() if name != "config"})


def command(stage: str, argv: list[str] | None) -> str:
    """The command line that made a run, for its records."""
    return shlex.join(["python", "-m", f"{PACKAGE}.{stage}", *(sys.argv[1:] if argv is None else argv)])


def run_stage(main: Callable[[], Any], several_processes: bool = False) -> None:
    """Run a stage's main. An error that the user can mend becomes one to three lines, not a traceback.

    Args:
        main: What to run.
        several_processes: Whether the stage can be one of several processes that torchrun or srun began.
    """
    if _is_one_of_several() and not several_processes:
        sys.exit("error: this stage works in one process. Start it without torchrun or srun.")
    try:
        if _is_one_of_several():
            _as_one_of_several(main)
        else:
            main()
    except KeyboardInterrupt:
        sys.exit("interrupted. What was finished is kept: a training run goes on with --run.resume true.")
    except (LatentdiffError, ValueError, FloatingPointError) as error:
        if os.environ.get("LATENTDIFF_TRACEBACK"):
            raise
        # What is wrong is wrong in all processes. The first one says it.
        sys.exit(f"error: {error}" if _is_main_process() else 1)


def _as_one_of_several(main: Callable[[], Any]) -> None:
    from latentdiff import distributed  # torch

    distributed.init_process_group()
    if not distributed.is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main()
    distributed.destroy_process_group()


def _spelt_for_parser(arguments: list[str]) -> list[str]:
    """What people type, as jsonargparse wants it.

    Dashes in an option's name become underscores. An option without a value becomes true. ``--config`` takes a name
    under configs/ too.
    """
    result: list[str] = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        if argument.startswith("--") and not argument.startswith(("--help", "--config")):
            name, equals, value = argument[2:].partition("=")
            argument = f"--{name.replace('-', '_')}{equals}{value}"
            if not equals and following.startswith("--") and name not in ("print-config", "print_config"):
                argument += "=true"
        elif argument.startswith("--config="):
            argument = f"--config={_find_config(argument.removeprefix('--config='))}"
        elif result and result[-1] == "--config":
            argument = _find_config(argument)
        result.append(argument)
    return result


def _find_config(name: str) -> str:
    return name if Path(name).is_file() else os.fspath(find_config(name.removeprefix("configs/")) or name)


def _in_short(message: str, stage: str) -> str:
    """The first lines of a parser's message, which say what is wrong, and where the settings are listed."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "\n".join([*lines[:2], f"python -m {PACKAGE}.{stage} --help lists all settings."])


def _is_one_of_several() -> bool:
    """Whether torchrun or srun began this process among others. Asked without torch."""
    return any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))


def _is_main_process() -> bool:
    """Whether this process works alone, or is the first of several."""
    return not _is_one_of_several() or os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
