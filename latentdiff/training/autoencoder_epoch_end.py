"""What stage one measures and draws at the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.codec import AutoencoderCodec
from latentdiff.report.grids import save_grid
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.callbacks import EpochEnd

# Images in a row of a run's grid.
COLUMNS = 16
# Training images that an unfinished model's statistics are taken over, where there are no held-out ones.
STATISTICS_IMAGES = 256


class AutoencoderEpochEnd(EpochEnd):
    """The end of an epoch of stage one: how well held-out images are reconstructed, and a grid of some.

    Args:
        folder: The run's folder, or None: then nothing is written.
        module: The training step.
        training_images: uint8 [m, c, h, w].
        images: uint8 [n, c, h, w], not trained on; n may be 0.
        record: Gives the model's record.
    """

    def __init__(
        self,
        folder: Path | None,
        module: AutoencoderModule,
        training_images: Tensor,
        images: Tensor,
        record: Callable[[], dict[str, Any]],
    ):
        super().__init__(folder)
        self.module, self.training_images, self.images, self.record = module, training_images, images, record

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM, KL and the latents' statistics over the held-out images."""
        return self.module.validate(self.images)

    def draw_samples(self, path: Path) -> None:
        """Save a grid: held-out images, their reconstructions, decoded noise. Without images there is no grid."""
        if count := len(self.images):
            shown = torch.arange(min(COLUMNS, count)) * count // min(COLUMNS, count)  # spread, as files are sorted
            save_grid(self.module.preview(self.images[shown]).flatten(0, 1), path, columns=COLUMNS)

    def save_last(self) -> None:
        """Save the model of an unfinished run, as ``last.safetensors``.

        Its latents' statistics are those that were just measured on held-out images. Those of all training images would
        take too long at each epoch's end.
        """
        if not self.folder:
            return
        measured = [
            [value for key, value in self.module.history[-1].items() if key.startswith(f"latent_{name}_")]
            for name in ("mean", "std")
        ]
        if measured[0]:
            mean, std = (torch.tensor(values, device=self.module.device) for values in measured)
            codec = AutoencoderCodec(self.module.ema.network, self.module.config, mean, std)
        else:
            codec = self.module.build_codec(self.training_images[:STATISTICS_IMAGES])
        codec.provenance = self.record()
        codec.write(self.folder / "last.safetensors")
