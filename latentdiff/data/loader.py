"""The resident loader: the whole set on the training device, batches by arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.errors import ConfigError


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several whole numbers (SplitMix64 steps), so that nearby inputs give unrelated streams."""
    mask, state = (1 << 64) - 1, 0
    for part in parts:
        state = (state + (part & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


class Batches:
    """Shuffled batches of tensors that stay on one device.

    A batch is a function of (seed, images seen, rank) alone: each pass over the data is a permutation seeded by
    (seed, pass), the global batch is the next ``batch_size`` entries of it, and rank r takes its r-th share. So
    resuming needs no state, and any number of processes sees the same global batch.

    Args:
        tensors: Tensors of equal length n, already on the device.
        batch_size: Images a step over all ranks together.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes; must divide ``batch_size``.
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        if len({len(tensor) for tensor in tensors}) != 1 or not len(tensors[0]):
            raise ConfigError("the tensors of a loader must be of one length, and not empty")
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(f"a batch of {batch_size} images cannot be shared by {world_size} processes")
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Images in one pass."""
        return len(self.tensors[0])

    def indices(self, images_seen: int) -> Tensor:
        """int64 [batch_size / world_size]: which images this rank takes after ``images_seen`` images."""
        share = self.batch_size // self.world_size
        start = images_seen + self.rank * share
        pieces = []
        while share:
            epoch, position = divmod(start, len(self))
            piece = self._order(epoch)[position : position + share]
            pieces.append(piece)
            start, share = start + len(piece), share - len(piece)
        return torch.cat(pieces)

    def at(self, images_seen: int) -> tuple[Tensor, ...]:
        """The batch after ``images_seen`` images: one tensor [batch_size / world_size, ...] for each given."""
        index = self.indices(images_seen).to(self.tensors[0].device)
        return tuple(tensor[index] for tensor in self.tensors)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            # A batch can straddle two passes, never more than batch_size / n + 2: keep the latest few orders alone.
            self._orders = {key: order for key, order in self._orders.items() if key >= epoch - 1}
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
            self._orders[epoch] = torch.randperm(len(self), generator=generator)
        return self._orders[epoch]
