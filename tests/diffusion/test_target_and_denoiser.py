from __future__ import annotations

import pytest
import torch

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import Guidance, NetworkDenoiser
from latentdiff.diffusion.noise_levels import add_noise
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import TARGETS, build_target, loss_weight

LEVEL = build_schedule(DiffusionConfig()).levels(torch.tensor(500))
X0 = TARGETS["x0"]()


@pytest.mark.parametrize("name", ["min_snr", "truncated_snr", "edm"])
@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_weights_given_on_x0_weigh_its_error_alike_for_every_target(name, sigma_data):
    """The same wrong x0, put as each target's output, must cost the same (Hang et al. 2023, section 3.4)."""
    levels = build_schedule(DiffusionConfig()).levels(torch.tensor([10, 400, 900]))
    x0, noise = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.randn(3, 1, 2, 2, dtype=torch.float64)
    x, wrong = add_noise(x0, noise, levels), x0 + 0.1
    at, losses = levels.append_dims(x0), {}
    for target_name in TARGETS:
        config = DiffusionConfig(target=target_name, loss_weight=name, sigma_data=sigma_data)
        target = build_target(config)
        output = target.training_target(wrong, (x - at.alpha * wrong) / at.sigma, levels)
        error = (output - target.training_target(x0, noise, levels)).square().flatten(1).mean(1)
        losses[target_name] = loss_weight(config, target, levels.snr) * error
    expected = {
        "min_snr": levels.snr.clamp(max=5.0),
        "truncated_snr": levels.snr.clamp(min=1.0),
        "edm": levels.snr + 1 / sigma_data**2,
    }
    for loss in losses.values():
        torch.testing.assert_close(loss, 0.01 * expected[name])


def test_edm_shows_the_network_unit_variance_and_asks_for_it():
    config = DiffusionConfig(schedule="edm", target="edm", sigma_data=0.5, loss_weight="edm")
    schedule, target = build_schedule(config), build_target(config)
    for sigma in (0.01, 0.5, 40.0):
        levels = schedule.levels_at_sigma(torch.full((20_000,), sigma))
        x0 = 0.5 * torch.randn(20_000, 1, dtype=torch.float64)
        noise = torch.randn(20_000, 1, dtype=torch.float64)
        shown = target.scale_input(add_noise(x0, noise, levels), levels)
        assert float(shown.std()) == pytest.approx(1.0, abs=0.03)
        assert float(target.training_target(x0, noise, levels).std()) == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(loss_weight(config, target, torch.tensor([1.0])), torch.ones(1))


def test_network_sees_x_itself_where_the_process_keeps_the_variance():
    x = torch.randn(4, 1, 2, 2)
    levels = build_schedule(DiffusionConfig()).levels(torch.tensor([0, 300, 700, 999]))
    assert torch.equal(build_target(DiffusionConfig()).scale_input(x, levels), x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "eps", "zero_terminal_snr": True}, "eps target does not go with zero_terminal_snr"),
        ({"target": "score", "zero_terminal_snr": True}, "score target does not go with zero_terminal_snr"),
        ({"target": "v", "schedule": "edm"}, "v target needs a variance-preserving schedule"),
        ({"sigma_data": 0.0}, "sigma_data must be a number above 0"),
    ],
)
def test_targets_that_do_not_go_with_the_schedule_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_target(DiffusionConfig(**settings))


class Counting:
    """A network whose output is its class plus ``more``, which counts its passes."""

    def __init__(self, more: float = 0.0):
        self.passes, self.images, self.more = 0, 0, more

    def __call__(self, x, time, labels):
        self.passes += 1
        self.images += len(x)
        return labels.to(x.dtype)[:, None].expand_as(x) + self.more


def test_guidance_of_one_costs_one_pass_and_others_one_doubled_pass():
    x, labels = torch.zeros(2, 3), torch.tensor([1, 2])
    for scale, images, expected in ((1.0, 2, labels), (0.0, 2, [9, 9]), (3.0, 4, [9 + 3 * (1 - 9), 9 + 3 * (2 - 9)])):
        network = Counting()
        guidance = Guidance(scale=scale)
        x0 = NetworkDenoiser(network=network, target=X0, labels=labels, null_label=9, guidance=guidance)(x, LEVEL)
        assert (network.passes, network.images) == (1, images)
        torch.testing.assert_close(x0[:, 0], torch.as_tensor(expected, dtype=x0.dtype))


def test_guidance_keeps_to_its_interval():
    labels, ratio = torch.tensor([1]), float(LEVEL.karras_sigma)
    for interval, passes in (((0.0, ratio * 0.9), 1), ((ratio * 0.9, ratio * 1.1), 2), ((ratio * 1.1, 1e9), 1)):
        network, guidance = Counting(), Guidance(scale=2.0, interval=interval)
        NetworkDenoiser(network=network, target=X0, labels=labels, null_label=9, guidance=guidance)(
            torch.zeros(1, 3), LEVEL
        )
        assert network.images == passes


def test_autoguidance_leads_away_from_the_weaker_network():
    strong, weak = Counting(), Counting(more=1.0)
    guidance = Guidance(scale=3.0, guide=weak)
    x0 = NetworkDenoiser(network=strong, target=X0, labels=torch.tensor([5]), guidance=guidance)(
        torch.zeros(1, 3), LEVEL
    )
    assert (strong.passes, weak.passes) == (1, 1)
    torch.testing.assert_close(x0, torch.full((1, 3), 6.0 + 3.0 * (5.0 - 6.0)))


def test_guidance_without_classes_is_refused():
    with pytest.raises(ValueError, match="class-conditional"):
        NetworkDenoiser(network=Counting(), target=X0, guidance=Guidance(scale=2.0))


@pytest.mark.parametrize(
    ("thresholding", "expected"),
    # The quantile 0.995 of |x0| over (0.5, 7): linear between the two, 0.5 + 0.995 * 6.5.
    [("none", [0.5, -7.0]), ("static", [0.5, -1.0]), ("dynamic", [0.5 / 6.9675, -1.0])],
)
def test_thresholding_keeps_pixels_within_their_range(thresholding, expected):
    denoiser = NetworkDenoiser(
        network=lambda x, time, labels: torch.tensor([[0.5, -7.0]]),
        target=X0,
        value_range=(-1.0, 1.0),
        thresholding=thresholding,
    )
    torch.testing.assert_close(denoiser(torch.zeros(1, 2), LEVEL), torch.tensor([expected]))


def test_a_second_half_of_channels_is_the_variance():
    def network(x, time, labels):
        return torch.cat([x, torch.full_like(x, 0.3)], dim=1)

    x = torch.randn(2, 3, 4, 4)
    x0, fraction = NetworkDenoiser(network=network, target=X0).with_variance(x, LEVEL)
    assert torch.equal(x0, x)
    assert torch.equal(fraction, torch.full_like(x, 0.3))
