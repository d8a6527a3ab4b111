"""Averages of a run's weights whose length is chosen after the training: post-hoc EMA (Karras et al. 2024, EDM2).

A run keeps two averages with power-function profiles, and snapshots of them. Any other length of average is then a
weighted sum of the snapshots. A profile's length is ``sigma_rel``, its standard deviation as a share of the run's
length: 0.05 is an average over about the last twentieth, 0.2 over about the last fifth.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from latentdiff import checkpoint
from latentdiff.errors import CheckpointError, ConfigError

# Lengths of the two averages that a run keeps, as in the paper.
KEPT_LENGTHS = (0.05, 0.10)
# Lengths that snapshots of those can stand for. At 1/sqrt(12) = 0.289 all weights since the start count alike.
SHORTEST, LONGEST = 0.01, 0.28
FOLDER = "ema"


def power_of_length(sigma_rel: float) -> float:
    """The exponent gamma of the profile t ** gamma whose relative standard deviation is ``sigma_rel`` (equation 2).

    Raises :class:`~latentdiff.errors.ConfigError` for a length that no profile has.

    Example:
        >>> round(power_of_length(0.05), 2), round(power_of_length(0.10), 2)
        (16.97, 6.94)
    """
    if not SHORTEST <= sigma_rel <= LONGEST:
        raise ConfigError(f"an average's length is from {SHORTEST} to {LONGEST} of the run, not {sigma_rel}")
    roots = np.roots([1.0, 7.0, 16.0 - sigma_rel**-2, 12.0 - sigma_rel**-2])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


class PowerAverages(nn.Module):
    """Two averages of a network's parameters, with power-function profiles of the lengths ``KEPT_LENGTHS``.

    Args:
        network: Whose parameters are averaged. Its buffers are not.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.powers = [power_of_length(length) for length in KEPT_LENGTHS]
        self.copies = nn.ModuleList(copy.deepcopy(network).requires_grad_(False).eval() for _ in KEPT_LENGTHS)

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, num_images: int) -> None:
        """Move towards ``network`` after a step of ``num_images`` that brought the run's total to ``images_seen``.

        The decay is (1 - n / t) ** (gamma + 1) (equation 1), in images.
        """
        for power, average in zip(self.powers, self.copies, strict=True):
            decay = max(0.0, 1.0 - num_images / images_seen) ** (power + 1.0)
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)

    def save(self, folder: Path, images_seen: int) -> Path:
        """Write a snapshot, ``ema/IMAGES.safetensors`` in the run's folder, and return its path.

        It is kept in half precision, which the sum of many snapshots does not notice.
        """
        path = folder / FOLDER / f"{images_seen:012d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        tensors = {
            f"{index}.{name}": parameter.detach().to("cpu", torch.float16)
            for index, average in enumerate(self.copies)
            for name, parameter in average.named_parameters()
        }
        checkpoint.write_tensors(path, tensors, {"images_seen": images_seen, "lengths": list(KEPT_LENGTHS)})
        return path


def snapshots_in(folder: Path) -> list[Path]:
    """The snapshots of the run in ``folder``, the oldest first."""
    return sorted((folder / FOLDER).glob("*.safetensors"))


def snapshot_weights(times: Sequence[float], powers: Sequence[float], time: float, power: float) -> list[float]:
    """How much each snapshot counts in an average of another length: algorithm 3 of the paper.

    As in the authors' code, the weights are divided by their sum, so that equal snapshots give themselves.

    Args:
        times, powers: Images seen at each snapshot, and the exponent of its profile.
        time, power: Those of the average that is wanted.

    Returns: the weights whose sum of profiles is nearest to the profile that is wanted, in the least-squares sense,
    scaled to a sum of 1.
    """
    t, p = np.asarray(times, np.float64), np.asarray(powers, np.float64)
    products = _inner_product(t[:, None], p[:, None], t[None, :], p[None, :])
    wanted = _inner_product(t, p, np.asarray(time, np.float64), np.asarray(power, np.float64))
    weights = np.linalg.lstsq(products, wanted, rcond=None)[0]
    return [float(weight) for weight in weights / weights.sum()]


def _inner_product(time_a: np.ndarray, power_a: np.ndarray, time_b: np.ndarray, power_b: np.ndarray) -> np.ndarray:
    """The integral of the product of two profiles, each (gamma + 1) t ** gamma / T ** (gamma + 1) up to its T."""
    ratio = np.minimum(time_a, time_b) / np.maximum(time_a, time_b)
    # The one that ends later is cut where the other ends: its exponent counts.
    power_of_later = np.where(time_a < time_b, power_b, power_a)
    scale = (power_a + 1.0) * (power_b + 1.0) / ((power_a + power_b + 1.0) * np.maximum(time_a, time_b))
    return scale * ratio**power_of_later


def rebuild_average(folder: Path | str, sigma_rel: float, network: nn.Module) -> None:
    """Fill ``network`` with the average of that length at the end of a run.

    Args:
        folder: The run's folder, with its snapshots.
        sigma_rel: The length, 0.01 to 0.28 of the run.
        network: A network of the run's shape. Its buffers stay.

    Raises:
        CheckpointError: The run has no snapshots, one is damaged, or they are of another network.
        ConfigError: A length that no average has.
    """
    paths = snapshots_in(Path(folder))
    power = power_of_length(sigma_rel)
    if not paths:
        raise CheckpointError(f"{folder} has no snapshots of its averages: train with --trainer.ema_snapshots 20")
    times = [float(int(path.stem)) for path in paths for _ in KEPT_LENGTHS]
    powers = [power_of_length(length) for length in KEPT_LENGTHS] * len(paths)
    weights = iter(snapshot_weights(times, powers, times[-1], power))
    parameters = dict(network.named_parameters())
    sums = {name: torch.zeros_like(parameter, dtype=torch.float64) for name, parameter in parameters.items()}
    for path in paths:
        tensors = checkpoint.read_tensors(path).tensors
        for index in range(len(KEPT_LENGTHS)):
            _add(sums, tensors, next(weights), f"{index}.", path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(sums[name])


def _add(sums: dict[str, Tensor], tensors: dict[str, Tensor], weight: float, prefix: str, path: Path) -> None:
    """Add one average of a snapshot, ``weight`` times, to ``sums``."""
    if not math.isfinite(weight):
        raise CheckpointError(f"no average of that length can be made from {path} and the other snapshots")
    for name, total in sums.items():
        found = tensors.get(prefix + name)
        if found is None or found.shape != total.shape:
            raise CheckpointError(f"{path} is a snapshot of another network: it lacks {name} {tuple(total.shape)}")
        total.add_(found.to(total.device, total.dtype), alpha=weight)
