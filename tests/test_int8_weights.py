"""Weights in 8 bits come back within the rounding that is promised, and a file with them is a model like others."""

from __future__ import annotations

import pytest
import torch

from latentdiff import checkpoint, load
from latentdiff.errors import CheckpointError
from latentdiff.int8_weights import SCALE, from_int8, to_int8
from latentdiff.stages import release


def test_a_weight_is_rounded_by_half_a_step_of_its_channel():
    torch.manual_seed(0)
    kernel = torch.randn(6, 3, 3, 3) * torch.logspace(-4, 3, 6).view(-1, 1, 1, 1)
    kernel[2] = 0.0
    given = {"kernel": kernel, "bias": torch.randn(6), "steps": torch.arange(4).view(2, 2)}
    stored = to_int8(given)
    assert stored["kernel"].dtype == torch.int8
    assert stored["kernel" + SCALE].shape == (6,)
    found = from_int8(stored)
    assert found.keys() == given.keys()
    assert torch.equal(found["bias"], given["bias"])
    assert torch.equal(found["steps"], given["steps"])
    largest = kernel.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
    assert ((found["kernel"] - kernel).abs() <= largest / 254 * 1.0001).all()
    again = to_int8(found)  # the largest of each channel stays, so nothing is rounded twice
    assert torch.equal(again["kernel"], stored["kernel"])
    torch.testing.assert_close(again["kernel" + SCALE], stored["kernel" + SCALE])


def test_a_released_model_is_half_as_large_and_draws_nearly_the_same(tmp_path):
    source = "checkpoints/fashion-mnist/latent.safetensors"
    release.main([f"--model={source}", f"--to={tmp_path / 'half.safetensors'}"])
    release.main([f"--model={source}", f"--to={tmp_path / 'quarter.safetensors'}", "--precision=int8"])
    half, quarter = (tmp_path / f"{name}.safetensors" for name in ("half", "quarter"))
    assert quarter.stat().st_size < 0.53 * half.stat().st_size
    assert "in 8 bits" in quarter.with_suffix(".md").read_text()
    one, other = (load(path).sample(4, steps=5).float() for path in (half, quarter))
    assert (one - other).square().mean().sqrt() < 6  # grey levels, of 255


def test_a_scale_that_fits_nothing_is_damage(tmp_path, tiny_model_file):
    header, tensors = checkpoint.read(tiny_model_file)
    stored = to_int8(tensors)
    name = next(name for name in stored if name.endswith(SCALE))
    stored[name] = torch.ones(len(stored[name]) + 1)
    path = tmp_path / "bad.safetensors"
    checkpoint.write_tensors(path, stored, header)
    with pytest.raises(CheckpointError, match="is no scale of"):
        load(path)
