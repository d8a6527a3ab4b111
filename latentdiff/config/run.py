"""Where a run's files go."""

from __future__ import annotations

from dataclasses import dataclass

from latentdiff.config.base import Settings


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
