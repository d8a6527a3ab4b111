"""What stage one measures and draws at the end of an epoch."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from latentdiff.report.grids import save_grid
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd

# Images in a row of a run's grid.
COLUMNS = 16


class AutoencoderEpochEnd(EpochEnd):
    """The end of an epoch of stage one: how well held-out images are reconstructed, and a grid of some.

    Args:
        folder: The run's folder, or None: then nothing is written.
        module: The training step.
        images: uint8 [n, c, h, w], not trained on; n may be 0.
    """

    def __init__(self, folder: Path | None, module: AutoencoderModule, images: Tensor):
        super().__init__(folder)
        self.module, self.images = module, images

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM, KL and the latents' statistics over the held-out images."""
        return self.module.validate(self.images)

    def draw_samples(self, path: Path) -> None:
        """Save a grid: held-out images, their reconstructions, decoded noise. Without images there is no grid."""
        if len(self.images):
            save_grid(self.module.preview(self.images[:COLUMNS]).flatten(0, 1), path, columns=COLUMNS)
