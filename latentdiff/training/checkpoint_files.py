"""How Lightning writes and reads a run's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from latentdiff import run_checkpoint
from latentdiff.errors import CheckpointError


class CheckpointFiles(CheckpointIO):
    """Checkpoints with a digest, staged beside their target, and read as tensors and plain values alone.

    Lightning's own are staged in the system's temporary folder, and read as PyTorch's default or environment says.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        run_checkpoint.save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        state = run_checkpoint.read(Path(path))
        if "optimizer_states" not in state:
            raise CheckpointError(
                f"{path} has no optimiser state, so the run cannot be resumed: start a new run from its weights with "
                "--init"
            )
        return state

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
