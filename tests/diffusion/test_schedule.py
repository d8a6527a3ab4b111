from __future__ import annotations

import pytest
import torch

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.noise_levels import Transitions
from latentdiff.diffusion.schedule import (
    ALPHA_BARS,
    SPACINGS,
    DiscreteSchedule,
    build_schedule,
    discrete_alpha_bar,
)

PROCESSES = {
    "discrete": DiffusionConfig(),
    "continuous": DiffusionConfig(num_train_steps=None),
    "terminal": DiffusionConfig(zero_terminal_snr=True),
    "continuous terminal": DiffusionConfig(num_train_steps=None, zero_terminal_snr=True),
    "edm": DiffusionConfig(schedule="edm", target="edm"),
    "ve": DiffusionConfig(schedule="ve", target="score"),
}


@pytest.mark.parametrize("name", list(ALPHA_BARS))
@pytest.mark.parametrize("steps", [200, 500, 1000])
def test_schedules_fall_from_clean_to_noise(name, steps):
    alpha_bar = discrete_alpha_bar(name, steps)
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar[0] > 0.99
    assert alpha_bar[-1] < 1e-2
    levels = build_schedule(DiffusionConfig(schedule=name, num_train_steps=steps)).levels(torch.arange(steps))
    torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(steps, dtype=torch.float64))


def test_linear_schedule_is_ddpms_and_scaled_linear_is_stable_diffusions():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(discrete_alpha_bar("linear", 1000), (1 - betas).cumprod(0))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    torch.testing.assert_close(discrete_alpha_bar("scaled_linear", 1000), (1 - betas).cumprod(0))


@pytest.mark.parametrize("name", list(ALPHA_BARS))
def test_many_discrete_steps_tend_to_continuous_time(name):
    steps = 20_000
    discrete = discrete_alpha_bar(name, steps)[: int(0.98 * steps)]
    times = (torch.arange(len(discrete), dtype=torch.float64) + 1) / steps
    torch.testing.assert_close(discrete, ALPHA_BARS[name](times), rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("process", [name for name in PROCESSES if "terminal" in name])
def test_zero_terminal_snr_ends_in_nothing_but_noise_and_starts_where_it_did(process):
    config = PROCESSES[process]
    schedule = build_schedule(config)
    levels = schedule.levels(torch.tensor([0.0, schedule.last_position]))
    plain = build_schedule(DiffusionConfig(**{**vars(config), "zero_terminal_snr": False}))
    assert levels.alpha[1] == 0.0
    assert levels.sigma[1] == 1.0
    torch.testing.assert_close(levels.alpha[0], plain.levels(torch.tensor([0.0])).alpha[0])


@pytest.mark.parametrize("process", list(PROCESSES))
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_sampling_falls_strictly_to_the_clean_image(process, spacing, steps):
    schedule = build_schedule(PROCESSES[process])
    if spacing == "karras" and "terminal" in process:
        with pytest.raises(ValueError, match="zero_terminal_snr"):
            schedule.sampling_levels(steps, spacing)
        return
    levels = schedule.sampling_levels(steps, spacing)
    assert len(levels) == steps + 1
    assert (levels.sigma.diff() < 0).all()
    assert (levels.alpha[-1], levels.sigma[-1]) == (1.0, 0.0)
    if spacing != "leading":
        assert levels.sigma[0] == pytest.approx(float(schedule.levels(torch.tensor([schedule.last_position])).sigma[0]))


@pytest.mark.parametrize("rho", [0.1, 1.0, 3.0, None, 1000])
def test_karras_spacing_is_even_in_the_root_that_rho_names(rho):
    low, high, steps = 0.01, 50.0, 6
    schedule = build_schedule(DiffusionConfig(schedule="ve", target="eps", sigma_min=low, sigma_max=high))
    levels = schedule.sampling_levels(steps, "karras", rho)
    rho = rho or 7.0
    # Karras et al. 2022, equation 5.
    ends = [sigma ** (1 / rho) for sigma in (high, low)]
    shares = [i / (steps - 1) for i in range(steps)]
    exact = [((1 - share) * ends[0] + share * ends[1]) ** rho for share in shares]
    assert levels.sigma.tolist() == pytest.approx([*exact, 0.0], rel=1e-9)
    assert (levels.sigma.diff() < 0).all()
    # Where the variance is kept, the same holds of noise over signal.
    roots = build_schedule(DiffusionConfig()).sampling_levels(steps, "karras", rho).karras_sigma[:-1] ** (1 / rho)
    torch.testing.assert_close(roots.diff() / (roots[-1] - roots[0]), torch.full((5,), 0.2).double())


@pytest.mark.parametrize(
    ("spacing", "rho", "message"),
    [
        (None, 7.0, "rho belongs to the karras spacing, not to trailing"),
        ("quadratic", 3.0, "not to quadratic"),
        ("karras", 0.0, "rho must be from 0.1 to 1000, not 0.0"),
        ("karras", -7.0, "not -7.0"),
        ("karras", float("nan"), "not nan"),
    ],
)
def test_a_rho_that_cannot_be_is_refused(spacing, rho, message):
    with pytest.raises(ValueError, match=message):
        build_schedule(DiffusionConfig()).sampling_levels(4, spacing, rho)


@pytest.mark.parametrize("process", list(PROCESSES))
def test_a_level_is_found_again_by_its_ratio(process):
    schedule = build_schedule(PROCESSES[process])
    levels = schedule.levels(torch.linspace(0.0, 0.97, 9, dtype=torch.float64) * schedule.last_position)
    found = schedule.levels_at_sigma(levels.karras_sigma)
    for ours, theirs in ((found.time, levels.time), (found.alpha, levels.alpha), (found.sigma, levels.sigma)):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_training_meets_every_discrete_step_alike():
    schedule = build_schedule(DiffusionConfig(num_train_steps=50))
    times = schedule.training_levels(torch.arange(500) / 500).time
    assert torch.equal(times.long().bincount(), torch.full((50,), 10))


def test_edm_trains_on_log_normal_sigmas_and_ve_on_uniform_logs():
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    logs = build_schedule(DiffusionConfig(schedule="edm", target="edm")).training_levels(uniform).sigma.log()
    assert (float(logs.mean()), float(logs.std())) == (pytest.approx(-1.2, abs=1e-3), pytest.approx(1.2, abs=1e-3))
    logs = (
        build_schedule(DiffusionConfig(schedule="ve", sigma_min=0.01, sigma_max=50))
        .training_levels(uniform)
        .sigma.log()
    )
    torch.testing.assert_close(logs.diff(), torch.full((9999,), float(torch.tensor(5000.0).log()) / 10_000).double())


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        DiscreteSchedule(discrete_alpha_bar("cosine", 1000)).sampling_levels(steps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "edm", "zero_terminal_snr": True}, "zero_terminal_snr is for"),
        ({"schedule": "ve", "sigma_min": 2.0, "sigma_max": 1.0}, "must rise"),
        ({"num_train_steps": 1}, "a whole number from 2 to 100,000"),
    ],
)
def test_contradicting_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_schedule(DiffusionConfig(**settings))


def test_transitions_are_the_textbook_posterior_and_a_learned_variance_lies_between():
    """Ho et al. 2020, equations 6 and 7, written in betas."""
    alpha_bar = discrete_alpha_bar("linear", 1000)
    steps = Transitions.from_levels(DiscreteSchedule(alpha_bar).sampling_levels(1000))
    now, before = alpha_bar[999], alpha_bar[998]
    beta = 1 - now / before
    torch.testing.assert_close(steps.beta[0], beta)
    torch.testing.assert_close(steps.posterior_variance[0], beta * (1 - before) / (1 - now))
    torch.testing.assert_close(steps.posterior_mean_coef1[0], before.sqrt() * beta / (1 - now))
    torch.testing.assert_close(steps.posterior_mean_coef2[0], (now / before).sqrt() * (1 - before) / (1 - now))
    fractions = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    low, middle, high = steps.log_variance(fractions, 0).exp()
    torch.testing.assert_close((low, high), (steps.posterior_variance[0], steps.beta[0]))
    torch.testing.assert_close(middle, (low * high).sqrt())
    assert torch.isfinite(steps.log_variance(fractions, 999)).all()


@pytest.mark.parametrize("terminal", [False, True])
def test_between_two_steps_the_noise_lies_between_theirs(terminal):
    schedule = build_schedule(DiffusionConfig(zero_terminal_snr=terminal))
    for step in (0, 500, 998):
        below, between, above = schedule.levels(torch.tensor([step, step + 0.4, step + 1.0], dtype=torch.float64)).sigma
        assert below < between < above


def test_given_betas_are_taken_as_they_are():
    config = DiffusionConfig(schedule="linear", num_train_steps=500, beta_range=(1e-4, 0.02))
    betas = torch.linspace(1e-4, 0.02, 500, dtype=torch.float64)
    torch.testing.assert_close(build_schedule(config).alpha_bar, (1 - betas).cumprod(0))
    own = DiffusionConfig(schedule="linear", num_train_steps=1000, beta_range=(1e-4, 0.02))
    torch.testing.assert_close(
        build_schedule(own).alpha_bar, build_schedule(DiffusionConfig(schedule="linear")).alpha_bar
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosine"}, "not of cosine"),
        ({"schedule": "linear", "num_train_steps": None}, "not of linear in continuous time"),
        ({"schedule": "linear", "beta_range": (0.02, 1e-4)}, "must not fall"),
        ({"schedule": "linear", "beta_range": (0.0, 0.5)}, "above 0 and below 1"),
    ],
)
def test_betas_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        build_schedule(DiffusionConfig(**{"beta_range": (1e-4, 0.02), **settings}))
