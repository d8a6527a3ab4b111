from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from latentdiff.evaluation import psnr_ssim
from latentdiff.evaluation.psnr_ssim import psnr_and_ssim


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    originals = torch.randint(20, 236, shape, dtype=torch.uint8, generator=generator)
    return (originals.int() + torch.randint(-20, 20, shape, generator=generator)).to(torch.uint8), originals


def test_large_images_are_measured_a_few_at_a_time(monkeypatch):
    images, originals = pair(5, 3, 16, 16)
    whole, sizes = psnr_and_ssim(images, originals), []

    def counted(a, b, **settings):
        sizes.append(len(a))
        return structural_similarity_index_measure(a, b, **settings)

    monkeypatch.setattr(psnr_ssim, "structural_similarity_index_measure", counted)
    monkeypatch.setattr(psnr_ssim, "BATCH_NUMBERS", 2 * 3 * 16 * 16)
    assert psnr_and_ssim(images, originals) == pytest.approx(whole, rel=1e-5)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(("shape", "keys"), [((4, 4), {"psnr"}), ((5, 9), {"psnr"}), ((6, 6), {"psnr", "ssim"})])
def test_images_below_the_windows_reach_have_no_ssim(shape, keys):
    assert psnr_and_ssim(*pair(3, 1, *shape)).keys() == keys
