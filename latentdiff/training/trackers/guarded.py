"""A Lightning logger whose failure ends no training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from lightning.pytorch.loggers import Logger
from tqdm import tqdm

Result = TypeVar("Result")


class GuardedLogger(Logger):
    """Hands every call on to another logger, until a call fails: one line says so, and further calls do nothing.

    Args:
        logger: The logger.
        name: What the line calls it. Default: its class.
    """

    def __init__(self, logger: Logger, name: str | None = None):
        super().__init__()
        self._logger, self._called = logger, name or type(logger).__name__
        self.failed = False

    def attempt(self, call: Callable[[Any], Result]) -> Result | None:
        """``call`` of the logger; None where it fails now, or failed before."""
        if self.failed:
            return None
        try:
            return call(self._logger)
        except Exception as error:  # whatever a server, a disk or a library may come up with
            self.failed = True
            lines = str(error).strip().splitlines() or [type(error).__name__]
            tqdm.write(f"{self._called} failed: {lines[0][:200]}. The training goes on without it.")
            return None

    @property
    def name(self) -> str | None:
        """What the logger calls the experiment; None where it failed."""
        return self.attempt(lambda logger: logger.name)

    @property
    def version(self) -> int | str | None:
        """What the logger calls the run; None where it failed."""
        return self.attempt(lambda logger: logger.version)

    @property
    def save_dir(self) -> str | None:
        """The folder that the logger writes to, if any."""
        return self.attempt(lambda logger: logger.save_dir)

    @property
    def log_dir(self) -> str | None:
        """The folder of this run within it, if any."""
        return self.attempt(lambda logger: logger.log_dir)

    @property
    def root_dir(self) -> str | None:
        """The folder of the experiment, if any."""
        return self.attempt(lambda logger: logger.root_dir)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log numbers by name."""
        self.attempt(lambda logger: logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log settings."""
        self.attempt(lambda logger: logger.log_hyperparams(params, *args, **kwargs))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Log the network's graph, where the logger does."""
        self.attempt(lambda logger: logger.log_graph(model, input_array))

    def save(self) -> None:
        """Write what is held back."""
        self.attempt(lambda logger: logger.save())

    def finalize(self, status: str) -> None:
        """Close the logger."""
        self.attempt(lambda logger: logger.finalize(status))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Tell the logger of a checkpoint."""
        self.attempt(lambda logger: logger.after_save_checkpoint(checkpoint_callback))

    def __getattr__(self, name: str) -> Any:
        """Whatever else the logger has, such as ``experiment``; that is not guarded."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._logger, name)
