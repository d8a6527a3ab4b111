"""The command line of every stage: a frozen dataclass, a YAML file, dotted flags.

torch is imported only where a stage begins to work: ``--help`` does not wait for it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from latentdiff.config.base import to_dict
from latentdiff.config.checks import checked, describe, shown, shown_name, shown_path
from latentdiff.config.help_page import help_page
from latentdiff.config.options import (
    build,
    flatten,
    is_bool,
    is_text,
    nearest,
    options_of,
    read_shell,
    read_yaml_value,
    sections_of,
)
from latentdiff.config.ranges import PathSetting
from latentdiff.config.yaml_text import dump_yaml, parse_yaml, read_yaml
from latentdiff.console import outlive_readers
from latentdiff.errors import ConfigError, LatentdiffError
from latentdiff.os_errors import describe_os_error
from latentdiff.resources import find_config

StageSettings = TypeVar("StageSettings")
PACKAGE = "latentdiff.stages"


def parse(settings: type[StageSettings], argv: list[str] | None = None) -> StageSettings:
    """The settings of a stage from ``--config FILE`` and dotted flags.

    Flags win over files. Of two files, and of two equal flags, the last one counts.

    Args:
        settings: The stage's dataclass; ``DiffusionStage`` is that of the stage ``diffusion``.
        argv: Its arguments. Default: this process's.

    Raises :class:`~latentdiff.errors.ConfigError` for a setting that there is not, in a file or among the flags, and
    for a value that a setting does not take. Nothing but the files of settings has been read then.
    """
    arguments = sys.argv[1:] if argv is None else argv
    typed = _typed_command(settings)
    if {"--help", "-h"} & set(arguments):
        print(help_page(settings, typed), end="")
        raise SystemExit(0)
    values: dict[str, Any] = {}
    files: dict[str, Any] = {}
    print_config = False
    try:
        for name, value in _flags(settings, arguments):
            if name == "print_config":
                if value is not None:
                    raise ConfigError(f"--print_config takes no value, not {shown(value)}")
                print_config = True
            elif name == "config":
                if value is None:
                    raise ConfigError("--config needs a value: a YAML file of settings")
                files |= _of_file(settings, value, "--config ")
            elif name in sections_of(settings):
                values |= _of_section(settings, name, value)
            else:
                values |= _of_flag(settings, name, value)
        result = build(settings, files | values)
    except ConfigError as error:
        raise ConfigError(f"{error}\n{typed} --help lists all settings.") from error
    if print_config:
        print(dump_yaml(to_dict(result)), end="")
        raise SystemExit(0)
    return result


def command(stage: str, argv: list[str] | None) -> str:
    """The command line that made a run, for its records."""
    return shlex.join(["python", "-m", f"{PACKAGE}.{stage}", *(sys.argv[1:] if argv is None else argv)])


def run_stage(main: Callable[[], Any], several_processes: bool = False) -> None:
    """Run a stage's main. An error that the user can mend becomes one to three lines, not a traceback.

    Args:
        main: What to run.
        several_processes: Whether the stage can be one of several processes that torchrun or srun began.
    """
    with outlive_readers():
        _run(main, several_processes)


def _run(main: Callable[[], Any], several_processes: bool) -> None:
    if _is_one_of_several() and not several_processes:
        _end("this stage works in one process. Start it without torchrun or srun.")
    try:
        if _is_one_of_several():
            _as_one_of_several(main)
        else:
            main()
    except KeyboardInterrupt:
        sys.exit(
            "interrupted. What was finished is kept: a training run, or sample --pngs, goes on with --run.resume true. "
            "reproduce, sweep and compare go on with the same command."
        )
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
        if not full or os.environ.get("LATENTDIFF_TRACEBACK"):
            raise
        what = str(error).split(". ")[0] or "out of memory"
        _end(
            f"the memory is full: {what}. For a training, give --trainer.memory auto or a smaller "
            "--trainer.batch_size; else a smaller --batch_size."
        )
    except (LatentdiffError, ValueError, FloatingPointError, OSError) as error:
        if os.environ.get("LATENTDIFF_TRACEBACK"):
            raise
        words = describe_os_error(error) if isinstance(error, OSError) else str(error)
        # What is wrong with the settings is wrong in all processes. The first one says it.
        if _is_main_process() or isinstance(error, OSError):
            _end(words)
        sys.exit(1)


def _end(words: str) -> NoReturn:
    sys.exit(f"error: {words}")


def _as_one_of_several(main: Callable[[], Any]) -> None:
    from latentdiff import distributed  # torch

    distributed.init_process_group()
    if not distributed.is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main()
    distributed.destroy_process_group()


def _typed_command(settings: type) -> str:
    """The command of a stage as the user started it."""
    stage = settings.__name__.removesuffix("Stage").lower()
    program = Path(sys.argv[0])
    if program.name in ("latentdiff", "latentdiff.exe"):
        return f"latentdiff {stage}"
    is_package = (program.parent.name, program.name) == ("latentdiff", "__main__.py")
    return f"python -m latentdiff {stage}" if is_package else f"python -m {PACKAGE}.{stage}"


def _flags(settings: type, arguments: list[str]) -> Iterator[tuple[str, str | None]]:
    """The names and values of the flags; None where no value follows. Dashes in a name are underscores."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if not argument.startswith("--") or argument == "--":
            raise ConfigError(
                f"{shown(argument)} belongs to no setting: a setting is --NAME VALUE, and a list is [1,2] or 1,2"
            )
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name not in ("config", "print_config", *options_of(settings), *sections_of(settings)):
            raise ConfigError(_unknown(settings, f"--{name}", "--"))
        if equals:
            yield name, value
        elif name != "print_config" and position < len(arguments) and not arguments[position].startswith("--"):
            yield name, arguments[position]
            position += 1
        else:
            yield name, None


def _of_flag(settings: type, name: str, value: str | None) -> dict[str, Any]:
    """The value of a flag, checked. A flag without a value is true."""
    hint = options_of(settings)[name].hint
    if value is None:
        if not is_bool(hint):
            raise ConfigError(f"--{name} needs a value: it must be {describe(hint, shell=True)}")
        value = "true"
    return {name: checked(read_shell(value, hint, f"--{name}"), hint, f"--{name}", shell=True)}


def _of_section(settings: type, name: str, value: str | None) -> dict[str, Any]:
    """The settings of a section that is given whole: a file of them, or JSON."""
    if value is not None and os.path.isfile(value):  # JSON may be too long for the name of a file, which Path refuses
        return _of_file(settings, value, f"--{name} ", name)
    given = parse_yaml(value or "", f"--{name}")
    if not isinstance(given, dict):
        raise ConfigError(f"--{name} holds several settings: give one as --{name}.SETTING VALUE, or a file of them")
    return _of_mapping(settings, {name: given}, "--", "")


def _of_file(settings: type, name: str, what: str, section: str = "") -> dict[str, Any]:
    """The settings in a YAML file, checked; in that of a section, with its name before theirs."""
    path = _find_config(name, what)
    values = read_yaml(path, f"{what}{shown_path(path)}")
    return _of_mapping(settings, {section: values} if section else values, "", f" in {shown_path(path)}")


def _of_mapping(settings: type, given: dict[str, Any], before: str, after: str) -> dict[str, Any]:
    """The settings of a nested mapping, checked; messages name one between ``before`` and ``after``."""
    found: dict[str, Any] = {}
    for name, value in flatten(settings, given):
        if name in sections_of(settings):
            raise ConfigError(f"{before}{name}{after} holds several settings, and not {shown(value, shell=True)}")
        if name not in options_of(settings):
            raise ConfigError(_unknown(settings, f"{before}{name}", before, after))
        if name in found:
            raise ConfigError(f"{before}{name}{after} is given twice")
        hint = options_of(settings)[name].hint
        try:
            value = read_yaml_value(value, hint, f"{before}{name}", after)
            found[name] = checked(value, hint, f"{before}{name}{after}", shell=True)
        except ConfigError as error:
            is_number = isinstance(value, bool | int | float) and is_text(hint)
            raise ConfigError(f"{error}: put it in quotes" if is_number else str(error)) from None
    return found


def _unknown(settings: type, name: str, before: str, after: str = "") -> str:
    """What is said of a setting that there is not."""
    near = [f"{before}{other}" for other in nearest(name.removeprefix("--"), settings)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{shown_name(name)}{after}: there is no such setting.{meant}"


def _find_config(name: str, what: str) -> Path:
    """The file of ``--config``: a path, or a name under configs/."""
    try:
        path = Path(checked(name, PathSetting, what.strip(), shell=True))
        if path.is_dir():
            raise ConfigError(f"{what}{shown_path(path)} is a folder: name the YAML file in it")
        found = path if path.exists() else find_config(name.removeprefix("configs/"))
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{what}{shown_name(name)} cannot be read: {getattr(error, 'strerror', error)}") from None
    if found is None:
        raise ConfigError(f"{what}{shown_name(name)}: there is no such file, and no such name under configs/")
    return found


def _is_one_of_several() -> bool:
    """Whether torchrun or srun began this process among others. Asked without torch."""
    return any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))


def _is_main_process() -> bool:
    """Whether this process works alone, or is the first of several."""
    return not _is_one_of_several() or os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
