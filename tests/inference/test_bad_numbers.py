"""Numbers that cannot be meant are refused in one line by all that samples, and so are weights that are not finite."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from latentdiff import evaluate, load_dataset
from latentdiff.codec import IdentityCodec
from latentdiff.config import DataConfig, DiffusionConfig, NetworkConfig, SamplingConfig
from latentdiff.errors import ConfigError, DivergenceError
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import generate, interpolate, invert
from latentdiff.inference.likelihood import bits_per_dim
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.noising import forward_process, reconstruct, reverse_process
from latentdiff.models.network import build_network

NAN, INF = math.nan, math.inf
NOT_WHOLE = (NAN, INF, -INF, 2.5, "many", True, -1, 10**13)
IMAGES = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    diffusion = DiffusionConfig(num_train_steps=20)
    return DiffusionModel(build_network(1, 2, config), config, diffusion, IdentityCodec((1, 8, 8)), ("a", "b"))


def test_another_default_of_torch_is_refused_with_the_remedy(model):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ConfigError, match=r"default is torch\.float64 here: .* sets it back"):
            model.sample(1, steps=1)
    finally:
        torch.set_default_dtype(torch.float32)


def refuse(call, name, values):
    """Every value is refused, by the name of what it was given for, in one line."""
    taken = []
    for value in values:
        try:
            call(**{name: value})
        except ConfigError as error:
            message = str(error)
        else:
            taken.append(value)
            continue
        assert len(message.splitlines()) == 1, message
    assert not taken, f"{name} takes {taken}"


SAMPLE = {
    "num_images": (*NOT_WHOLE, 0, None),
    "steps": (*NOT_WHOLE, 0, None),
    "guidance_scale": (NAN, INF, -INF, "much", True, None),
    "seed": NOT_WHOLE,
    "rho": (NAN, INF, -1, 0, "x"),
    "guidance_interval": ((NAN, 1), (0, NAN), (1, 0), (-1, 1), (0.5,), 3, "x"),
    "eta": (NAN, INF, -0.1, 1.1, "x"),
    "churn": (NAN, INF, -1, "x"),
    "churn_min": (NAN, -1, "x"),
    "churn_max": (NAN, -1, "x"),
    "churn_noise": (NAN, INF, -1, "x"),
    "corrector_steps": NOT_WHOLE,
    "corrector_snr": (NAN, INF, -1, "x"),
    "batch_size": (*NOT_WHOLE, 0, None),
    "labels": (3.7, True, NAN, [0.5], 2, -1),
}
SAMPLER_OF = {"eta": "ddim", "corrector_steps": "predictor_corrector", "corrector_snr": "predictor_corrector"}


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(model, name):
    sampler = SAMPLER_OF.get(name, "heun" if "churn" in name else "dpmpp_2m")
    usual = {"num_images": 1, "steps": 2, "sampler": sampler, "guidance_scale": 1.5, "labels": 0}
    usual |= {"spacing": "karras"} if name == "rho" else {}
    usual |= {"churn": 1.0} if name.startswith("churn_") else {}
    refuse(lambda **given: model.sample(**{**usual, **given}), name, SAMPLE[name])


@pytest.mark.parametrize(
    ("call", "name", "values"),
    [
        (lambda m, **k: inpaint(m, IMAGES, torch.ones(8, 8), **k), "steps", (*NOT_WHOLE, 0)),
        (lambda m, **k: inpaint(m, IMAGES, torch.ones(8, 8), **k), "resamples", (*NOT_WHOLE[:-1], 0)),
        (lambda m, **k: inpaint(m, IMAGES, torch.ones(8, 8), **k), "seed", NOT_WHOLE),
        (lambda m, **k: invert(m, IMAGES, **k), "steps", (*NOT_WHOLE, 0, None)),
        (lambda m, **k: generate(m, torch.zeros(1, 1, 8, 8), **k), "steps", (*NOT_WHOLE, 0, None)),
        (lambda m, **k: interpolate(m, IMAGES, IMAGES, **k), "count", (*NOT_WHOLE[:-1], 0, 1)),
        (lambda m, **k: interpolate(m, IMAGES, IMAGES, 2, **k), "steps", (*NOT_WHOLE, 0, None)),
        (lambda m, **k: bits_per_dim(m, IMAGES, **k), "steps", (*NOT_WHOLE, 0)),
        (lambda m, **k: bits_per_dim(m, IMAGES, method="ode", **k), "steps", (*NOT_WHOLE, 0)),
        (lambda m, **k: bits_per_dim(m, IMAGES, **k), "seed", NOT_WHOLE),
        (lambda m, **k: bits_per_dim(m, IMAGES, **k), "first", NOT_WHOLE),
        (lambda m, **k: forward_process(m, IMAGES, [0.5], **k), "seed", NOT_WHOLE),
        (lambda m, **k: forward_process(m, IMAGES, **k), "strengths", ([NAN], [INF], [-0.1], [1.1], ["x"], [True])),
        (lambda m, **k: reconstruct(m, IMAGES, **k), "strengths", ([NAN], [INF], [-0.1], [1.1], ["x"], [True])),
        (lambda m, **k: reconstruct(m, IMAGES, [0.5], **k), "steps", (*NOT_WHOLE, 0)),
        (lambda m, **k: reverse_process(m, 1, **k), "frames", (*NOT_WHOLE, 0, 1)),
    ],
)
def test_what_is_done_with_images(model, call, name, values):
    refuse(partial(call, model), name, values)


@pytest.mark.parametrize(
    "name", ["num_images", "real_images", "kid_subsets", "kid_subset_size", "seed", "batch_size", "steps"]
)
def test_evaluate(name):
    data = load_dataset(DataConfig(source="embedded", max_train_images=32))

    def call(**given):
        own = {key: value for key, value in given.items() if key in SAMPLE and key != "num_images"}
        evaluate("noise", data, sampling=SamplingConfig(**own) if own else None, **({} if own else given))

    refuse(call, name, (*NOT_WHOLE, *(() if name == "seed" else (0,))))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_that_are_not_finite_draw_nothing(model, value):
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[3] = value
    calls = [
        lambda: model.sample(2, steps=2),
        lambda: invert(model, IMAGES, steps=2),
        lambda: inpaint(model, IMAGES, torch.ones(8, 8), steps=2),
        lambda: bits_per_dim(model, IMAGES, steps=2),
    ]
    for call in calls:
        with pytest.raises(
            DivergenceError, match=r"^the weights of the model are NaN or infinite \(.*\): its training"
        ):
            call()


def test_samples_that_are_not_finite_are_not_shown(model):
    with torch.no_grad():
        model.network.head.bias.fill_(3e38)  # finite, and too large for what follows
    with pytest.raises(
        DivergenceError, match=r"^samples hold NaN or infinity: dpmpp_2m diverges in 2 steps\. Use more"
    ):
        model.sample(1, steps=2, guidance_scale=1000.0, labels=0, thresholding="none")


def test_noise_that_is_not_finite_becomes_no_image(model):
    with pytest.raises(DivergenceError, match="samples hold NaN or infinity"):
        generate(model, torch.full((1, 1, 8, 8), NAN), steps=2)
