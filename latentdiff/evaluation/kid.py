"""The kernel distance between two sets of features: KID where they are Inception's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentdiff.errors import ConfigError

ROWS = 1000  # Of a matrix of kernels at a time.


class Subsets(NamedTuple):
    """What a kernel distance is averaged over: ``count`` pairs of subsets of ``size`` images."""

    count: int = 100
    size: int = 1000


SUBSETS = Subsets()


class KernelDistance(NamedTuple):
    """Mean and standard deviation over the subsets (None of one alone), and how many of what size they were."""

    mean: float
    std: float | None
    subsets: int
    subset_size: int


def kernel_distance(
    x: Tensor, y: Tensor, subsets: int = SUBSETS.count, subset_size: int = SUBSETS.size, seed: int = 2020
) -> KernelDistance:
    """Unbiased MMD^2 with the kernel (x.y / d + 1)^3, averaged over random subsets (Binkowski et al. 2018, section 4).

    Unlike the Fréchet distance its expectation does not depend on the number of images; near 0 it can be negative.

    Args:
        x: Features [n, d].
        y: Features [m, d].
        subsets: How many pairs of subsets to average over.
        subset_size: Images in each; lowered to the smaller set's size where that is less, and returned as used. Where
            that is all of both sets there is one subset to take, and no spread.
        seed: Seed of the subsets, drawn as torch-fidelity draws them so that equal seeds give equal numbers.

    Raises:
        ConfigError: Fewer than two vectors, or sets of different dimension.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2 or x.shape[1] != y.shape[1]:
        raise ConfigError(
            f"at least 2 features of one size are needed on each side, not {list(x.shape)}, {list(y.shape)}"
        )
    if size == len(x) == len(y):
        subsets = 1
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        first, second = (torch.from_numpy(random.choice(len(z), size, replace=False)) for z in (x, y))
        values.append(_mmd2(x[first].float(), y[second].float()))
    return KernelDistance(float(np.mean(values)), float(np.std(values)) if subsets > 1 else None, subsets, size)


def kernel_standard_error(x: Tensor, y: Tensor) -> float:
    """How far the kernel distance of samples ``x`` [n, d] to ``y`` [m, d] scatters from one draw of n to another.

    The delta method of a U-statistic: a sample moves MMD^2 by 2 h / n, h its mean kernel with the other samples less
    that with the reference, so that the variance is about 4 Var(h) / n (Serfling 1980, section 5.3.2). The reference is
    taken as given, since it is the same for every model. Small beside it is what :func:`kernel_distance` adds by taking
    subsets. An upper estimate for few samples close to the reference: measured 1.3 times too large for 200 of them in 8
    dimensions. Raises ConfigError as that does.
    """
    if min(len(x), len(y)) < 2 or x.shape[1] != y.shape[1]:
        raise ConfigError(
            f"at least 2 features of one size are needed on each side, not {list(x.shape)}, {list(y.shape)}"
        )
    x, y, moved = x.float(), y.float(), []
    for rows in x.split(ROWS):
        within, across = (((rows @ z.T / x.shape[1] + 1).double() ** 3).sum(dim=1) for z in (x, y))
        itself = ((rows * rows).sum(dim=1) / x.shape[1] + 1).double() ** 3
        moved.append((within - itself) / (len(x) - 1) - across / len(y))
    return float(2 * torch.cat(moved).std() / len(x) ** 0.5)


def _mmd2(x: Tensor, y: Tensor) -> float:
    """Equation 4 of the paper: the diagonals, a vector's kernel with itself, are left out of the first two means."""
    size = len(x)
    xx, yy, xy = ((a @ b.T / x.shape[1] + 1).double() ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return float(within / (size * (size - 1)) - 2 * xy.mean())
