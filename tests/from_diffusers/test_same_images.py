"""Our samplers over a U-Net of diffusers against diffusers' own: the same noise, the same images."""

from __future__ import annotations

import itertools

import diffusers
import pytest
import torch

from latentdiff import load
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.inference.request import SamplingRequest
from tests.from_diffusers.miniatures import make_unet

IMAGES, STEPS, SEED = 2, 10, 3
LIMIT = 1e-4
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


def theirs(address, kind, spacing, steps=STEPS, options=None, call=None):
    """The last state of diffusers' own pipeline with one of its schedulers."""
    folder = address.removeprefix("diffusers:")
    pipeline = getattr(diffusers, "DDIMPipeline" if kind == "ddim" else "DDPMPipeline").from_pretrained(folder)
    names = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "dpmpp_2m": "DPMSolverMultistepScheduler"}
    config = pipeline.scheduler.config
    pipeline.scheduler = getattr(diffusers, names[kind]).from_config(
        config, timestep_spacing=spacing, **(options or {})
    )
    pipeline.set_progress_bar_config(disable=True)
    states, step = [], pipeline.scheduler.step

    def record(*arguments, **keywords):
        states.append(step(*arguments, **keywords))
        return states[-1]

    pipeline.scheduler.step = record
    shape = (pipeline.unet.config.in_channels, *[pipeline.unet.config.sample_size] * 2)
    generators = PerImageNoise(SEED, range(IMAGES), shape).generators
    pipeline(batch_size=IMAGES, generator=generators, num_inference_steps=steps, output_type="pt", **(call or {}))
    return states[-1].prev_sample


def theirs_by_heun(address, spacing):
    """The last state of diffusers' Heun, which no pipeline of a UNet2DModel calls as it wants to be called."""
    folder = address.removeprefix("diffusers:")
    unet = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet")
    config = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler").config
    scheduler = diffusers.HeunDiscreteScheduler.from_config(config, timestep_spacing=spacing)
    scheduler.set_timesteps(STEPS)
    shape = (unet.config.in_channels, *[unet.config.sample_size] * 2)
    # In units of sigma / alpha: x / alpha, where x has unit variance.
    x = PerImageNoise(SEED, range(IMAGES), shape)() * float((scheduler.sigmas[0] ** 2 + 1).sqrt())
    with torch.no_grad():
        for time in scheduler.timesteps:
            output = unet(scheduler.scale_model_input(x, time), time).sample
            x = scheduler.step(output, time, x).prev_sample
    return x


def ours(address, sampler, spacing, steps=STEPS, **settings):
    """The last state of our sampler over the same network."""
    model = load(address)
    request = SamplingRequest(num_images=IMAGES, seed=SEED, steps=steps, sampler=sampler, spacing=spacing, **settings)
    ((_, states),) = model.batches(request)
    *_, last = states
    return last.x


def deviation(a, b):
    """The relative difference of two batches."""
    assert torch.isfinite(b).all()
    return float((a - b).norm() / b.norm())


def check(address, sampler, spacing, settings=None, **given):
    found = deviation(ours(address, sampler, spacing, **(settings or {})), theirs(address, sampler, spacing, **given))
    assert found < LIMIT, f"{found:.1e}"


def cases():
    """Each sampler with every prediction and schedule, of which one a sampler is tried by default."""
    usual = {
        ("ddpm", "epsilon", "linear"),
        ("ddim", "sample", "scaled_linear"),
        ("dpmpp_2m", "v_prediction", "squaredcos_cap_v2"),
        ("heun", "epsilon", "scaled_linear"),
    }
    for case in itertools.product(("ddpm", "ddim", "dpmpp_2m", "heun"), PREDICTIONS, SCHEDULES):
        if case[:2] != ("heun", "sample"):  # diffusers' Heun has none
            yield pytest.param(*case, marks=[] if case in usual else pytest.mark.slow)


@pytest.fixture(scope="module")
def saved(save):
    """Addresses of pipelines by their settings, each saved once."""
    known = {}

    def saved(unet=None, **settings):
        key = (repr(unet), repr(sorted(settings.items())))
        if key not in known:
            network = None if unet is None else make_unet(**unet)
            known[key] = save(diffusers.DDPMScheduler(**settings), network)
        return known[key]

    return saved


@pytest.mark.parametrize(("sampler", "prediction", "schedule"), list(cases()))
def test_images_are_those_of_diffusers(saved, sampler, prediction, schedule):
    address = saved(prediction_type=prediction, beta_schedule=schedule, clip_sample=False)
    if sampler == "heun":
        found = deviation(ours(address, "heun", "leading"), theirs_by_heun(address, "leading"))
        assert found < LIMIT, f"{found:.1e}"
    else:
        check(address, sampler, "trailing" if sampler == "dpmpp_2m" else "leading")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_clipped_images_are_those_of_diffusers(saved, sampler):
    call = {"use_clipped_model_output": True} if sampler == "ddim" else {}
    check(saved(clip_sample=True), sampler, "leading", call=call)


@pytest.mark.slow
def test_ddim_derives_the_noise_from_the_clipped_image(saved):
    """The one known difference of DDIM: diffusers' default keeps the noise of the image before it was clipped."""
    address = saved(clip_sample=True)
    assert deviation(ours(address, "ddim", "leading"), theirs(address, "ddim", "leading")) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_ddpm_adds_the_variance_that_its_scheduler_names(saved, variance):
    check(saved(variance_type=variance), "ddpm", "leading")


@pytest.mark.slow
def test_learned_variance(saved):
    check(saved({"out_channels": 6}, variance_type="learned_range"), "ddpm", "leading")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_zero_terminal_snr(saved, sampler, prediction):
    address = saved(
        prediction_type=prediction,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        beta_schedule="scaled_linear",
        clip_sample=False,
    )
    check(address, sampler, "trailing", settings={"variance": "small"} if sampler == "ddpm" else {})


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m"])
def test_dynamic_thresholding(saved, sampler, capsys):
    address = saved(thresholding=True, sample_max_value=1000.0)
    call = {"use_clipped_model_output": True} if sampler == "ddim" else {}
    spacing = "trailing" if sampler == "dpmpp_2m" else "leading"
    check(address, sampler, spacing, {"thresholding": "dynamic"}, call=call)
    assert "dynamic thresholding" in capsys.readouterr().out


@pytest.mark.slow
def test_thresholding_with_a_largest_value_of_1_is_clipping(saved):
    check(saved(thresholding=True, sample_max_value=1.0), "dpmpp_2m", "trailing")


@pytest.mark.slow
def test_betas_of_its_own(saved):
    betas = torch.linspace(0.001, 0.05, 40).tolist()
    check(saved(trained_betas=betas, num_train_timesteps=40), "ddpm", "leading")


@pytest.mark.slow
def test_a_saved_model_draws_the_same_by_default(saved, tmp_path):
    address = saved(variance_type="fixed_large", clip_sample=False, timestep_spacing="linspace")
    model = load(address)
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.sampling == model.sampling
    assert again.codec.value_range is None
    settings = {"num_images": 2, "steps": 4, "sampler": "ddpm", "seed": SEED}
    assert torch.equal(again.sample(**settings), model.sample(**settings))
    explicit = model.sample(**settings, spacing="linspace", variance="large", thresholding="none")
    assert torch.equal(explicit, model.sample(**settings))
