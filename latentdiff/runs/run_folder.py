"""Run folders: ``stages/<stage>/<run>/``, where nothing that is not the run's own is ever touched.

A folder is marked when a run begins in one that is new or empty. The mark says whether the run has ended. An unfinished
run that left nothing worth keeping is begun again by the same command; any other is resumed or overwritten when asked.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from latentdiff import distributed, hub, run_checkpoint
from latentdiff.config import RunConfig, to_dict
from latentdiff.config.model_stages import SampleStage
from latentdiff.config.yaml_text import dump_yaml
from latentdiff.errors import FolderError
from latentdiff.files import remove_leftovers, write_atomically
from latentdiff.folder_mark import MARKER, Mark, content_of, is_new_or_empty, mark_finished, read_mark, write_mark
from latentdiff.os_errors import describe_os_error
from latentdiff.run_checkpoint import LAST, PREVIOUS
from latentdiff.runs import lock
from latentdiff.runs.own_files import WORTH_KEEPING, check_no_link, files_in_the_way, remove_run

# Settings that a resumed run may change: how long it goes on, and what a table of samplers is to hold.
MAY_CHANGE_ON_RESUME = (
    "samplers",
    "steps",
    "trainer.max_images",
    "trainer.max_seconds",
    "trainer.num_threads",
    "trainer.loggers",
    "trainer.compile",
    "trainer.memory",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.monitor",
    "trainer.monitor_mode",
    "trainer.stop_patience",
)
# The same of sampling into PNGs. The batch's size may change what a machine can hold, and of an image one grey level in
# a pixel of ten thousand, unless it is exact.
MAY_CHANGE_IN_SAMPLING = ("batch_size", "columns", "device", "devices", "gif", "npz", "num_images", "strip")
# Settings that name a place. What lies there is compared by content (training/run_data.py, comparison/samplers.py), and
# may have moved.
COMPARED_BY_CONTENT = (
    "autoencoder",
    "data.cache_folder",
    "data.path",
    "data.root",
    "data.source",
    "data.table",
    "features_folder",
    "latents_folder",
    "loss.perceptual_weights",
    "model",
)


# Files of a run, by which the run is meant.
RUN_FILES = ("model.safetensors", "last.safetensors", "last.ckpt")
# Stages whose runs go on from a checkpoint, and the models that they leave.
TRAINING_STAGES = ("autoencoder", "diffusion")
MODEL_FILES = ("model.safetensors", "best.safetensors", "last.safetensors")
OVERWRITE = "replace it with --run.overwrite (overwrite=True in Python)"
RESUME = "go on with it with --run.resume (resume=True in Python)"
ANOTHER = "name another folder (--run.folder, or folder= in Python)"


def model_name(path: Path) -> str:
    """What a model is called by its file: the file's name, or for a run's file the run's.

    Args:
        path: A model's file, a run's folder or its ``last.ckpt``.
    """
    if path.is_dir():
        return path.resolve().name
    return path.resolve().parent.name if path.name in RUN_FILES else path.stem


def folder_name(path: Path) -> str:
    """What a folder of a model's results is called: a released model's name with its data set's, as in
    ``flowers-102-latent``, the repository's of a model of the Hub, or :func:`model_name`.

    Args:
        path: A model's file, a run's folder or its ``last.ckpt``.
    """
    folder = path.resolve().parent
    if in_cache := hub.name_in_cache(path):
        return in_cache
    if path.is_file() and folder.parent.name == "checkpoints":
        return f"{folder.name}-{path.stem}"
    if (path.name == "best.safetensors" or path.name.startswith("ema-")) and (folder / MARKER).is_file():
        return f"{folder.name}-{path.stem}"
    return model_name(path)


def free_name(name: str, taken: Collection[str]) -> str:
    """``name``, or the first of ``name-2``, ``name-3``, ... that is not ``taken``."""
    own, number = name, 1
    while own in taken:
        number += 1
        own = f"{name}-{number}"
    return own


def resumed_folder(run: RunConfig) -> Path | None:
    """The folder whose ``last.ckpt`` the run will resume from; None if it starts anew."""
    if not run.resume or run.folder is None:
        return None
    folder = Path(run.folder)
    return folder if (folder / "last.ckpt").is_file() else None


def numbered(run: RunConfig, stage: str, name: str) -> RunConfig:
    """The settings with a folder that is free: the first of ``name``, ``name-2``, ``name-3``, ...

    A folder that is named, or that is to be overwritten or resumed, stays as it is. A folder with an unfinished run
    that left nothing worth keeping is free too.
    """
    if run.folder or run.overwrite or run.resume:
        return run
    base = run.path(stage, name)
    folder, number = base, 1
    while not _is_free(folder):
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return replace(run, folder=str(folder))


def check(run: RunConfig, stage: str, name: str, resumable: bool = False) -> Path:
    """The run's folder, untouched, where :func:`opened` would make it ready.

    Raises :class:`FolderError` if the folder holds earlier work and neither resume nor overwrite is given, if it holds
    other files, or if it cannot be read.
    """
    folder = run.path(stage, name)
    with _in_words():
        _check(run, folder, stage, resumable)
        if folder.is_dir() and lock.is_held(folder):
            raise FolderError(_held(folder))
    return folder


@contextmanager
def opened(
    run: RunConfig,
    stage: str,
    name: str,
    config: Any = None,
    resumable: bool = False,
    inputs: Sequence[Path | str | None] = (),
) -> Iterator[Path]:
    """The run's folder, made ready, and held until the block ends; a block without an error finishes the run.

    Open it last before the work, after all checks of the settings.

    Args:
        run: Which folder, and whether an earlier run there is resumed or overwritten.
        stage, name: Name the folder where ``run`` does not.
        config: The stage's settings, for ``config.yaml``.
        resumable: Whether a run of the stage can be resumed.
        inputs: The files that the run reads, which must not be among the files to be removed.

    Raises :class:`FolderError`, before anything is changed, for an earlier run without resume or overwrite, for files
    that are not latentdiff's, for a folder that another process writes into, and for a folder that cannot be made.
    """
    folder = run.path(stage, name)
    with ExitStack() as stack:
        with _in_words():
            _check(run, folder, stage, resumable)  # before the folder is made
            made = _make_folder(folder)
            try:
                try:
                    stack.enter_context(lock.hold(folder))
                except BlockingIOError as error:
                    raise FolderError(_held(folder)) from error
                _prepare(run, folder, stage, resumable, config, inputs)
            except BaseException:
                if made and is_new_or_empty(folder):
                    _remove_folders(made)
                raise
        yield folder
        if read_mark(folder):
            mark_finished(folder)


def prepare(run: RunConfig, stage: str, name: str, resumable: bool = False) -> Path:
    """The run's folder, made ready as by :func:`opened`, for a run that ends at once."""
    with opened(run, stage, name, resumable=resumable) as folder:
        return folder


def _check(run: RunConfig, folder: Path, stage: str, resumable: bool) -> None:
    if run.resume and not resumable:
        raise FolderError(f"the stage {stage} does not resume; start anew with --run.overwrite (overwrite=True)")
    if run.resume and run.overwrite:
        raise FolderError("resume and overwrite (--run.resume, --run.overwrite) cannot be given together")
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file, not a folder: {ANOTHER}")
    mark = read_mark(folder)
    if mark is None:
        if is_new_or_empty(folder):
            if run.resume:
                raise FolderError(
                    f"there is no run to resume in {folder}: leave out resume (--run.resume) to start one"
                )
            return
        what = "overwritten" if run.overwrite else "resumed" if run.resume else "written into"
        raise FolderError(f"{folder} holds other things than {content_of(stage)}: it is not {what}. Please {ANOTHER}.")
    if run.overwrite or run.resume:
        if run.resume and mark.stage not in (None, stage):
            raise FolderError(f"{folder} holds {content_of(mark.stage)}, not {content_of(stage)}: {ANOTHER}")
        if run.resume and stage in TRAINING_STAGES:
            _check_checkpoint(folder)
        return
    if mark.finished or _worth_keeping(folder):
        advice = f"{RESUME}, or " if resumable and mark.stage in (None, stage) else ""
        what = content_of(mark.stage, "" if mark.finished else "unfinished")
        raise FolderError(f"{folder} already holds {what}: {ANOTHER}, {advice}{OVERWRITE}.")


def _check_checkpoint(folder: Path) -> None:
    """Raise :class:`FolderError` if a run has lost its checkpoint: it would start anew and overwrite its model."""
    if (folder / LAST).exists():
        return
    kept = [name for name in (*MODEL_FILES, PREVIOUS) if (folder / name).exists()]
    if not kept:
        return
    if PREVIOUS in kept:
        advice = f"To go on from the checkpoint before it:\nmv {folder / PREVIOUS} {folder / LAST}"
    else:
        advice = (
            f"Start a new run from its weights: --init {folder} --run.folder NEW (init=, folder= in Python), or "
            f"{OVERWRITE}."
        )
    raise FolderError(
        f"{folder} has no {LAST} to go on from, and a new start would replace its {' and '.join(kept)}. {advice}"
    )


def _prepare(
    run: RunConfig, folder: Path, stage: str, resumable: bool, config: Any, inputs: Sequence[Path | str | None]
) -> None:
    """Make a folder that this process holds ready: refuse first, then remove, then write."""
    _check(run, folder, stage, resumable)  # again: another process may just have ended there
    check_no_link(folder, stage)
    mark = read_mark(folder)
    if mark is not None and not run.resume:
        for path in inputs:
            if path is not None and Path(path).resolve().is_relative_to(folder.resolve()):
                raise FolderError(f"{folder} would be overwritten, but {path} is read from it: {ANOTHER}")
        if in_the_way := files_in_the_way(folder, stage):
            raise FolderError(f"{in_the_way[0]} is no file of latentdiff, and would be lost: move it, or {ANOTHER}")
    if config is not None and run.resume:
        check_same_settings(config, folder)
    if mark is not None and not run.resume:
        # Unfinished from here on: killed during the removal, the same command goes on with it.
        write_mark(folder, replace(mark, finished=False))
        remove_run(folder, stage)
        mark = None
    remove_leftovers(folder)
    write_mark(folder, replace(mark, stage=stage, finished=False) if mark else Mark(stage, finished=False))
    if config is not None:
        write_config(config, folder)


def _worth_keeping(folder: Path) -> bool:
    return any((folder / name).exists() for name in WORTH_KEEPING)


def _is_free(folder: Path) -> bool:
    with _in_words():
        if folder.exists() and not folder.is_dir():
            return False
        if is_new_or_empty(folder):
            return not folder.is_dir() or not lock.is_held(folder)
        mark = read_mark(folder)
        return mark is not None and not mark.finished and not _worth_keeping(folder) and not lock.is_held(folder)


def _held(folder: Path) -> str:
    return f"latentdiff is writing into {folder} just now: wait until it ends, or end it, and try again"


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn an OSError of the block into a FolderError with the path and the remedy."""
    try:
        yield
    except OSError as error:
        raise FolderError(describe_os_error(error)) from error


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder; the folders that were new, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_folders(missing)
        raise
    return missing


def _remove_folders(folders: list[Path]) -> None:
    for path in folders:
        with suppress(OSError):
            path.rmdir()


def record_config(config: Any, folder: Path) -> None:
    """Write every resolved setting to ``config.yaml``, which ``--config`` reads back; ``run`` is left out.

    If a resumed run has one, its settings must be equal, except for the budget and for paths. Raises
    :class:`FolderError`, which names the differences.
    """
    if config.run.resume:
        check_same_settings(config, folder)
    write_config(config, folder)


def write_config(config: Any, folder: Path) -> None:
    """Write every resolved setting but ``run`` to ``config.yaml``."""
    text = dump_yaml(_recorded_settings(config))
    write_atomically(folder / "config.yaml", lambda file: file.write_text(text))


def check_same_settings(config: Any, folder: Path) -> None:
    """Raise :class:`FolderError` where a run to resume had other settings, or has spent more than its budget."""
    path = folder / "config.yaml"
    if not path.is_file():
        return
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError) as error:
        raise FolderError(f"{path} is damaged: {str(error).splitlines()[0]}. {_MEND}") from error
    if not isinstance(values, dict):
        raise FolderError(f"{path} is damaged: it holds no settings. {_MEND}")
    # A setting that the run's version did not have yet was at its default.
    recorded, now = flatten(values), flatten(_recorded_settings(config))
    before = flatten(to_dict(type(config)())) | recorded
    unknown = [key for key in recorded if key not in now]
    if unknown:
        raise FolderError(f"{path} has unknown settings: {', '.join(unknown)}. Rename or remove them.")
    is_sampling = isinstance(config, SampleStage)
    free = {*(MAY_CHANGE_IN_SAMPLING if is_sampling else MAY_CHANGE_ON_RESUME), *COMPARED_BY_CONTENT}
    if _same_path(before.get("init"), now.get("init")):
        free.add("init")
    changed = [key for key in now if before.get(key) != now[key] and key not in free]
    if changed:
        differences = "; ".join(f"{key} was {_short(before.get(key))}, is {_short(now[key])}" for key in changed)
        raise FolderError(
            f"{folder} was run with other settings: {differences}. Resume with --config {path}, or start a new run "
            "from its weights with --init (init= in Python)."
        )
    if is_sampling and config.num_images < (fewest := before.get("num_images", 0)):
        raise FolderError(f"{folder} was started for {fewest:,} images: resume it with --num_images {fewest} or more")
    _check_budget(folder, before, now)


_MEND = "Remove it to continue with the settings that you give."


def _check_budget(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise FolderError where a budget was lowered below what the run has spent."""
    spent = last_row(folder / "metrics.csv")
    if not spent and (folder / LAST).is_file():  # a run that keeps its numbers in another tracker alone
        state = run_checkpoint.read(folder / LAST, mapped=True)["latentdiff"]
        spent = {name: float(state[name]) for name in ("images_seen", "seconds")}
    for setting, column in (("trainer.max_images", "images_seen"), ("trainer.max_seconds", "seconds")):
        budget, had = now.get(setting), before.get(setting)
        if budget and budget != had and spent.get(column, 0.0) > budget:
            raise FolderError(
                f"{folder} has {column.replace('_', ' ')} {spent[column]:,.0f} already, more than {setting} "
                f"{budget:,g}: raise --{setting}, or start a new run in another folder"
            )


def last_row(path: Path) -> dict[str, float]:
    """The numbers of the last row of a ``metrics.csv``; empty where it has none."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return {key: float(value) for key, value in rows[-1].items() if key in ("images_seen", "seconds") and value}
    except (OSError, ValueError, IndexError, csv.Error):
        return {}


def _recorded_settings(config: Any) -> dict[str, Any]:
    return {key: value for key, value in to_dict(config).items() if key != "run"}


def _same_path(one: str | None, other: str | None) -> bool:
    """Whether two settings are spellings of one path, such as ``runs/a`` and ``./runs/a/``."""
    return (
        one is not None and other is not None and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    )


@contextmanager
def training_folder(settings: Any, stage: str, name: str) -> Iterator[Path | None]:
    """The folder of a training run, made ready and held until the run ends; None where none was named.

    The first of several processes makes it ready, and records the settings in it.

    Args:
        settings: The stage's settings.
        stage, name: What messages call the run.

    Raises :class:`~latentdiff.errors.FolderError` as :func:`opened` does.
    """
    if settings.run.folder is None:
        if settings.run.resume or settings.run.overwrite:
            raise FolderError("resume and overwrite need folder=")
        yield None
        return
    with ExitStack() as stack:
        if distributed.is_main_process():
            named = [settings.init, getattr(settings, "autoencoder", None)]
            read = [path for path in named if path is not None and Path(path).expanduser().exists()]  # not auto, none
            stack.enter_context(opened(settings.run, stage, name, settings, inputs=read, resumable=True))
        distributed.barrier()
        yield settings.run.path(stage, name)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _short(value: Any) -> Any:
    """A setting's value for a message; of mappings, such as phases, what they set."""
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return {key: part for key, part in value.items() if part is not None} if isinstance(value, dict) else value
