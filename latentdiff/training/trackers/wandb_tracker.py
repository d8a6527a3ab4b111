"""Weights & Biases, by Lightning's logger. Without a key it is offline, and ``wandb sync`` sends the run later."""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger

from latentdiff.extras import import_extra
from latentdiff.training.trackers.tracker import PROJECT, TrackedRun, Tracker

# A server that does not answer holds up a training for so long.
TIMEOUT_SECONDS = 30


class WandbTracker(Tracker):
    """Weights & Biases. ``WANDB_PROJECT``, ``WANDB_DIR``, ``WANDB_MODE`` and similar variables are used."""

    library = "wandb"

    def open(self, run: TrackedRun) -> Logger:
        # Its reports of its own errors to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb: Any = import_extra("wandb", "wandb")
        logger = WandbLogger(
            name=run.name,
            id=run.earlier,
            save_dir=os.environ.get("WANDB_DIR", run.folder),
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            mode=mode(),
            # Its capture of the console would take the place of our own streams.
            settings=wandb.Settings(console="off", silent=True, disable_git=True, init_timeout=TIMEOUT_SECONDS),
        )
        _ = logger.experiment
        return logger

    def where(self, logger: Any, run: TrackedRun) -> str:
        if mode() == "offline":
            return f"offline; `wandb sync {Path(logger.experiment.dir).parent}` sends it to a server"
        return str(logger.experiment.url or mode())

    def run_id(self, logger: Any) -> str:
        return str(logger.experiment.id)

    def log_picture(self, logger: Any, path: Path, step: int) -> None:
        logger.log_image("samples", [str(path)], step=step)

    def log_files(self, logger: Any, run: TrackedRun, paths: Sequence[Path]) -> None:
        wandb: Any = import_extra("wandb", "wandb")
        artefact = wandb.Artifact(f"run-{logger.experiment.id}", type="model")
        for path in paths:
            # As it lies there, and not a second copy in the user's cache.
            artefact.add_file(str(path), policy="immutable", skip_cache=True)
        logger.experiment.log_artifact(artefact)

    def finish(self, logger: Any, succeeded: bool) -> None:
        logger.experiment.finish(exit_code=0 if succeeded else 1)


def mode() -> str:
    """The mode that the user set, else ``online`` where there is a key, else ``offline``."""
    return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")


def _has_key() -> bool:
    """Whether the user has logged in. The key itself is not looked at."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return host in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
