"""The trackers of a run, from its beginning to its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentdiff import distributed
from latentdiff.config import RunConfig, TrainerConfig, to_dict
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.files import write_atomically
from latentdiff.training.trackers.mlflow_tracker import MlflowTracker
from latentdiff.training.trackers.tracker import TrackedLogger, TrackedRun, Tracker
from latentdiff.training.trackers.trackio_tracker import TrackioTracker
from latentdiff.training.trackers.wandb_tracker import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {cls.library: cls for cls in (WandbTracker, MlflowTracker, TrackioTracker)}
# What each tracker calls the run, to go on with it.
IDS = "trackers.json"
# The results that a tracker is given at the end, where the run has them.
RESULTS = ("model.safetensors", "best.safetensors", "metrics.csv", "config.yaml")


def check(settings: TrainerConfig, run: RunConfig) -> None:
    """Raise ConfigError for a tracker that is not installed, or that has no run folder, before anything is touched."""
    for name in settings.loggers:
        if name in TRACKERS:
            import_extra(name, name)
            if not run.folder:
                raise ConfigError(f"--trainer.loggers {name} needs a run's folder: name one with folder=")


@contextmanager
def tracked(
    settings: AutoencoderStage | DiffusionStage, folder: Path | None, resumed: bool
) -> Iterator[list[TrackedLogger]]:
    """The loggers of the trackers that ``settings.trainer.loggers`` names, until the run ends.

    They begin with the settings. At the end of the block they are given the run's results. Only the first of several
    processes has any.

    Args:
        settings: The stage's settings.
        folder: The run's folder, made ready; None has no trackers.
        resumed: Whether the run goes on, also in the trackers.
    """
    names = [name for name in dict.fromkeys(settings.trainer.loggers) if name in TRACKERS]
    if not names or folder is None or not distributed.is_main_process():
        yield []
        return
    config = {name: value for name, value in to_dict(settings).items() if name != "run"}
    earlier = _read_ids(folder) if resumed else {}
    loggers = [
        TrackedLogger(
            TRACKERS[name](),
            TrackedRun(folder=folder, name=folder.resolve().name, config=config, earlier=earlier.get(name)),
        )
        for name in names
    ]
    ids = dict(earlier)
    for name, logger in zip(names, loggers, strict=True):
        if (found := logger.run_id()) is not None:
            ids[name] = found
            print(f"{name}: {logger.where()}")
    write_atomically(folder / IDS, lambda path: path.write_text(json.dumps(ids, indent=1)))
    succeeded = False
    try:
        yield loggers
        for logger in loggers:
            logger.log_files([folder / name for name in RESULTS if (folder / name).is_file()])
        succeeded = True
    finally:
        for logger in loggers:
            logger.finish(succeeded)


def _read_ids(folder: Path) -> dict[str, str]:
    """What the trackers call the run; nothing where the file is missing or damaged: the run is then a new one there."""
    try:
        values = json.loads((folder / IDS).read_text())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, str)} if isinstance(values, dict) else {}
