"""The proofs of ``stages.verify``, and that each of them can fail."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys

import pytest
import torch

from latentdiff.config import DiffusionConfig
from latentdiff.config.tool_stages import VerifyStage
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import VTarget
from latentdiff.verify import (
    closed_form,
    invariants,
    run_proofs,
    sample_distribution,
    samplers_against_diffusers,
    schedules_against_diffusers,
    targets,
)
from latentdiff.verify.check import Check, max_or_nan


def failures(checks):
    return [f"{check.name}: {check.value} (limit {check.limit})" for check in checks if not check.passed]


# Of the distribution the default tests take the samplers of few steps, and the harder data.
FEW_STEPS = {name: each for name, each in sample_distribution.SAMPLERS_AND_STEPS.items() if each.steps <= 100}
QUICK = {
    sample_distribution.check_distribution: {
        "settings_by_name": FEW_STEPS,
        "distributions": {"two modes": closed_form.TWO_MODES},
    }
}
SLOW = (closed_form.check_variational_bound, invariants.check_determinism)


@pytest.mark.parametrize(
    "proof",
    [pytest.param(proof, marks=[pytest.mark.slow] if proof in SLOW else []) for proof in run_proofs.PROOFS],
    ids=lambda proof: proof.__name__,
)
def test_proof_holds(proof):
    checks = proof(**QUICK.get(proof, {}))
    assert len(checks) > 1
    assert not failures(checks)


@pytest.mark.slow
def test_every_sampler_draws_from_the_datas_distribution():
    assert not failures(sample_distribution.check_distribution())


def test_schedules_spacings_and_states_are_those_of_diffusers():
    pytest.importorskip("diffusers")
    assert not failures(schedules_against_diffusers.check_schedules((10, 50)))
    assert not failures(samplers_against_diffusers.check_spacings((10, 50)))
    checks = samplers_against_diffusers.check_states((20,))
    assert not failures(checks)
    assert {check.name.rpartition(",")[0] for check in checks if check.value is not None} == set(
        samplers_against_diffusers.VARIANTS
    )


@pytest.mark.parametrize("steps", samplers_against_diffusers.STEPS)
def test_heuns_default_is_left_out_only_where_it_disagrees(steps):
    pytest.importorskip("diffusers")
    for schedule, spacing in itertools.product(
        samplers_against_diffusers.STEEP_SCHEDULES, samplers_against_diffusers.STEEP_SPACINGS
    ):
        assert samplers_against_diffusers.max_deviation("heun", schedule, "eps", spacing, steps, torch.float64) > 0.1


def test_another_schedule_is_caught(monkeypatch):
    """Of betas that are linear where diffusers' square roots are."""
    pytest.importorskip("diffusers")
    named_schedule = schedules_against_diffusers.named_schedule
    monkeypatch.setattr(
        schedules_against_diffusers,
        "named_schedule",
        lambda name: named_schedule("linear" if name == "scaled_linear" else name),
    )
    failed = {check.name for check in schedules_against_diffusers.check_schedules((10,)) if not check.passed}
    assert failed == {"alpha_bar, scaled_linear", "alpha_bar, scaled_linear, zero terminal SNR"}


def test_without_diffusers_the_record_says_that_nothing_was_compared(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setattr(run_proofs, "PROOFS", (invariants.check_guidance,))
    folder = tmp_path / "verify"
    threads = torch.get_num_threads()
    assert run_proofs.run_proofs(VerifyStage(folder=str(folder)))
    (folder / "notes.txt").write_text("of somebody")
    # A later record takes an earlier one's place, and nothing else's.
    (folder / "verify.json").write_text("an earlier record")
    assert run_proofs.run_proofs(VerifyStage(folder=str(folder)))
    assert {path.name for path in folder.iterdir()} >= {"verify.json", "notes.txt"}
    torch.set_num_threads(threads)
    (left_out,) = [
        check
        for check in json.loads((folder / "verify.json").read_text())["checks"]
        if check["section"] == "as in diffusers"
    ]
    assert left_out["value"] is None
    assert "diffusers is not installed" in left_out["note"]
    assert left_out["note"] in capsys.readouterr().out


def with_error(sampler):
    """A sampler with an error of a thousandth after each step."""

    def run(*args, **options):
        for state in sampler(*args, **options):
            yield type(state)(state.step, 1.001 * state.x, state.pred_x0, state.level)

    return run


def test_a_wrong_sampler_is_caught(monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setitem(SAMPLERS, "dpmpp_2m", with_error(SAMPLERS["dpmpp_2m"]))
    assert samplers_against_diffusers.max_deviation("dpmpp_2m", "cosine", "v", "trailing", 10, torch.float64) > 1e-4


def test_heuns_step_from_nearly_pure_noise_is_caught_where_it_is_not_eulers(monkeypatch):
    heun = SAMPLERS["heun"]
    monkeypatch.setitem(SAMPLERS, "heun", lambda *args: heun(*args, max_sigma_ratio=math.inf))
    assert [check.name for check in closed_form.check_own_spacing() if not check.passed] == ["heun"]


def test_a_first_order_sampler_does_not_pass_for_a_second_order_one():
    schedule = build_schedule(closed_form.PROCESSES["variance-preserving"])
    assert closed_form.convergence_order("ddim", closed_form.GAUSSIAN, schedule)[0] < closed_form.ORDERS["heun"]


def test_the_reference_of_the_orders_is_the_odes_closed_form():
    """For Gaussian data the probability-flow ODE moves along the covariance's axes, keeping each one's quantile."""
    schedule, data = build_schedule(closed_form.PROCESSES["variance-preserving"]), closed_form.GAUSSIAN
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    high, low = (float(r) for r in closed_form.noisy_levels(schedule, 1).karras_sigma)
    values, axes = torch.linalg.eigh(data.covs[0])
    projected = (high * x - data.mean) @ axes * ((values + low**2) / (values + high**2)).sqrt()
    torch.testing.assert_close(
        closed_form.solve_ode("unipc", data, schedule, 2048, x), data.mean + projected @ axes.T, rtol=0, atol=1e-7
    )


def test_a_biased_distribution_is_caught():
    data = closed_form.TWO_MODES
    samples = data.sample(4000, torch.Generator().manual_seed(0))
    assert sample_distribution.moment_error(samples, data) < 4
    assert sample_distribution.moment_error(samples + 0.1, data) > 4
    assert sample_distribution.moment_error(1.1 * samples, data) > 4


def test_every_sampler_is_held_to_the_distribution():
    assert {run.sampler for run in sample_distribution.SAMPLERS_AND_STEPS.values()} == set(SAMPLERS)


def test_a_sampler_that_converges_to_something_else_is_caught(monkeypatch):
    """Of second order as before, and wrong: the order alone, measured against the sampler's own end, is no proof."""
    unipc = SAMPLERS["unipc"]
    monkeypatch.setitem(SAMPLERS, "unipc", lambda denoiser, *rest: unipc(lambda x, at: 1.1 * denoiser(x, at), *rest))
    checks = sample_distribution.check_distribution({"unipc": sample_distribution.SAMPLERS_AND_STEPS["unipc"]})
    assert not any(check.passed for check in checks)


def test_the_exact_denoiser_is_bayes():
    """Against brute force: E[x0 | x] as the weighted mean of many samples."""
    data, level = closed_form.TWO_MODES, build_schedule(DiffusionConfig()).levels(torch.tensor(500))
    x0 = data.sample(400_000, torch.Generator().manual_seed(0))
    x = torch.tensor([[0.4, 0.1]], dtype=torch.float64)
    weight = torch.softmax(-0.5 * ((x - level.alpha * x0) / level.sigma).square().sum(1), dim=0)
    torch.testing.assert_close(data(x, level), (weight[:, None] * x0).sum(0, keepdim=True), rtol=0, atol=5e-3)


def test_a_loss_with_another_minimum_is_caught(monkeypatch):
    loss = targets.diffusion_loss
    monkeypatch.setattr(targets, "diffusion_loss", lambda output, *rest: loss(output + 1.0, *rest))
    failed = {check.name for check in targets.check_targets() if not check.passed}
    assert failed == {
        f"{target}: {what}"
        for target in targets.TARGETS
        for what in ("loss at the exact output", "other outputs of no larger loss", "loss by the error of x0")
    }


def test_an_error_without_a_loss_is_caught(monkeypatch):
    """Of a weight that leaves out the noisiest level alone."""

    def loss(output, x0, noise, levels, target, config):
        counted = torch.where(levels.karras_sigma < levels.karras_sigma.max(), 1.0, 0.0).float().reshape(-1, 1, 1, 1)
        return (counted * (output - target.training_target(x0, noise, levels)).square()).mean()

    monkeypatch.setattr(targets, "diffusion_loss", loss)
    failed = {check.name for check in targets.check_targets() if not check.passed}
    assert failed == {
        f"{target}: {what}"
        for target in targets.TARGETS
        for what in ("other outputs of no larger loss", "loss by the error of x0")
    }


def test_a_weight_that_is_not_the_papers_is_caught(monkeypatch):
    monkeypatch.setattr(VTarget, "error_scale", lambda self, snr: torch.full_like(snr, 3.0))
    assert [check.name for check in targets.check_targets() if not check.passed] == ["v: loss by the error of x0"]


def test_a_target_that_is_not_the_output_it_asks_for_is_caught(monkeypatch):
    unchanged = VTarget.training_target
    monkeypatch.setattr(VTarget, "training_target", lambda *args: 1.001 * unchanged(*args))
    assert [check.name for check in targets.check_targets() if not check.passed] == [
        "v: x0 from the exact output",
        "v: loss by the error of x0",
    ]


def test_noise_that_depends_on_the_place_in_the_batch_is_caught(monkeypatch):
    monkeypatch.setattr(
        "latentdiff.inference.model.PerImageNoise",
        lambda seed, indices, *rest: PerImageNoise(seed, range(len(indices)), *rest),
    )
    assert not any(check.passed for check in invariants.check_determinism({"ddim": ("ddim", {})}))


def test_every_sampler_is_held_to_determinism():
    assert {sampler for sampler, _ in invariants.SAMPLER_OPTIONS.values()} == set(SAMPLERS)
    assert set(invariants.BATCHES) == {1, 3, 64}
    assert len(invariants.BATCHES[64]) > 64


def test_a_case_that_cannot_be_compared_does_not_fail():
    assert Check(section="", name="", value=None, limit=0.0).passed
    assert not Check(section="", name="", value=float("nan"), limit=1.0).passed


def test_nan_does_not_slip_through_a_maximum():
    assert math.isnan(max_or_nan([1.0, float("nan"), 2.0]))
    assert max_or_nan([1.0, 2.0]) == 2.0


def test_a_sampler_that_gives_nan_fails_on_each_schedules_own_levels(monkeypatch):
    heun, calls = SAMPLERS["heun"], []

    def sometimes_nan(*args, **options):
        calls.append(1)
        for state in heun(*args, **options):
            yield dataclasses.replace(state, x=state.x * (math.nan if len(calls) == 2 else 1.0))

    monkeypatch.setitem(SAMPLERS, "heun", sometimes_nan)
    assert [check.name for check in closed_form.check_own_spacing() if not check.passed] == ["heun"]
