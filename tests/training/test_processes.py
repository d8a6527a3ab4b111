"""Every process and target trains and samples; a learned variance improves the bound."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.diffusion.likelihood import variational_bound
from latentdiff.diffusion.noise_levels import Transitions, add_noise
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.inference.request import SamplingRequest
from latentdiff.training.diffusion_module import DiffusionModule, VarianceLoss
from latentdiff.training.trainer import fit

NETWORK = NetworkConfig(channels=(16,), num_res_blocks=1, attention_levels=(), head_channels=8)
SETTINGS = TrainerConfig(
    max_images=2000, images_per_epoch=2000, batch_size=50, lr_warmup_images=100, accelerator="cpu", precision="fp32"
)
COMBINATIONS = [
    (schedule, target, steps, terminal)
    for schedule, target, steps, terminal in itertools.product(
        ("linear", "cosine", "edm", "ve"), ("eps", "x0", "v", "edm", "score"), (1000, None), (False, True)
    )
    if not (schedule in ("edm", "ve") and (target == "v" or terminal or steps))
    and not (terminal and (target in ("eps", "score") or schedule == "linear"))
]


def images(n=200):
    """Two kinds of plain images, dark and light, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(n) % 2
    noise = torch.randint(-8, 9, (n, 1, 6, 6), generator=generator)
    return (60 + 120 * kind[:, None, None, None] + noise).to(torch.uint8), kind


def module(diffusion, settings=SETTINGS):
    torch.manual_seed(0)
    return DiffusionModule(IdentityCodec((1, 6, 6)), 2, NETWORK, diffusion, settings)


def model(trained):
    return DiffusionModel(trained.ema.network, NETWORK, trained.diffusion, trained.codec, ("dark", "light"))


@pytest.mark.parametrize(("schedule", "target", "steps", "terminal"), COMBINATIONS)
def test_one_step_trains_and_sampling_works(schedule, target, steps, terminal):
    settings = {"num_train_steps": steps} if schedule not in ("edm", "ve") else {}
    config = DiffusionConfig(
        schedule=schedule,
        target=target,
        zero_terminal_snr=terminal,
        sigma_data=0.6,
        loss_weight="simple" if terminal else "min_snr",
        **settings,
    )
    trained = module(config)
    pixels, labels = images(50)
    trained.optimizers = trained.configure_optimizers
    trained.manual_backward = lambda loss: loss.backward()
    before = [parameter.clone() for parameter in trained.network.parameters()]
    losses = trained.train_batch((trained.codec.encode(pixels), labels))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.network.parameters(), strict=True))
    assert model(trained).sample(2, steps=3).shape == (2, 1, 6, 6)


@pytest.mark.parametrize(("schedule", "target"), [("cosine", "v"), ("edm", "edm"), ("ve", "edm")])
def test_trained_models_sample_the_class_asked_for(schedule, target, tmp_path):
    config = DiffusionConfig(schedule=schedule, target=target, sigma_data=0.6, loss_weight="min_snr", sigma_max=5.0)
    pixels, labels = images()
    own = module(config, dataclasses.replace(SETTINGS, max_images=5000, images_per_epoch=5000))
    trained = fit(own, (IdentityCodec((1, 6, 6)).encode(pixels), labels), tmp_path, [], resume=False)
    samples = model(trained).sample(20, steps=20, seed=1).float().mean(dim=(1, 2, 3))
    assert (samples[0::2] - 60).abs().mean() < 35
    assert (samples[1::2] - 180).abs().mean() < 35


def test_learned_variance_is_kept_by_the_file_and_improves_the_bound(tmp_path):
    config = DiffusionConfig(num_train_steps=50, learn_variance=True, variance_weight=0.01)
    pixels, labels = images()
    codec = IdentityCodec((1, 6, 6))
    trained = fit(module(config), (codec.encode(pixels), labels), tmp_path, [], resume=False)
    ours = model(trained)
    ours.save(tmp_path / "model.safetensors", {})
    ours = load(tmp_path / "model.safetensors")
    assert ours.sample(4, steps=5, sampler="ddpm").shape == (4, 1, 6, 6)
    levels, bounds = ours.schedule.sampling_levels(50), {}
    denoiser = ours.denoiser(SamplingRequest(num_images=50), labels[:50])
    x0 = codec.sample(codec.encode(pixels[:50]), noise=torch.zeros(50, 1, 6, 6))
    for variance in ("small", "large", "learned"):
        generator = torch.Generator().manual_seed(1)
        with torch.inference_mode():
            bound = variational_bound(
                denoiser, x0, levels, lambda g=generator: torch.randn(x0.shape, generator=g), variance, discretised=True
            )
        bounds[variance] = float(bound.total.mean())
    assert bounds["learned"] < min(bounds["small"], bounds["large"]) - 0.05


def test_the_bound_teaches_the_variance_and_not_the_mean():
    schedule = module(DiffusionConfig(learn_variance=True)).schedule
    loss = VarianceLoss(schedule, discretised=False)
    levels = schedule.training_levels(torch.tensor([0.0, 0.3, 0.9]))
    x0, noise = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    guess, fraction = (x0 + 0.1).requires_grad_(), torch.zeros(3, 1, 4, 4, requires_grad=True)
    loss(add_noise(x0, noise, levels), x0, guess, fraction, levels).backward()
    assert guess.grad is None
    assert (fraction.grad.abs().flatten(1).sum(1) > 0).all()


def test_a_learned_variance_needs_discrete_steps():
    with pytest.raises(ValueError, match="needs a discrete process"):
        module(DiffusionConfig(learn_variance=True, num_train_steps=None))


@pytest.mark.parametrize(
    ("diffusion", "network", "message"),
    [
        ({"zero_terminal_snr": True}, {}, "loss_weight min_snr with the v target gives the noisiest level .* weight 0"),
        ({"target": "eps", "loss_weight": "edm"}, {}, "loss_weight edm with the eps target"),
        ({}, {"time_embedding": "fourier"}, "fourier_scale 2.0 suits the times of edm and ve"),
    ],
)
def test_settings_that_would_not_learn_are_refused(diffusion, network, message):
    own = dataclasses.replace(NETWORK, **network)
    with pytest.raises(ValueError, match=message):
        DiffusionModule(IdentityCodec((1, 6, 6)), 2, own, DiffusionConfig(**diffusion), SETTINGS)


def test_batch_norm_is_refused_where_a_batch_is_computed_in_parts():
    def build(accumulate):
        own = dataclasses.replace(NETWORK, conditioning="batch_norm")
        settings = dataclasses.replace(SETTINGS, gradient_accumulation_steps=accumulate)
        return DiffusionModule(IdentityCodec((1, 6, 6)), 2, own, DiffusionConfig(), settings)

    assert build(1).network.conditioning == "batch_norm"
    with pytest.raises(
        ValueError, match=r"normalises over a whole batch.* use --trainer\.gradient_accumulation_steps 1"
    ):
        build(2)


def test_bound_of_a_single_step_is_finite():
    levels = module(DiffusionConfig(learn_variance=True)).schedule.sampling_levels(1)
    fraction = torch.zeros(2, 1)
    assert torch.isfinite(Transitions.from_levels(levels).log_variance(fraction, 0)).all()
