"""Files that come with latentdiff, released checkpoints and configs, in a checkout or in an installed wheel."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from latentdiff import hub
from latentdiff.errors import CheckpointError

# Files that a training run leaves in its folder, of which one at least tells it from a folder of images.
RUN_FILES = ("model.safetensors", "last.safetensors", "last.ckpt", "metrics.csv")
# Files that a pipeline or a model of diffusers has at the root of its folder.
DIFFUSERS_FILES = ("model_index.json", "diffusion_pytorch_model.safetensors")
PACKAGE = Path(__file__).resolve().parent


def find_checkpoint(name: str) -> Path | None:
    """Return the path of the released file ``checkpoints/<name>``, or None.

    Args:
        name: Name within the folder, such as ``fashion-mnist/latent.safetensors``.
    """
    return _find("checkpoints", name)


def find_config(name: str) -> Path | None:
    """Return the path of the config ``configs/<name>``, such as ``fashion-mnist/pixel.yaml``, or None."""
    return _find("configs", name)


def _find(folder: str, name: str) -> Path | None:
    candidates = (PACKAGE.parent / folder / name, PACKAGE / folder / name)
    return next((path for path in candidates if path.is_file()), None)


def resolve_checkpoint(path: Path | str) -> Path:
    """The model file that ``path`` means.

    Args:
        path: A model file; a run's folder, or its ``last.ckpt``; a released model's name; or ``hf:USER/NAME`` for a
            model of the Hugging Face Hub (see :mod:`latentdiff.hub`). Of a run that has not finished, the model as it
            was at the end of the last epoch is meant, which a line says.

    Raises :class:`~latentdiff.errors.CheckpointError` for a run that has no model yet, for a folder of diffusers, and
    for a model of the Hub that cannot be had. Any other path that is not there is returned as it is.
    """
    given: Any = path
    if not isinstance(given, str | os.PathLike) or not str(path):
        raise CheckpointError(f"a model is named by its path, not by {path!r}: name a model file or a run's folder")
    if hub.is_hub_name(path):
        return hub.download(str(path))
    path = Path(path).expanduser()
    if path.name == "last.ckpt" and (path.is_file() or path.parent.is_dir()):
        # It may be ahead of the model that an earlier, shorter training left.
        return _model_of_run(path.parent, ("last.safetensors", "model.safetensors"))
    if path.is_dir() and any((path / name).is_file() for name in RUN_FILES):
        return _model_of_run(path, ("model.safetensors", "last.safetensors"))
    if path.is_dir() and any((path / name).is_file() for name in DIFFUSERS_FILES):
        raise CheckpointError(f"{path} is a folder of diffusers: write diffusers:{path}")
    return path if path.exists() else find_checkpoint(str(path).removeprefix("checkpoints/")) or path


def _model_of_run(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            if name == "last.safetensors":
                _say_unfinished(folder)
            return folder / name
    raise CheckpointError(
        f"the run in {folder} has no model yet: wait for the end of its first epoch, or go on with it with --run.resume"
    )


@cache
def _say_unfinished(folder: Path) -> None:
    print(f"the run in {folder} is not finished: this is its model after the last whole epoch")
