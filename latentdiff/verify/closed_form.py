"""The samplers' order and error, and the likelihood, on Gaussian mixtures, whose exact denoiser is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.likelihood import ode_bits_per_dim, variational_bound
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import Schedule, build_schedule
from latentdiff.verify.check import Check

ORDERS = {"ddim": 0.9, "euler": 0.9, "heun": 1.8, "dpmpp_2m": 1.8, "unipc": 1.8}
# Samplers of first order are allowed more.
OWN_SPACING_LIMITS = {"ddim": 0.2, "euler": 0.2}
STEPS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of Gaussians in d dimensions and its exact denoiser.

    Attributes (fp64):
        weights: [k], summing to 1.
        means: [k, d].
        covs: [k, d, d].
    """

    weights: Tensor
    means: Tensor
    covs: Tensor

    def __call__(self, x: Tensor, level: NoiseLevels) -> Tensor:
        """Return the mean E[x0 | x] [b, d] for x [b, d] = alpha x0 + sigma eps at one level."""
        alpha, sigma = float(level.alpha), float(level.sigma)
        noisy = alpha**2 * self.covs + sigma**2 * torch.eye(x.shape[1], dtype=x.dtype)
        difference = x[None] - alpha * self.means[:, None]  # k b d
        solved = torch.linalg.solve(noisy, difference.transpose(1, 2)).transpose(1, 2)
        density = -0.5 * ((difference * solved).sum(-1) + torch.logdet(noisy)[:, None])
        posterior = torch.softmax(self.weights.log()[:, None] + density, dim=0)
        means = self.means[:, None] + alpha * torch.einsum("kij,kbj->kbi", self.covs, solved)
        return (posterior[..., None] * means).sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """The mean [d]."""
        return self.weights @ self.means

    @property
    def cov(self) -> Tensor:
        """The covariance [d, d]."""
        difference = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covs + difference[:, :, None] * difference[:, None])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples [count, d]."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[which] + torch.einsum("bij,bj->bi", torch.linalg.cholesky(self.covs)[which], noise)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the natural logarithm of the density at x [n, d]: [n]."""
        each = torch.distributions.MultivariateNormal(self.means, self.covs).log_prob(x[:, None])
        return torch.logsumexp(self.weights.log() + each, dim=1)


GAUSSIAN = GaussianMixture(
    torch.ones(1, dtype=torch.float64),
    torch.tensor([[0.7, -0.3]], dtype=torch.float64),
    torch.tensor([[[0.6, 0.3], [0.3, 0.4]]], dtype=torch.float64),
)
TWO_MODES = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [0.8, -0.4]], dtype=torch.float64),
    torch.tensor([[[0.10, 0.02], [0.02, 0.05]], [[0.06, -0.02], [-0.02, 0.12]]], dtype=torch.float64),
)
DISTRIBUTIONS = {"Gaussian": GAUSSIAN, "two modes": TWO_MODES}
PROCESSES = {
    "variance-preserving": DiffusionConfig(schedule="linear", num_train_steps=None),
    "variance-exploding": DiffusionConfig(schedule="edm", target="edm", sigma_min=0.01),
}


def noisy_levels(schedule: Schedule, steps: int, low: float = 0.05, high: float = 80.0) -> NoiseLevels:
    """Return ``steps`` + 1 levels with sigma / alpha from ``high`` to ``low``, evenly spaced in its 7th root.

    No level is clean: the error of a jump to the clean image does not fall with the number of steps.
    """
    root = torch.linspace(high ** (1 / 7), low ** (1 / 7), steps + 1, dtype=torch.float64)
    return schedule.levels_at_sigma(root**7)


def solve_ode(sampler: str, data: GaussianMixture, schedule: Schedule, steps: int, x: Tensor) -> Tensor:
    """Solve the probability-flow ODE from x over :func:`noisy_levels` with ``sampler``; return the end as x / alpha."""
    levels = noisy_levels(schedule, steps)
    *_, last = SAMPLERS[sampler](data, x * float(levels.sigma[0]), levels, None)
    return last.x / float(last.level.alpha)


def convergence_order(sampler: str, data: GaussianMixture, schedule: Schedule) -> tuple[float, float]:
    """Measure a sampler's order: minus the slope of log(error) over log(steps), by least squares.

    The reference is UniPC in 2,048 steps, whose own error is far below the measured errors (see the tests).

    Returns:
        The order, and the error at the most steps.
    """
    x, reference = _ode_solution(data, schedule)
    errors = [
        (solve_ode(sampler, data, schedule, steps, x) - reference).square().mean().sqrt().item() for steps in STEPS
    ]
    logs = torch.tensor([[math.log(n), math.log(e)] for n, e in zip(STEPS, errors, strict=True)], dtype=torch.float64)
    logs = logs - logs.mean(dim=0)
    return -float((logs[:, 0] * logs[:, 1]).sum() / logs[:, 0].square().sum()), errors[-1]


@cache
def _ode_solution(data: GaussianMixture, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return starting points of unit variance, and the ends that the probability-flow ODE carries them to."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, solve_ode("unipc", data, schedule, 2048, x)


def check_orders() -> list[Check]:
    """Measure the order of every deterministic sampler, on both processes and both distributions of data.

    Both processes are followed over the same sigma / alpha, in which they are the same ODE. Their results agree to ten
    digits: a sampler depends on alpha in no other way. It is no second measurement of the order. Each process's own
    levels would give one, but their first steps are larger: over an even log(sigma) dpmpp_2m has 1.797 in these numbers
    of steps.
    """
    checks = []
    for process, config in PROCESSES.items():
        schedule = build_schedule(config)
        for name, data in DISTRIBUTIONS.items():
            for sampler, limit in ORDERS.items():
                value, error = convergence_order(sampler, data, schedule)
                note = f"error at {STEPS[-1]} steps {error:.1e}"
                label = f"{sampler}, {process}, {name}"
                checks.append(Check(section="order", name=label, value=value, limit=limit, at_least=True, note=note))
    return checks


def check_own_spacing() -> list[Check]:
    """Measure the error of the default settings: 20 steps over each schedule's own levels, on isotropic Gaussian data.

    Here a sampler starts at a schedule's first level, with sigma / alpha near 20,000 for the cosine. The orders leave
    this level out.
    """
    mean, std = 0.3, 0.5
    data = GaussianMixture(
        torch.ones(1).double(), torch.full((1, 2), mean).double(), std**2 * torch.eye(2).double()[None]
    )
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    worst: dict[str, tuple[float, str]] = {}
    for process in ("linear", "scaled_linear", "cosine", "sigmoid", "edm"):
        continuous = DiffusionConfig(schedule=process, target="edm", num_train_steps=None)
        for config in (continuous, *([] if process == "edm" else [replace(continuous, num_train_steps=1000)])):
            levels = build_schedule(config).sampling_levels(20)
            alpha, sigma = float(levels.alpha[0]), float(levels.sigma[0])
            # The probability-flow ODE of Gaussian data keeps every point's quantile.
            reference = mean + std * (x * sigma - alpha * mean) / math.sqrt((alpha * std) ** 2 + sigma**2)
            for sampler in ORDERS:
                *_, last = SAMPLERS[sampler](data, x * sigma, levels, None)
                error = float((last.x - reference).square().mean().sqrt()) / std
                if not error <= worst.setdefault(sampler, (0.0, ""))[0] and not math.isnan(worst[sampler][0]):
                    worst[sampler] = (error, process)  # NaN too, which is not less than anything
    return [
        Check(
            section="20 steps of each schedule's own",
            name=sampler,
            value=error,
            limit=OWN_SPACING_LIMITS.get(sampler, 0.1),
            note=f"root mean square error in standard deviations of the data; the worst is {process}",
        )
        for sampler, (error, process) in worst.items()
    ]


def check_likelihood() -> list[Check]:
    """Measure bits per dimension of each sample against the data's density, by the probability-flow ODE."""
    checks = []
    for process, config in PROCESSES.items():
        schedule = build_schedule(config)
        for name, data in DISTRIBUTIONS.items():
            generator = torch.Generator().manual_seed(2)
            # The ODE's density is of the data with the lowest level's noise, here a thousandth.
            levels = schedule.levels_at_sigma(torch.logspace(2, -3, 300, dtype=torch.float64))
            x0 = data.sample(500, generator)
            exact = -data.log_density(x0) / (2 * math.log(2.0))

            def probe(signs: Tensor) -> Callable[[], Tensor]:
                return lambda: signs.expand(500, 2)

            # In two dimensions two orthogonal sign vectors give the trace without error.
            each = [
                ode_bits_per_dim(data, x0, levels, probe(torch.tensor(signs, dtype=torch.float64)))
                for signs in ([1.0, 1.0], [1.0, -1.0])
            ]
            value = float((0.5 * (each[0] + each[1]) - exact).abs().mean())
            label = f"flow ODE, {process}, {name}"
            note = f"mean difference from -log2 p(x0) of 500 draws; their mean is {exact.mean():.3f} bits/dim"
            checks.append(Check(section="bits per dimension", name=label, value=value, limit=1e-2, note=note))
    return checks


def check_variational_bound() -> list[Check]:
    """Measure the variational bound, averaged over the data, against the entropy of a Gaussian."""
    checks = []
    schedule = build_schedule(DiffusionConfig(schedule="linear", num_train_steps=4000))
    levels = schedule.sampling_levels(4000)
    data = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    generator = torch.Generator().manual_seed(3)
    n = 4000
    x0 = data.sample(n, generator)
    exact = float((-data.log_density(x0)).mean() / (2 * math.log(2.0)))
    for variance in ("large", "small"):
        bound = variational_bound(
            data, x0, levels, lambda: torch.randn(n, 2, generator=generator, dtype=torch.float64), variance
        )
        excess = float(bound.total.mean()) - exact
        if variance == "large":  # the true reverse variance of unit Gaussian data
            note = f"excess over {exact:.4f} bits/dim; {n} draws, 4,000 steps"
            name = "bound with the right variance, unit Gaussian"
            checks.append(Check(section="bits per dimension", name=name, value=abs(excess), limit=1e-2, note=note))
        else:
            name, note = "bound with a wrong variance, unit Gaussian", "it must exceed the entropy"
            checks.append(
                Check(section="bits per dimension", name=name, value=excess, limit=1e-2, at_least=True, note=note)
            )
    return checks
