"""Images of 128 pixels: a codec of 8x a side, and a diffusion model on its latents, a few steps each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from latentdiff.checkpoint import read_header
from latentdiff.stages import autoencoder, diffusion


@pytest.mark.slow
@pytest.mark.parametrize(
    "codec", [["--network.channels=[8,8,16,16]"], ["--network.channels=[8,16]", "--network.patch=4"]]
)
def test_images_of_128_pixels_through_a_codec_of_8x_a_side(tmp_path, codec):
    for index in range(16):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((160, 144), Image.Resampling.BICUBIC)
        (tmp_path / "own").mkdir(exist_ok=True)
        image.save(tmp_path / "own" / f"{index}.jpg")
    common = ["--data.name=folder", "--data.path=own", "--data.size=128", "--data.fractions=[0.9,0.1,0]"]
    common += ["--trainer.max_images=40", "--trainer.images_per_epoch=40", "--trainer.batch_size=4"]
    common += ["--trainer.accelerator=cpu", "--trainer.precision=fp32"]
    codec = [*codec, "--network.encoder_blocks=1", "--network.decoder_blocks=1", "--network.attention=false"]
    codec += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0", "--validation_images=2"]
    autoencoder.main([*common, *codec, "--run.folder=codec"])
    network = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
    network += ["--network.head_channels=8", "--quality_images=0", "--sample_every=100", "--validation_images=2"]
    diffusion.main([*common, *network, "--autoencoder=codec", "--run.folder=latent"])
    header = read_header(tmp_path / "latent" / "model.safetensors")
    assert '"image_shape": [3, 128, 128]' in json.dumps(header)
    rows = (tmp_path / "latent" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2
