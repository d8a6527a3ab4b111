"""What a tracker does beyond Lightning's loggers: pictures, files, and going on with an earlier run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger

from latentdiff.training.trackers.guarded import GuardedLogger

PROJECT = "latentdiff"


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about a run.

    Attributes:
        folder: The run's folder, where a tracker without a server keeps its files.
        name: What the run is called.
        config: All settings of the run, nested.
        earlier: What the tracker called the run before it was interrupted; None for a new run.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    earlier: str | None = None


class Tracker(ABC):
    """One library of trackers.

    Attributes:
        library: Its name, which is that of the setting, of its package and of the extra.
    """

    library: ClassVar[str]

    @abstractmethod
    def open(self, run: TrackedRun) -> Logger:
        """A Lightning logger of the run, which has begun."""

    @abstractmethod
    def where(self, logger: Logger, run: TrackedRun) -> str:
        """Where the user finds the run, in a line."""

    @abstractmethod
    def run_id(self, logger: Logger) -> str:
        """The tracker's identifier of the run, by which the run is resumed."""

    @abstractmethod
    def log_picture(self, logger: Logger, path: Path, step: int) -> None:
        """Log a grid of samples, a PNG, at so many images seen."""

    @abstractmethod
    def log_files(self, logger: Logger, run: TrackedRun, paths: Sequence[Path]) -> None:
        """Log the results of the run."""

    @abstractmethod
    def finish(self, logger: Logger, succeeded: bool) -> None:
        """End the run, and wait until it is written."""


class TrackedLogger(GuardedLogger):
    """The guarded logger of a tracker.

    Args:
        tracker: The library.
        run: The run. It begins in the tracker at once, unless that fails.
    """

    def __init__(self, tracker: Tracker, run: TrackedRun):
        super().__init__(_Unopened(), tracker.library)
        self._tracker, self._run = tracker, run
        opened = self.attempt(lambda _: tracker.open(run))
        if opened is not None:
            self._logger = opened
            if run.earlier is None:  # MLflow refuses a setting that has changed, such as a longer budget
                self.log_hyperparams(run.config)

    def where(self) -> str | None:
        """Where the user finds the run; None where the tracker failed."""
        return self.attempt(lambda logger: self._tracker.where(logger, self._run))

    def run_id(self) -> str | None:
        """The tracker's identifier of the run, by which the run is resumed; None where the tracker failed."""
        return self.attempt(self._tracker.run_id)

    def log_picture(self, path: Path, step: int) -> None:
        """Log a grid of samples, a PNG, at so many images seen."""
        self.attempt(lambda logger: self._tracker.log_picture(logger, path, step))

    def log_files(self, paths: Sequence[Path]) -> None:
        """Log the results of the run."""
        self.attempt(lambda logger: self._tracker.log_files(logger, self._run, paths))

    def finish(self, succeeded: bool) -> None:
        """End the run in the tracker."""
        self.attempt(lambda logger: self._tracker.finish(logger, succeeded))


class _Unopened(Logger):
    """Stands in for a logger that could not be opened; it is never called."""

    @property
    def name(self) -> None:
        """None."""

    @property
    def version(self) -> None:
        """None."""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Never called."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Never called."""
