"""Find a data set's autoencoder."""

from __future__ import annotations

from pathlib import Path

from latentdiff.config import DataConfig
from latentdiff.config.run import default_folder
from latentdiff.errors import CheckpointError
from latentdiff.resources import resolve_checkpoint


def find_autoencoder(setting: str, data: DataConfig) -> Path:
    """The file that ``auto``, a path, or a released model's name means. Raises CheckpointError where there is none."""
    if setting != "auto":
        return resolve_checkpoint(setting)
    own = default_folder("autoencoder", f"{data.name}-autoencoder") / "model.safetensors"
    found = own if own.is_file() else resolve_checkpoint(f"checkpoints/{data.name}/autoencoder.safetensors")
    if not found.is_file():
        raise CheckpointError(
            f"there is no autoencoder for {data.name}: neither {own} nor a released one. Train one with "
            "python -m latentdiff.stages.autoencoder, or name a file with --autoencoder."
        )
    return found
