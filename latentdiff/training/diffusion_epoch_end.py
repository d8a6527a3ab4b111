"""What stage two measures, draws and saves at the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from latentdiff.codec import encode_batch_size
from latentdiff.data import ImageDataset
from latentdiff.evaluation.reference_subset import representative
from latentdiff.inference.model import DiffusionModel
from latentdiff.report.grids import save_grid
from latentdiff.training.callbacks import EpochEnd
from latentdiff.training.conditions import conditions_of
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.quality_probe import QualityProbe

# Rows, and columns, of a run's sample grid; and its sampling steps.
GRID = 10
GRID_STEPS = 20


class DiffusionEpochEnd(EpochEnd):
    """The end of an epoch of stage two: loss on held-out images, a grid of samples, their quality, the best model.

    Args:
        folder: The run's folder, or None: then nothing is written.
        module: The training step, which computes the loss.
        model: What samples. It shares the averaged network with the module.
        held_out: Images that are not trained on.
        validation_images: How many of them the loss is measured on at most; 0 for none.
        probe: Measures the quality of samples, or None.
        sample_every: Epochs between two grids and quality figures.
        save: Writes the model to a file.
    """

    def __init__(
        self,
        folder: Path | None,
        module: DiffusionModule,
        model: DiffusionModel,
        held_out: ImageDataset,
        validation_images: int,
        probe: QualityProbe | None,
        sample_every: int,
        save: Callable[[Path], None],
    ):
        super().__init__(folder, sample_every)
        self.module, self.model, self.probe, self.save = module, model, probe, save
        # The held-out images are encoded once.
        few = representative(held_out, validation_images)
        self.labels = conditions_of(module.network, few) if len(few) else few.labels
        size = encode_batch_size(few.image_shape)
        self.moments = [module.codec.encode(chunk) for chunk in few.images.split(size)] if len(few) else []

    def validate(self) -> dict[str, float]:
        """``val_loss``, or nothing where there are no images."""
        if not self.moments:
            return {}
        return {"val_loss": self.module.validation_loss(torch.cat(self.moments), self.labels)}

    def evaluate(self) -> dict[str, float]:
        """The quality of samples, or nothing without a probe."""
        return self.probe(self.model) if self.probe else {}

    def draw_samples(self, path: Path) -> None:
        """Save the run's sample grid: always the same seeds, and classes or captions."""
        steps = min(GRID_STEPS, self.model.diffusion.num_train_steps or GRID_STEPS)
        labels, captions = grid_labels(len(self.model.class_names)), self.model.captions
        prompt = [captions[index] for index in grid_labels(len(captions)) or ()] or None
        images = self.model.sample(GRID * GRID, labels=labels, prompt=prompt, batch_size=GRID * GRID, steps=steps)
        save_grid(images, path, columns=GRID)

    def save_best(self) -> None:
        """Save the model next to the last one, as ``best.safetensors``."""
        if self.folder:
            self.save(self.folder / "best.safetensors")

    def save_last(self) -> None:
        """Save the model of an unfinished run, as ``last.safetensors``."""
        if self.folder:
            self.save(self.folder / "last.safetensors")


def grid_labels(count: int) -> list[int] | None:
    """The class or caption of each image of a run's grid, a column each; of more than ten, ten spread over all."""
    if not count:
        return None
    return [column * count // GRID if count > GRID else column % count for column in range(GRID)] * GRID
