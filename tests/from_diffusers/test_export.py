"""export --to diffusers: folders that diffusers loads, and that draw our images."""

from __future__ import annotations

import inspect
import json

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.dynamic_modules_utils import get_class_from_dynamic_module

from latentdiff import load
from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.errors import ConfigError
from latentdiff.export.diffusers_folder import folded_autoencoder, pipeline_for
from latentdiff.from_diffusers.models import read_autoencoder
from latentdiff.from_diffusers.scheduler import settings_of
from latentdiff.resources import find_checkpoint
from latentdiff.stages import export
from tests.from_diffusers.miniatures import SIDE, make_unet, make_vae


def exported(source, folder, *flags):
    """The folder, and diffusers' own pipeline from it, which runs no code of the folder."""
    export.main([str(source), "--to=diffusers", f"--run.folder={folder}", *flags])
    return folder


def drawn(folder, model, steps=4, count=2, **call):
    """The images of a pipeline for our noise, as bytes [n, c, h, w]."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=False)
    pipeline.set_progress_bar_config(disable=True)
    generators = PerImageNoise(3, range(count), model.codec.latent_shape).generators
    images = pipeline(
        batch_size=count, generator=generators, num_inference_steps=steps, output_type="np", **call
    ).images
    return type(pipeline).__name__, torch.from_numpy(np.rint(images * 255).astype(np.uint8)).permute(0, 3, 1, 2)


def assert_same(ours, theirs):
    """The same pixels, but for a grey level where a number is next to a half."""
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


def test_a_unet_on_pixels_is_diffusers_own_pipeline(pixel_pipeline, tmp_path):
    model = load(pixel_pipeline)
    folder = exported(pixel_pipeline, tmp_path / "out")
    kind, theirs = drawn(folder, model, use_clipped_model_output=True)
    assert kind == "DDIMPipeline"
    assert_same(model.sample(2, steps=4, sampler="ddim", seed=3), theirs)
    again = load(f"diffusers:{folder}")
    assert again.diffusion == model.diffusion
    assert torch.equal(again.sample(2, steps=4), model.sample(2, steps=4))
    assert "DDIMPipeline" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_file_of_ours_and_a_learned_variance(save, tmp_path):
    source = save(diffusers.DDPMScheduler(variance_type="learned_range"), make_unet(out_channels=6))
    model = load(source)
    model.save(tmp_path / "model.safetensors")
    folder = exported(tmp_path / "model.safetensors", tmp_path / "out")
    kind, theirs = drawn(folder, model)
    assert kind == "DDPMPipeline"
    assert_same(model.sample(2, steps=4, sampler="ddpm", seed=3), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("convolutions", [True, False])
def test_latents_of_an_autoencoderkl_are_ldm(save, tmp_path, convolutions):
    vae = make_vae(use_quant_conv=convolutions, use_post_quant_conv=convolutions)
    model = load(save(diffusers.DDIMScheduler(clip_sample=False), vqvae=vae))
    model.codec.mean, model.codec.std = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 2.0, 1.5])
    model.save(tmp_path / "model.safetensors")
    folder = exported(tmp_path / "model.safetensors", tmp_path / "out")
    kind, theirs = drawn(folder, model)
    assert kind == "LDMPipeline"
    assert_same(model.sample(2, steps=4, sampler="ddim", seed=3), theirs)
    config = json.loads((folder / "vqvae" / "config.json").read_text())
    assert config["scaling_factor"] == 0.5


def test_a_folded_autoencoder_encodes_as_the_codec_standardises(tmp_path):
    make_vae().save_pretrained(tmp_path / "vae")
    codec = read_autoencoder(f"diffusers:{tmp_path / 'vae'}", (3, 2 * SIDE, 2 * SIDE))
    codec.mean, codec.std = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 2.0, 1.5])
    images = torch.randint(0, 256, (2, 3, 2 * SIDE, 2 * SIDE), dtype=torch.uint8)
    mean, logvar = codec.encode(images).chunk(2, dim=1)
    vae = folded_autoencoder(codec)
    with torch.no_grad():
        found = vae.encode(images.float() / 127.5 - 1).latent_dist
    factor = vae.config.scaling_factor
    torch.testing.assert_close(factor * found.mean, codec.standardise(mean))
    std = torch.exp(0.5 * logvar) / codec.std[:, None, None]
    torch.testing.assert_close(factor * found.std, std)


@pytest.mark.slow
def test_our_own_network_is_a_pipeline_that_calls_latentdiff(tmp_path):
    source = find_checkpoint("fashion-mnist/latent.safetensors")
    model = load(source)
    folder = exported(source, tmp_path / "out", "--precision=bf16")
    # Older versions ask for leave to run code of the Hub alone, not that of a local folder.
    if "trust_remote_code" in inspect.signature(get_class_from_dynamic_module).parameters:
        with pytest.raises((ValueError, OSError)):
            diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=False)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipeline(batch_size=2, class_labels="Dress", num_inference_steps=3, guidance_scale=1.5, seed=7).images
    ours = model.sample(2, labels="Dress", steps=3, guidance_scale=1.5, seed=7)
    assert torch.equal(torch.stack([torch.from_numpy(np.array(image)) for image in images])[:, None], ours)
    seeded = pipeline(batch_size=1, generator=torch.Generator().manual_seed(7), num_inference_steps=2, output_type="pt")
    assert torch.equal((seeded.images * 255).round().to(torch.uint8), model.sample(1, steps=2, seed=7))


@pytest.mark.slow
def test_an_export_in_the_same_folder_leaves_nothing_of_the_first(pixel_pipeline, tmp_path):
    own = exported(find_checkpoint("fashion-mnist/latent.safetensors"), tmp_path / "out")
    (own / "model" / "notes.txt").write_text("mine")
    exported(f"diffusers:{pixel_pipeline}", own, "--run.overwrite")
    assert {path.name for path in (own / "model").iterdir()} == {"notes.txt"}
    assert not (own / "pipeline.py").exists()
    assert (own / "unet" / "config.json").is_file()


def test_few_steps_keep_their_betas():
    settings = settings_of(DiffusionConfig(schedule="linear", num_train_steps=10), {}, False)
    schedule = build_schedule(DiffusionConfig(schedule="linear", num_train_steps=10))
    scheduler = diffusers.DDIMScheduler(**settings)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.alpha_bar, atol=1e-6, rtol=0)


def test_which_pipeline_and_why(save, pixel_pipeline):
    conditional = load(save(diffusers.DDPMScheduler(), make_unet(num_class_embeds=3)))
    assert pipeline_for(conditional) == (
        "LatentdiffPipeline",
        "diffusers has no pipeline that gives a UNet2DModel classes",
    )
    assert pipeline_for(load(pixel_pipeline))[0] == "DDIMPipeline"


def test_what_diffusers_has_not_is_refused_before_anything_is_written(pixel_pipeline, tmp_path):
    with pytest.raises(ConfigError, match="does not support --precision int8"):
        exported(pixel_pipeline, tmp_path / "out", "--precision=int8")
    with pytest.raises(ConfigError, match="--to diffusers takes one model"):
        exported(pixel_pipeline, tmp_path / "out", "--beside=['other.safetensors']")
    assert not (tmp_path / "out").exists()
