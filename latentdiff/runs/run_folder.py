"""Run folders: ``stages/<stage>/<run>/``, never overwritten by accident."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from latentdiff import distributed
from latentdiff.config import RunConfig, to_dict
from latentdiff.errors import FolderError
from latentdiff.files import write_atomically
from latentdiff.runs import lock

# Says that a folder is a run's and may be replaced when asked; a folder without it holds somebody's other work.
MARKER = ".latentdiff"
# Settings that a resumed run may change: how long it goes on, and what a table of samplers is to hold.
MAY_CHANGE_ON_RESUME = (
    "samplers",
    "steps",
    "trainer.max_images",
    "trainer.max_seconds",
    "trainer.num_threads",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.monitor",
    "trainer.monitor_mode",
    "trainer.stop_patience",
)
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


def model_name(path: Path) -> str:
    """What a model is called by its file: the file's name, or for a run's ``model.safetensors`` the run's."""
    return path.resolve().parent.name if path.stem == "model" else path.stem


def will_resume(run: RunConfig) -> bool:
    """Whether the run will continue from a checkpoint of its own."""
    return run.resume and run.folder is not None and (Path(run.folder) / "last.ckpt").is_file()


def check(run: RunConfig, stage: str, name: str, resumable: bool = False) -> Path:
    """The run's folder, untouched, where :func:`prepare` would make it ready.

    Raises :class:`FolderError` where the folder holds an earlier run and nothing was said, or no run at all.
    """
    folder = run.path(stage, name)
    if run.resume and not resumable:
        raise FolderError(f"the stage {stage} does not resume; start anew with --run.overwrite")
    if run.resume and run.overwrite:
        raise FolderError("--run.resume and --run.overwrite cannot both be meant")
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file, not a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        if run.resume:
            raise FolderError(f"there is no run to resume in {folder}: leave out --run.resume to start one")
    elif (run.overwrite or run.resume) and not (folder / MARKER).is_file():
        what = "overwritten" if run.overwrite else "resumed"
        raise FolderError(
            f"{folder} holds other things than a run of latentdiff: it is not {what}. Name another --run.folder."
        )
    elif not (run.overwrite or run.resume):
        advice = "go on with it with --run.resume, " if resumable else ""
        raise FolderError(
            f"{folder} already holds a run. Name another with --run.folder, {advice}or replace it with --run.overwrite."
        )
    if folder.is_dir() and lock.is_held(folder):
        raise FolderError(f"a run is writing into {folder} just now: let it end, or end it, and try again")
    return folder


def prepare(run: RunConfig, stage: str, name: str, resumable: bool = False, inputs: Sequence[Path | None] = ()) -> Path:
    """The run's folder, made ready. Call it last before the work: everything that can be refused should have been.

    Raises :class:`FolderError` rather than touch an earlier run unasked, a folder that is not a run's at all, or one
    that holds any of ``inputs``, which the run is made from.
    """
    folder = check(run, stage, name, resumable)
    for path in inputs:
        if run.overwrite and path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise FolderError(f"{path} is what is read, and {folder} would be overwritten: name another --run.folder")
    if run.overwrite and folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    return folder


def record_config(config: Any, folder: Path) -> None:
    """Write every resolved setting to ``config.yaml``, which ``--config`` reads back; ``run`` is left out.

    Where a resumed run has one, it must agree but for the budget and for where things lie. Raises :class:`FolderError`
    naming what differs.
    """
    values = {key: value for key, value in to_dict(config).items() if key != "run"}
    path = folder / "config.yaml"
    if config.run.resume and path.is_file():
        # A setting that the run's version did not have yet was at its default.
        recorded, now = flatten(yaml.safe_load(path.read_text())), flatten(values)
        before = flatten(to_dict(type(config)())) | recorded
        unknown = [key for key in recorded if key not in now]
        if unknown:
            raise FolderError(f"{path} has settings that there are not: {', '.join(unknown)}. Rename or remove them.")
        free = {*MAY_CHANGE_ON_RESUME, *COMPARED_BY_CONTENT}
        if _same_path(before.get("init"), now.get("init")):
            free.add("init")
        changed = [key for key in now if before.get(key) != now[key] and key not in free]
        if changed:
            differences = "; ".join(f"{key} was {before.get(key)}, is {now[key]}" for key in changed)
            raise FolderError(
                f"{folder} was run with other settings: {differences}. Resume with --config {path}, or "
                "start a new run from its weights with --init (init= in Python)."
            )
    write_atomically(path, lambda file: file.write_text(yaml.safe_dump(values, sort_keys=False)))


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

    Raises :class:`~latentdiff.errors.FolderError` as :func:`prepare` and :func:`record_config` do.
    """
    if settings.run.folder is None:
        yield None
        return
    with ExitStack() as stack:
        if distributed.is_main_process():
            folder = prepare(settings.run, stage, name, resumable=True)
            stack.enter_context(lock.hold(folder))
            record_config(settings, folder)
        distributed.barrier()
        yield settings.run.path(stage, name)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
