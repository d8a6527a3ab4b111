"""load("diffusers:…"): what comes in, what is refused by name, and files of ours that hold it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import diffusers
import pytest
import torch

from latentdiff import load
from latentdiff.checkpoint import read_tensors, write_tensors
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.from_diffusers.address import parse_address
from latentdiff.runs import model_card
from tests.from_diffusers.miniatures import SIDE, make_tiny, make_unet, make_vae


def test_a_pipeline_becomes_a_model_whose_file_loads_again(pixel_pipeline, tmp_path):
    model = load(pixel_pipeline)
    assert model.codec.image_shape == (3, SIDE, SIDE)
    assert (model.diffusion.schedule, model.diffusion.target) == ("linear", "eps")
    assert model.diffusion.beta_range == (1e-4, 0.02)
    assert model.sampling == {"spacing": "leading", "variance": "large", "clip": True, "unit_noise": True}
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.network_config == model.network_config
    assert torch.equal(again.sample(2, steps=3), model.sample(2, steps=3))
    assert "UNet" in repr(again.network)


@pytest.mark.slow
def test_weights_of_a_variant_and_of_a_folder(pixel_pipeline, tmp_path):
    folder = tmp_path / "pipeline"
    shutil.copytree(pixel_pipeline.removeprefix("diffusers:"), folder)
    ema = make_unet()
    with torch.no_grad():
        ema.conv_in.bias.fill_(7.0)
    ema.save_pretrained(folder / "unet", variant="ema")
    ema.save_pretrained(folder / "unet_ema")
    address = f"diffusers:{folder}"
    assert not bool((load(address).network.unet.conv_in.bias == 7.0).all())
    for named in (f"{address},variant=ema", f"{address},subfolder=unet_ema"):
        assert bool((load(named).network.unet.conv_in.bias == 7.0).all())


@pytest.mark.slow
def test_a_pipeline_of_old_has_its_files_at_the_root(pixel_pipeline, tmp_path):
    source = Path(pixel_pipeline.removeprefix("diffusers:"))
    for name in ("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
        shutil.copy(source / name, tmp_path)
    shutil.copy(source / "model_index.json", tmp_path)
    model, expected = load(f"diffusers:{tmp_path}"), load(pixel_pipeline)
    assert torch.equal(model.sample(1, steps=2), expected.sample(1, steps=2))


def test_a_pipeline_on_latents(save):
    vae = make_vae(scaling_factor=0.25)
    model = load(save(diffusers.DDIMScheduler(clip_sample=False), vqvae=vae))
    assert model.codec.image_shape == (3, 2 * SIDE, 2 * SIDE)
    assert model.codec.latent_shape == (3, SIDE, SIDE)
    assert model.codec.std.tolist() == [4.0] * 3
    assert model.sample(1, steps=2).shape == (1, 3, 2 * SIDE, 2 * SIDE)


@pytest.mark.parametrize("make", [make_vae, make_tiny])
def test_an_autoencoder_becomes_a_codec(make, tmp_path):
    vae = make()
    vae.save_pretrained(tmp_path / "vae")
    codec = load(f"diffusers:{tmp_path / 'vae'}")
    if make is make_tiny:
        assert codec.image_shape == (3, 512, 512)
        return
    images = torch.randint(0, 256, (2, *codec.image_shape), dtype=torch.uint8)
    with torch.no_grad():
        posterior = vae.encode(images.float() / 127.5 - 1).latent_dist
        expected = vae.decode(posterior.mean).sample
    mean, logvar = codec.encode(images).chunk(2, dim=1)
    torch.testing.assert_close(mean, posterior.mean)
    torch.testing.assert_close(logvar, posterior.logvar)
    torch.testing.assert_close(codec.standardise(mean), 0.5 * mean)
    decoded = ((expected + 1) * 127.5).clamp(0, 255).round()
    assert (codec.reconstruct(images).float() - decoded).abs().max() <= 1
    codec.save(tmp_path / "codec.safetensors")
    again = load(tmp_path / "codec.safetensors")
    assert again.fingerprint == codec.fingerprint
    assert again.provisional
    assert torch.equal(again.decode(codec.standardise(mean)), codec.decode(codec.standardise(mean)))


def test_classes_are_named_by_number(save):
    model = load(save(diffusers.DDPMScheduler(), make_unet(num_class_embeds=3)))
    assert model.class_names == ("0", "1", "2")
    assert model.sample(3, steps=2, labels=[0, 1, 2]).shape[0] == 3
    with pytest.raises(ConfigError, match="without class dropout"):
        model.sample(1, labels=0, guidance_scale=2.0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule sigmoid"),
        ({"variance_type": "fixed_large_log"}, "variance_type fixed_large_log"),
        ({"variance_type": "learned_range"}, "variance_type learned_range"),
        ({"clip_sample_range": 2.0}, "clip_sample_range 2.0"),
        ({"thresholding": True, "sample_max_value": 1.5}, "sample_max_value 1.5"),
        ({"steps_offset": 1}, "steps_offset 1"),
        ({"rescale_betas_zero_snr": True}, "the eps target does not go with zero_terminal_snr"),
    ],
)
def test_settings_of_a_scheduler_are_refused_by_name(pixel_pipeline, tmp_path, settings, named):
    shutil.copytree(pixel_pipeline.removeprefix("diffusers:"), tmp_path / "copy")
    diffusers.DDPMScheduler(**settings).save_pretrained(tmp_path / "copy" / "scheduler")
    with pytest.raises(CheckpointError, match=named):
        load(f"diffusers:{tmp_path / 'copy'}")


def test_ddim_that_does_not_end_at_the_image_is_refused(save):
    with pytest.raises(CheckpointError, match="set_alpha_to_one False"):
        load(save(diffusers.DDIMScheduler(set_alpha_to_one=False)))


def test_another_scheduler_is_refused_with_what_to_do(save):
    with pytest.raises(CheckpointError, match=r"EulerDiscreteScheduler: .*DDIMScheduler.from_config"):
        load(save(diffusers.EulerDiscreteScheduler()))


def test_a_vqmodel_is_refused_in_words(save):
    vq = diffusers.VQModel(block_out_channels=(8,), norm_num_groups=4)
    with pytest.raises(CheckpointError, match="picks its latents from a codebook"):
        load(save(diffusers.DDIMScheduler(clip_sample=False), vqvae=vq))


def test_a_network_with_the_time_of_another_process_is_refused(save):
    with pytest.raises(CheckpointError, match="time_embedding_type must be positional"):
        load(save(diffusers.DDPMScheduler(), make_unet(time_embedding_type="fourier")))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("diffusers:", "is no address"),
        ("diffusers:/nowhere/at/all", "there is no folder"),
        ("diffusers:a/b,variant=", "is no address"),
        ("diffusers:a/b,subfolder=../c", "the subfolder is one of the model's own"),
        ("diffusers:a/b,weights=ema", "there is no option weights, only variant"),
    ],
)
def test_an_address_that_is_none(value, message):
    with pytest.raises(CheckpointError, match=message):
        load(value)


def test_a_folder_of_diffusers_without_the_prefix_says_how_to_name_it(pixel_pipeline):
    folder = Path(pixel_pipeline.removeprefix("diffusers:"))
    for named in (folder, folder / "unet"):
        with pytest.raises(CheckpointError, match=f"write diffusers:{named}"):
            load(named)


def test_an_address_with_all_its_options():
    address = parse_address("diffusers:google/ddpm-cifar10-32,variant=ema,revision=main")
    assert (address.source, address.variant, address.revision) == ("google/ddpm-cifar10-32", "ema", "main")
    assert str(address) == "diffusers:google/ddpm-cifar10-32,variant=ema,revision=main"


def test_pickles_are_not_read(tmp_path, save):
    address = save(diffusers.DDPMScheduler(), safe_serialization=False)
    assert list(Path(address.removeprefix("diffusers:")).rglob("*.bin"))
    with pytest.raises(CheckpointError, match="diffusers cannot read"):
        load(address)


def test_a_damaged_folder_is_an_error_in_a_line(pixel_pipeline, tmp_path):
    shutil.copytree(pixel_pipeline.removeprefix("diffusers:"), tmp_path / "copy")
    weights = tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="diffusers cannot read"):
        load(f"diffusers:{tmp_path / 'copy'}")
    config = tmp_path / "copy" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [8, 10**9]}))
    with pytest.raises(CheckpointError, match="block_out_channels must be"):
        load(f"diffusers:{tmp_path / 'copy'}")


def test_without_the_extra_it_is_a_line_that_names_it(pixel_pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"pip install 'latentdiff\[diffusers\]'"):
        load(pixel_pipeline)


@pytest.fixture(scope="module")
def model_file(pixel_pipeline, tmp_path_factory):
    """A file of ours with a network of diffusers."""
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    load(pixel_pipeline).save(path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["network"]["unet"].update(block_out_channels=[8, 65_536]), "do not fit the network"),
        (lambda header: header["network"]["unet"].update(layers_per_block=256), "the number of layers in network"),
        (lambda header: header["network"]["unet"].update(down_block_types=["CrossAttnDownBlock2D"] * 2), "must be"),
        (lambda header: header["network"]["unet"].update(code="import os"), "network"),
        (lambda header: header["sampling"].update(spacing="none"), "sampling.spacing must be"),
        (lambda header: header.update(sampling=[1]), "sampling must be an object"),
    ],
)
def test_a_header_that_no_model_can_have(model_file, tmp_path, change, message):
    file = read_tensors(model_file)
    change(file.header)
    path = tmp_path / "model.safetensors"
    write_tensors(path, file.tensors, file.header)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_card_does_not_licence_the_weights_of_others(model_file):
    file = read_tensors(model_file)
    card = model_card.card(model_file, file.header, file.num_values)
    assert "of a model of diffusers, under its own licence" in card
    assert "Apache" not in card
    assert "training's history" not in card
