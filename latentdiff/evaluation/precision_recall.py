"""How much of the real images' manifold samples cover, and how much of the samples lies on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from latentdiff.errors import ConfigError

# As in the papers: precision and recall with the third neighbour, density and coverage with the fifth.
PRECISION_NEIGHBOUR, COVERAGE_NEIGHBOUR = 3, 5
COPY_DISTANCE = 5.0  # Grey levels, rms: less than a new photograph or garment comes to another.
ROWS = 1000  # of a matrix of distances at a time: 40 MB against 10,000 images


class Manifold:
    """Features [n, d] and the distance from each to its k-th nearest neighbour among the others.

    Raises ConfigError for five features or fewer.
    """

    def __init__(self, features: Tensor):
        if features.ndim != 2 or len(features) <= COVERAGE_NEIGHBOUR:
            raise ConfigError(f"a manifold needs more than {COVERAGE_NEIGHBOUR} features [n, d], not {features.shape}")
        self.features = features.float()
        radii = [
            torch.stack([distances.kthvalue(k + 1, dim=1).values for k in (PRECISION_NEIGHBOUR, COVERAGE_NEIGHBOUR)])
            for _, distances in _distances(self.features, self.features)
        ]
        self.radius, self.wide_radius = torch.cat(radii, dim=1)


def precision_recall(samples: Manifold, real: Manifold) -> dict[str, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), 0 to 1 (the
    density, an average count, may exceed 1).

    ``precision``: share of samples within the ball of a real image, which reaches to its third neighbour; ``recall``:
    share of real images within the ball of a sample. ``density``: how many balls of real images, to the fifth
    neighbour, a sample lies in, over five; ``coverage``: share of real images whose ball holds a sample. All depend on
    the numbers of images.
    """
    inside, dense = 0, 0
    recalled = torch.zeros(len(real.features), dtype=torch.bool)
    covered = torch.zeros_like(recalled)
    for rows, distances in _distances(samples.features, real.features):
        inside += int((distances <= real.radius).any(dim=1).sum())
        near = distances <= real.wide_radius
        dense += int(near.sum())
        covered |= near.any(dim=0)
        recalled |= (distances <= samples.radius[rows, None]).any(dim=0)
    n = len(samples.features)
    return {
        "precision": inside / n,
        "recall": float(recalled.double().mean()),
        "density": dense / (COVERAGE_NEIGHBOUR * n),
        "coverage": float(covered.double().mean()),
    }


def nearest_distances(samples: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``samples`` [n, d] the distance to the nearest of ``others`` [m, d], fp32 [n], and which, int64."""
    found = [distances.min(dim=1) for _, distances in _distances(samples.float(), others.float())]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def closest_to_training(samples: Tensor, train: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The samples that most resemble a training image, where a model that repeats its data would be caught: which of
    ``samples`` [n, d], int64 [count], the closest to one of ``train`` [m, d] first; and the distance of each of all
    samples to the nearest, fp32 [n]."""
    distances, _ = nearest_distances(samples, train)
    return distances.argsort()[:count], distances


def nearest_neighbours(samples: Tensor, train: Tensor, count: int) -> Tensor:
    """int64 [n, count]: which of ``train`` [m, d] are nearest to each of ``samples`` [n, d], the nearest first."""
    return torch.cdist(samples.float(), train.float()).topk(min(count, len(train)), largest=False).indices


def nearest_by_pixels(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """The training image that is nearest to each image pixel by pixel.

    Args:
        samples: uint8 [n, c, h, w].
        train: uint8 [m, c, h, w]; read a few at a time, so that it may be mapped from a file.

    Returns: the root mean square of the difference in grey levels, 0 to 255, fp32 [n]; and which it is, int64 [n].
    """
    own = samples.flatten(1).float()
    least, which = torch.full((len(samples),), torch.inf), torch.zeros(len(samples), dtype=torch.int64)
    for start in range(0, len(train), ROWS):
        found = torch.cdist(own, train[start : start + ROWS].flatten(1).float()).min(dim=1)
        nearer = found.values < least
        least[nearer], which[nearer] = found.values[nearer], found.indices[nearer] + start
    return least / own.shape[1] ** 0.5, which


def pixel_memorisation(
    samples: Tensor,
    train: Tensor,
    test: Tensor,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
    mirrored: bool = False,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """What :func:`memorisation` says, by pixels, uint8 [n, c, h, w] of each, in grey levels.

    A blurred image is nearer to all others than a sharp one, so ``share_closer`` alone accuses nobody. ``copied`` is
    the share within :data:`COPY_DISTANCE` of a training image or, where samples come out of a codec, of what its
    ``reconstruct`` makes of the training image that is nearest: a repeated latent is off by the codec's own error,
    which is far more. With ``mirrored``, for a model that was trained on mirror images too, copies of those count.

    Returns: the figures; and of each sample its difference from the nearest training image, and which that is.
    """
    (own, which), (real, _) = nearest_by_pixels(samples, train), nearest_by_pixels(test, train)
    least = _least(samples, train, own, which, reconstruct)
    if mirrored:
        turned, others = nearest_by_pixels(samples.flip(-1), train)
        turn = None if reconstruct is None else (lambda images: reconstruct(images.flip(-1)))
        least = torch.minimum(least, _least(samples, train, turned, others, turn))
    figures = {
        "median": float(own.median()),
        "test_median": float(real.median()),
        "share_closer": float((own < real.quantile(0.01)).double().mean()),
        "copied": float((least < COPY_DISTANCE).double().mean()),
        "least": float(least.min()),
        "train_images": len(train),
    }
    return figures, own, which


def _least(
    samples: Tensor, train: Tensor, own: Tensor, which: Tensor, reconstruct: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """The difference of each sample from its nearest training image, ``own``, or from its reconstruction if less."""
    if reconstruct is None:
        return own
    decoded = torch.cat([reconstruct(train[part]).cpu() for part in which.split(ROWS)])
    return torch.minimum(own, (samples.float() - decoded.float()).flatten(1).square().mean(dim=1).sqrt())


def memorisation(samples: Tensor, train: Tensor, test: Tensor) -> dict[str, float]:
    """How much closer samples are to training images than new real images are; features [n, d] of each.

    Returns:
        ``median``, ``test_median``: median distance of samples, and of test images, to their nearest training image.
        ``share_closer``: the share of samples that are closer to one than all but a hundredth of the test images are:
        about 0.01 for new images of the same kind, much more where training images are repeated.
    """
    own, _ = nearest_distances(samples, train)
    real, _ = nearest_distances(test, train)
    return {
        "median": float(own.median()),
        "test_median": float(real.median()),
        "share_closer": float((own < real.quantile(0.01)).double().mean()),
    }


def _distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances of some rows of ``x`` to all of ``y``, and which rows."""
    for start in range(0, len(x), ROWS):
        rows = slice(start, min(start + ROWS, len(x)))
        yield rows, torch.cdist(x[rows], y)
