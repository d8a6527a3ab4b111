"""Run folders: ``stages/<stage>/<run>/``, never overwritten by accident."""

from __future__ import annotations

import shutil
from pathlib import Path

from latentdiff.config import RunConfig

WORKBENCH = Path("stages")
RESULTS = ("model.safetensors", "evaluation.json", "index.html", "samples.npz")


class FolderError(Exception):
    """A run folder cannot be used as asked; the message says what to do."""


def default_folder(stage: str, name: str) -> Path:
    """Where a run goes, and where a later stage looks for it, unless told otherwise."""
    return WORKBENCH / stage / name


def prepare(run: RunConfig, stage: str, name: str) -> Path:
    """The run's folder, made ready. Raises :class:`FolderError` rather than touch an earlier run unasked."""
    folder = Path(run.folder) if run.folder else default_folder(stage, name)
    if run.resume and run.overwrite:
        raise FolderError("--run.resume and --run.overwrite cannot both be meant")
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if run.overwrite:
            shutil.rmtree(folder)
        elif not run.resume:
            raise FolderError(
                f"{folder} already holds a run. Name another with --run.folder, go on with it with --run.resume true, "
                "or replace it with --run.overwrite true."
            )
    elif run.resume:
        raise FolderError(f"there is no run to resume in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
