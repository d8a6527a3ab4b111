"""--autoencoder diffusers:…: an AutoencoderKL or AutoencoderTiny as the codec of a data set."""

from __future__ import annotations

import pytest
import torch

from latentdiff import cache_latents, load, load_dataset, train_diffusion
from latentdiff.codec import decode_batch_size
from latentdiff.config import AutoencoderConfig, DataConfig, DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.config.diffusers_models import AutoencoderKLConfig, DiffusersAutoencoderConfig
from latentdiff.config.training_stages import LatentsStage
from latentdiff.errors import ConfigError
from latentdiff.latents import fill_latent_cache
from tests.from_diffusers.miniatures import make_tiny, make_vae


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The address of an AutoencoderKL."""
    folder = tmp_path_factory.mktemp("vae")
    make_vae().save_pretrained(folder)
    return f"diffusers:{folder}"


def images(channels=3, side=10, count=6):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    return load_dataset({"train": pixels})


def test_latents_are_standardised_over_the_training_images_and_cached_once(vae, tmp_path, capsys):
    data = images()
    latents = cache_latents(vae, data, folder=tmp_path)
    draws = torch.stack([latents.sample(seed=seed) for seed in range(200)]).transpose(0, 2).flatten(1)
    torch.testing.assert_close(draws.mean(dim=1), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(dim=1), torch.ones(3), atol=0.02, rtol=0)
    again = cache_latents(vae, data, folder=tmp_path)
    assert "using 6 cached latents" in capsys.readouterr().out
    assert torch.equal(again.moments, latents.moments)
    assert torch.equal(again.codec.std, latents.codec.std)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.slow
def test_odd_sides_and_grey_images_come_back_as_they_were(vae):
    for channels, side in ((3, 9), (1, 10), (1, 7)):
        codec = cache_latents(vae, images(channels, side)).codec
        assert codec.latent_shape == (3, -(-side // 2), -(-side // 2))
        assert codec.reconstruct(images(channels, side).train.images).shape == (6, channels, side, side)


@pytest.mark.slow
def test_grey_images_are_encoded_as_equal_colours(vae):
    grey = images(channels=1)
    colour = load_dataset({"train": grey.train.images.expand(-1, 3, -1, -1).contiguous()})
    torch.testing.assert_close(cache_latents(vae, grey).moments, cache_latents(vae, colour).moments)


@pytest.mark.slow
def test_a_latent_model_brings_it_in_its_file(vae, tmp_path):
    model = train_diffusion(
        images(),
        autoencoder=vae,
        network=NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8),
        diffusion=DiffusionConfig(),
        trainer=TrainerConfig(max_images=8, batch_size=4, accelerator="cpu", precision="fp32"),
        validation_images=0,
        quality_images=0,
    )
    assert not model.codec.provisional
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again.codec.std, model.codec.std)
    assert torch.equal(again.sample(2, steps=2), model.sample(2, steps=2))
    assert model.provenance["codec_fingerprint"] == again.codec.fingerprint


def test_an_autoencoder_tiny_has_no_spread(tmp_path):
    make_tiny().save_pretrained(tmp_path / "tiny")
    latents = cache_latents(f"diffusers:{tmp_path / 'tiny'}", images())
    assert (latents.moments[:, 3:] == -30).all()
    torch.testing.assert_close(latents.sample(seed=0), latents.sample(seed=1), atol=1e-4, rtol=0)
    assert latents.codec.reconstruct(images().train.images).shape == (6, 3, 10, 10)


def test_colours_for_a_grey_autoencoder_are_refused(tmp_path):
    make_vae(in_channels=1, out_channels=1).save_pretrained(tmp_path / "vae")
    with pytest.raises(ConfigError, match=r"takes images of 1 channels .* load them with --data.colour grey"):
        cache_latents(f"diffusers:{tmp_path / 'vae'}", images())


@pytest.mark.slow
def test_the_stage_latents_takes_it(vae, tmp_path, capsys):
    data = DataConfig(source="embedded", max_train_images=8)
    fill_latent_cache(LatentsStage(autoencoder=vae, data=data, folder=str(tmp_path)))
    said = capsys.readouterr().out
    assert "standardised latents, channel 0: mean" in said
    assert f"autoencoder {vae}" in said


def test_a_wide_autoencoder_decodes_fewer_images_at_a_time():
    # Stable Diffusion's took 8 GB for 64 images of 128 pixels.
    wide, narrow = (
        DiffusersAutoencoderConfig(
            vae=AutoencoderKLConfig(
                block_out_channels=(width, 2 * width),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
            )
        )
        for width in (128, 32)
    )
    sides = [(3, side, side) for side in (32, 64, 128, 256)]
    assert [decode_batch_size(shape, wide) for shape in sides] == [64, 64, 16, 16]
    assert [decode_batch_size(shape, narrow) for shape in sides] == [256, 256, 64, 16]
    assert [decode_batch_size(shape, AutoencoderConfig(channels=(128, 256))) for shape in sides] == [256, 256, 64, 16]
