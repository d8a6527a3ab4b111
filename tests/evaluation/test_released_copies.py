"""Whether copies are found where they come out of the released autoencoder, on the slice inside the package."""

from __future__ import annotations

import pytest
import torch

from latentdiff import resources as shelf
from latentdiff.codec import load_codec
from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.evaluation.precision_recall import pixel_memorisation

RELEASED = shelf.find_checkpoint("fashion-mnist/autoencoder.safetensors")
pytestmark = pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")


@pytest.mark.slow
def test_repeated_latents_are_copies_and_new_images_are_none():
    train, test = (load_split(DataConfig(source="embedded"), split).images for split in ("train", "test"))
    codec, generator = load_codec(RELEASED), torch.Generator().manual_seed(0)
    repeated = train[torch.randperm(len(train), generator=generator)[:150]]
    # As a model that had learnt its training latents by heart would give them: a draw of the posterior, decoded.
    copies = codec.decode(codec.sample(codec.encode(repeated), generator=generator))
    found, differences, _ = pixel_memorisation(copies, train, test[:200], codec.reconstruct)
    assert differences.median() > 10.0  # grey levels: far beyond the limit for copies
    assert found["copied"] > 0.95
    new, *_ = pixel_memorisation(codec.reconstruct(test[:200]), train, test[:200], codec.reconstruct)
    assert new["copied"] == 0.0
