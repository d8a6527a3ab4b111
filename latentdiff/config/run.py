"""Where a run's files go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentdiff.config.base import Settings

WORKBENCH = Path("stages")


def default_folder(stage: str, name: str) -> Path:
    """Where a run goes, and where a later stage looks for it, unless told otherwise."""
    return WORKBENCH / stage / name


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Where a run's files go.

    Args:
        folder: The run's folder. Default: ``stages/<stage>/<name>``, named after the data set and the model.
        resume: Go on with the run in that folder from its last checkpoint.
        overwrite: Start anew over whatever is in that folder.
    """

    folder: str | None = None
    resume: bool = False
    overwrite: bool = False

    def path(self, stage: str, name: str) -> Path:
        """The run's folder, untouched."""
        return Path(self.folder) if self.folder else default_folder(stage, name)
