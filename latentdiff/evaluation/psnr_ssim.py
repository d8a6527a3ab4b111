"""How close reconstructions come to their originals, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

# Numbers in a batch of images. SSIM takes some fifty times their bytes.
BATCH_NUMBERS, BATCH_IMAGES = 2**23, 500
# The window of SSIM has 11 x 11 pixels, and reaches 5 beyond an image, which is mirrored there.
LEAST_SIDE = 6


def psnr_and_ssim(images: Tensor, originals: Tensor) -> dict[str, float]:
    """PSNR in dB (the mean over images) and SSIM (Wang et al. 2004) of uint8 reconstructions [n, c, h, w].

    Images with a side below 6 pixels have no SSIM.
    """
    size = max(1, min(BATCH_IMAGES, BATCH_NUMBERS // images[0].numel()))
    batches = list(zip(images.split(size), originals.split(size), strict=True))
    squared = torch.cat([((a.float() - b.float()) / 255).square().mean(dim=(1, 2, 3)) for a, b in batches])
    values = {"psnr": float(-10 * squared.clamp_min(1e-10).log10().mean())}
    if min(images.shape[-2:]) >= LEAST_SIDE:
        similarity = sum(
            structural_similarity_index_measure(a.float(), b.float(), data_range=255.0).item() * len(a)
            for a, b in batches
        )
        values["ssim"] = similarity / len(images)
    return values
