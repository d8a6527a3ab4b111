"""Find a data set's autoencoder and its classifier."""

from __future__ import annotations

from pathlib import Path

from latentdiff.config import DataConfig
from latentdiff.config.run import default_folder
from latentdiff.errors import CheckpointError
from latentdiff.resources import find_checkpoint, resolve_checkpoint


def find_autoencoder(setting: str, data: DataConfig) -> Path:
    """The file that ``auto``, a path, or a released model's name means. Raises CheckpointError where there is none."""
    if setting != "auto":
        return resolve_checkpoint(setting)
    own = default_folder("autoencoder", f"{data.name}-autoencoder") / "model.safetensors"
    found = own if own.is_file() else resolve_checkpoint(f"checkpoints/{data.name}/autoencoder.safetensors")
    if not found.is_file():
        raise CheckpointError(
            f"there is no autoencoder for {data.name}: neither {own} nor a released one exists. Train one with "
            "python -m latentdiff.stages.autoencoder, or give a file with --autoencoder."
        )
    return found


def find_classifier(name: str) -> Path | None:
    """The file of the classifier that measures a data set's samples.

    The released one comes first, so that figures compare with published ones. Data sets without a released one, such as
    one's own folder, are measured by the run of the stage ``classifier``.

    Args:
        name: The data set's name.

    Returns:
        The file, or None where there is neither.
    """
    released = find_checkpoint(f"{name}/classifier.safetensors")
    own = default_folder("classifier", name) / "model.safetensors"
    return released or (own if own.is_file() else None)
