"""What happens at the end of each epoch: numbers, pictures, a checkpoint; and the progress bar in between."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import lightning
from tqdm import tqdm

from latentdiff import distributed
from latentdiff.errors import ConfigError, DivergenceError
from latentdiff.files import write_atomically
from latentdiff.progress import progress_bar
from latentdiff.report.formats import amount
from latentdiff.run_checkpoint import LAST
from latentdiff.training.base_module import StageModule
from latentdiff.training.learning_rate import early_stop_message, is_best, stopped_early
from latentdiff.training.post_hoc_ema import snapshots_in
from latentdiff.training.trackers.tracker import TrackedLogger


class EpochEnd(lightning.Callback):
    """Stops the training clock, measures, draws samples, saves the best model, logs, and saves ``last.ckpt``.

    Each stage has its own subclass, which says what is measured, drawn and saved.

    Args:
        folder: The run's folder, or None: then nothing is written.
        sample_every: Epochs between two sample grids and evaluations. The last epoch always has them.
    """

    def __init__(self, folder: Path | None, sample_every: int = 1):
        self.folder, self.sample_every = folder, sample_every

    def validate(self) -> dict[str, float]:
        """Measure the validation numbers of each epoch."""
        return {}

    def evaluate(self) -> dict[str, float]:
        """Measure what is too costly for every epoch."""
        return {}

    def draw_samples(self, path: Path) -> None:
        """Draw the run's sample grid into a file."""

    def save_best(self) -> None:
        """Save the model next to the last one. Called when the monitored metric has a new best."""

    def save_last(self) -> None:
        """Save the model of an unfinished run. Called at each epoch's end but the last, whose model is the run's."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: StageModule) -> None:
        row = {"images_seen": module.images_seen, **module.end_epoch(), "seconds": module.elapsed()}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        epoch = -(-module.images_seen // (trainer.num_training_batches * module.settings.batch_size))
        is_due = module.finished() or epoch % self.sample_every == 0
        if trainer.is_global_zero:
            row |= self.validate()
            is_measured = is_due and self._measure_and_draw(row, module.images_seen)
        else:
            is_measured = False
        # The learning rate and the end may follow from it: it must be the same in all processes.
        row, is_measured = distributed.broadcast((row, is_measured))
        module.history.append(row)
        if trainer.is_global_zero and self.folder and is_best(module.settings, module.history):
            self.save_best()
        if module.finished():
            trainer.should_stop = True
        if trainer.is_global_zero:
            self._log(trainer, module, row)
            if module.progress() < 1.0 and stopped_early(module.settings, module.history):
                tqdm.write(early_stop_message(module.settings, module.history) + self._best_model())
        if self.folder:
            if trainer.is_global_zero:
                save_snapshot(module, self.folder)
            self._save_checkpoint(trainer, self.folder)
            if trainer.is_global_zero and not module.finished():
                self.save_last()
        monitor = module.settings.monitor
        if is_measured and monitor and monitor not in row:  # after the checkpoint: a resumed run may monitor another
            raise ConfigError(f"--trainer.monitor is {monitor!r}; this run measures {', '.join(row)}")

    def _measure_and_draw(self, row: dict[str, float], images_seen: int) -> bool:
        """Add what is too costly for every epoch to ``row``, and draw the grid. Return whether that could be done.

        A model may fail to sample early in its training, or when it diverges. The training continues: its own losses
        end it if necessary.
        """
        try:
            row |= self.evaluate()
            if self.folder:
                self.draw_samples(self._grid(images_seen))
        except DivergenceError as error:
            tqdm.write(f"no samples after {images_seen:,} images: {error}")
            return False
        return True

    def _best_model(self) -> str:
        """Where the best model is, for a message; empty for a run that saves none."""
        path = self.folder / "best.safetensors" if self.folder else None
        return f", in {path}" if path and path.is_file() else ""

    def _grid(self, images_seen: int) -> Path:
        """The file of an epoch's samples."""
        return Path(self.folder or "") / "samples" / f"{images_seen:09d}.png"

    def _log(self, trainer: lightning.Trainer, module: StageModule, row: dict[str, float]) -> None:
        if self.folder and "csv" in module.settings.loggers:
            write_metrics(self.folder / "metrics.csv", module.history)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "images_seen"}, step=module.images_seen)
            if isinstance(logger, TrackedLogger) and (grid := self._grid(module.images_seen)).is_file():
                logger.log_picture(grid, module.images_seen)
            logger.save()
        # metrics.csv has every channel's statistics; a line on screen has room for a few.
        shown = {k: v for k, v in row.items() if not k.startswith("latent_") or int(k.rsplit("_", 1)[1]) < 4}
        tqdm.write("  ".join(f"{name} {_short(value)}" for name, value in shown.items()))

    def _save_checkpoint(self, trainer: lightning.Trainer, folder: Path) -> None:
        trainer.save_checkpoint(folder / LAST)  # by training/checkpoint_files.py
        distributed.barrier()


def save_snapshot(module: StageModule, folder: Path) -> None:
    """Save a snapshot of the averages when one is due. They are spread evenly over the budget, the last at its end.

    The last snapshot is read from the folder, so that a resumed run saves the same ones. One that was given a larger
    budget goes on at that budget's distances.
    """
    if module.averages is None:
        return
    last = max((seen for path in snapshots_in(folder) if (seen := int(path.stem)) < module.images_seen), default=0)
    spent = {row["images_seen"]: row.get("seconds", 0.0) for row in module.history} | {0: 0.0}
    count, then = module.settings.ema_snapshots, module.share(last, spent.get(last, 0.0))
    if int(module.progress() * count) > int(then * count) or module.finished():
        module.averages.save(folder, module.images_seen)


class Progress(lightning.Callback):
    """A bar in images of the run's budget, with images/s and the time left; off without a terminal."""

    def on_train_start(self, trainer: lightning.Trainer, module: StageModule) -> None:
        self.last = time.monotonic()
        self.bar = progress_bar(
            total=100,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining} {postfix}",
            file=sys.stdout,
        )

    def on_train_batch_end(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        if time.monotonic() - self.last > 0.5:
            self.last = time.monotonic()
            self.bar.n = 100 * module.progress()
            rate = amount(module.images_seen / max(module.seconds, 1e-9))
            self.bar.set_postfix_str(f"{module.images_seen:,} images, {rate} images/s")

    def on_train_end(self, trainer: lightning.Trainer, module: StageModule) -> None:
        self.bar.n = 100 * module.progress()
        self.bar.close()


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """Write the whole ``metrics.csv``: one row per epoch, also those before a resume, and a column for every key."""
    columns = list(dict.fromkeys(name for row in history for name in row))

    def write(name: Path) -> None:
        with open(name, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)

    write_atomically(path, write)


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
