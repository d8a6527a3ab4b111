"""Trackio, for which Lightning has no logger: a thin one. It keeps runs in a database of the user's."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from latentdiff.extras import import_extra
from latentdiff.training.trackers.tracker import PROJECT, TrackedRun, Tracker


class TrackioLogger(Logger):
    """A Lightning logger of one Trackio run.

    Args:
        project: What the dashboard groups runs by.
        name: What the run is called.
        resume: Whether to go on with the last run of that name.
    """

    def __init__(self, project: str, name: str, resume: bool = False):
        super().__init__()
        self._trackio: Any = import_extra("trackio", "trackio")
        self._project, self._name = project, name
        with redirect_stdout(io.StringIO()):  # what it says, TrackioTracker.where says in a line
            self.experiment: Any = self._trackio.init(
                project,
                name=name,
                resume="allow" if resume else "never",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run's name."""
        return self._name

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add settings to those of the run."""
        self.experiment.config.update(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log numbers by name."""
        self.experiment.log(dict(metrics), step=step)

    def log_image(self, key: str, path: Path, step: int | None = None) -> None:
        """Log a picture in a file."""
        self.experiment.log({key: self._trackio.Image(str(path))}, step=step)

    def log_file(self, path: Path, name: str) -> None:
        """Log a file as a model of this name."""
        self.experiment.log_artifact(str(path), name=name, type="model")

    def finish(self) -> None:
        """Write what is held back and end the run."""
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()  # of the run itself, it would be finished once more as the process ends


class TrackioTracker(Tracker):
    """Trackio. ``TRACKIO_PROJECT``, ``TRACKIO_DIR`` and ``TRACKIO_SPACE_ID`` are used."""

    library = "trackio"

    def open(self, run: TrackedRun) -> Logger:
        return TrackioLogger(_project(), run.earlier or run.name, resume=run.earlier is not None)

    def where(self, logger: Any, run: TrackedRun) -> str:
        return f"`trackio show --project {_project()}` shows it"

    def run_id(self, logger: Any) -> str:
        return str(logger.version)

    def log_picture(self, logger: Any, path: Path, step: int) -> None:
        logger.log_image("samples", path, step)

    def log_files(self, logger: Any, run: TrackedRun, paths: Sequence[Path]) -> None:
        for path in paths:
            logger.log_file(path, f"{run.name}-{path.stem}")

    def finish(self, logger: Any, succeeded: bool) -> None:
        logger.finish()


def _project() -> str:
    return os.environ.get("TRACKIO_PROJECT", PROJECT)
