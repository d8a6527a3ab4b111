"""Settings of the folder that a run writes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentdiff.config.base import Settings
from latentdiff.config.data import folder_name
from latentdiff.config.ranges import PathSetting

WORKBENCH = Path("stages")


def default_folder(stage: str, name: str) -> Path:
    """Return the default folder of a run. Later stages look for the run there."""
    return WORKBENCH / stage / folder_name(name)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """The folder that a run writes to.

    Args:
        folder: The run's folder. Default: ``stages/<stage>/<name>``, named after the data set and the model.
        resume: Whether to continue the run in the folder from its last checkpoint.
        overwrite: Whether to replace an earlier run in the folder.
    """

    folder: PathSetting | None = None
    resume: bool = False
    overwrite: bool = False

    def path(self, stage: str, name: str) -> Path:
        """Return the run's folder, without creating it."""
        return Path(self.folder) if self.folder else default_folder(stage, name)
