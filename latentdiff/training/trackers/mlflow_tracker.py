"""MLflow, by Lightning's logger. Without ``MLFLOW_TRACKING_URI`` it is a SQLite file in the run's folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger

from latentdiff.extras import import_extra
from latentdiff.training.trackers.tracker import PROJECT, TrackedRun, Tracker

FOLDER = "mlflow"
# Of a server that does not answer: the wait for one answer, and how often it is asked again. MLflow's own take minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class MlflowTracker(Tracker):
    """MLflow. ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` are used."""

    library = "mlflow"

    def open(self, run: TrackedRun) -> Logger:
        # Its counts of how it is used, for its makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        import_extra("mlflow", "mlflow")
        uri, artefacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            (run.folder / FOLDER).mkdir(exist_ok=True)
            uri, artefacts = store(run.folder), (run.folder / FOLDER / "artifacts").resolve().as_uri()
        with _quiet():
            logger = MLFlowLogger(
                experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
                run_name=run.name,
                run_id=run.earlier,
                tracking_uri=uri,
                artifact_location=artefacts,
            )
            _ = logger.experiment
        return logger

    def where(self, logger: Any, run: TrackedRun) -> str:
        uri, own = os.environ.get("MLFLOW_TRACKING_URI"), store(run.folder)  # MLflow sets the variable itself, too
        return uri if uri and uri != own else f"`mlflow ui --backend-store-uri {own}` shows it"

    def run_id(self, logger: Any) -> str:
        return str(logger.run_id)

    def log_picture(self, logger: Any, path: Path, step: int) -> None:
        logger.experiment.log_artifact(logger.run_id, str(path), "samples")

    def log_files(self, logger: Any, run: TrackedRun, paths: Sequence[Path]) -> None:
        for path in paths:
            logger.experiment.log_artifact(logger.run_id, str(path))

    def finish(self, logger: Any, succeeded: bool) -> None:
        logger.finalize("success" if succeeded else "failed")


def store(folder: Path) -> str:
    """The address of the SQLite file in a run's folder."""
    return f"sqlite:///{(folder / FOLDER / 'mlflow.db').resolve()}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the lines about how the database is made."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
