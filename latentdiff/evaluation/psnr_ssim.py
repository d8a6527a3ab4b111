"""How close reconstructions come to their originals, pixel by pixel."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr_and_ssim(images: Tensor, originals: Tensor, batch_size: int = 500) -> dict[str, float]:
    """PSNR in dB (the mean over images) and SSIM (Wang et al. 2004) of uint8 reconstructions [n, c, h, w]."""
    squared = ((images.float() - originals.float()) / 255).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    similarity = sum(
        structural_similarity_index_measure(a.float(), b.float(), data_range=255.0).item() * len(a)
        for a, b in zip(images.split(batch_size), originals.split(batch_size), strict=True)
    )
    return {"psnr": float(-10 * squared.log10().mean()), "ssim": similarity / len(images)}
