from __future__ import annotations

import pytest
import torch

from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, TrainerConfig
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.degradation import degrade


def draws(draw, *shape):
    return draw(64, *shape, generator=torch.Generator().manual_seed(1))


X = torch.rand(64, 3, 20, 22, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_none_is_nothing():
    assert degrade(X, "none", 0.3, draws) is X


def test_noise_has_its_standard_deviation():
    assert float((degrade(X, "noise", 0.3, draws) - X).std()) == pytest.approx(0.3, rel=0.02)


def test_blur_keeps_a_plain_image_and_spreads_a_point_as_its_gaussian():
    torch.testing.assert_close(
        degrade(torch.full((1, 3, 9, 9), 0.4), "blur", 1.5, draws), torch.full((1, 3, 9, 9), 0.4)
    )
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1.0
    spread, at = degrade(point, "blur", 2.0, draws)[0, 0], torch.arange(31) - 15.0
    assert float(spread.sum()) == pytest.approx(1.0)
    assert float((spread.sum(0) * at.square()).sum()) == pytest.approx(4.0, rel=0.05)


def test_mask_takes_its_share_in_squares():
    masked = degrade(X, "mask", 0.25, draws)
    holes = (masked == 0).all(dim=1)
    assert float(holes.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(masked[(masked != 0)], X[(masked != 0)])
    cell = holes[:, :4, :4].flatten(1)
    assert ((cell.all(dim=1)) | (~cell).all(dim=1)).all()


@pytest.mark.parametrize(("kind", "strength"), [("noise", 0.0), ("mask", 1.0), ("blur", -1.0)])
def test_impossible_strengths_are_refused(kind, strength):
    config = AutoencoderConfig(channels=(8,), attention=False)
    settings = {"perceptual_weight": 0, "adversarial_weight": 0, "degradation": kind, "degradation_strength": strength}
    with pytest.raises(ValueError, match="degradation_strength"):
        AutoencoderModule((1, 8, 8), config, AutoencoderLossConfig(**settings), TrainerConfig(), None)
