"""The data loader: it selects batches by computed indices, on the training device or from a mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from latentdiff.data.mapped import RowReader
from latentdiff.errors import ConfigError


def mix_seed(*parts: int) -> int:
    """Mix whole numbers into one 63-bit seed, by steps of SplitMix64: nearby inputs give unrelated seeds."""
    mask, state = (1 << 64) - 1, 0
    for part in parts:
        state = (state + (part & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


class Batches:
    """Shuffled batches of tensors that stay on one device.

    A batch depends on (seed, images seen, rank) alone. Each pass over the data is a permutation seeded by (seed, pass).
    The global batch is the next ``batch_size`` entries of the permutation, and rank r takes the r-th share. So resuming
    needs no state, and any number of processes sees the same global batch.

    Args:
        tensors: Tensors of equal length n, already on the device.
        batch_size: Images in a step, of all ranks together.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes; must divide ``batch_size``.

    Raises :class:`~latentdiff.errors.ConfigError` for tensors of different or no length, and for a batch that the
    processes cannot share.
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
        """The images that this rank takes after ``images_seen`` images: int64 [batch_size / world_size], on the
        tensors' device."""
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
        """The batch after ``images_seen`` images: [batch_size / world_size, ...] of each tensor."""
        index = self.indices(images_seen)
        return tuple(tensor[index] for tensor in self.tensors)

    def _order(self, epoch: int) -> Tensor:
        """The permutation of a pass, drawn on the CPU and moved to the tensors' device once."""
        if epoch not in self._orders:
            # A batch can reach into the next passes, so the permutations of the latest passes are kept.
            self._orders = {key: order for key, order in self._orders.items() if key >= epoch - 1}
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
            self._orders[epoch] = torch.randperm(len(self), generator=generator).to(self.tensors[0].device)
        return self._orders[epoch]


class StreamedBatches(Batches):
    """The batches of :class:`Batches` from tensors that are too large for the device, such as those mapped from a file.

    A batch is fetched while the one before it is worked on. It is read from its file, so a large file takes none of the
    process's memory; the system keeps in its cache what there is room for.

    Args:
        tensors: Tensors of equal length n, in memory or mapped.
        device: Where batches go.
        options: The other arguments of :class:`Batches`.
    """

    def __init__(self, *tensors: Tensor, device: torch.device | str, **options: int):
        super().__init__(*tensors, **options)  # type: ignore[arg-type]
        self.device = torch.device(device)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[tuple[Tensor, ...]]] | None = None
        self._readers = [RowReader(tensor) for tensor in tensors]

    def at(self, images_seen: int) -> tuple[Tensor, ...]:
        """The batch after ``images_seen`` images, on the device. The next one is then fetched."""
        if self._ahead is None or self._ahead[0] != images_seen:
            self._ahead = images_seen, self._pool.submit(self._fetch, images_seen)
        batch = self._ahead[1].result()
        following = images_seen + self.batch_size
        self._ahead = following, self._pool.submit(self._fetch, following)
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)

    def _fetch(self, images_seen: int) -> tuple[Tensor, ...]:
        index = self.indices(images_seen)
        batch = tuple(reader.read(index) for reader in self._readers)
        return tuple(tensor.pin_memory() for tensor in batch) if self.device.type == "cuda" else batch


def batches_on(
    device: torch.device, tensors: Sequence[Tensor], resident: bool, **options: int
) -> Batches | StreamedBatches:
    """Batches on ``device``: of tensors that are moved there whole, or batch by batch where not ``resident``."""
    if resident:
        return Batches(*(tensor.to(device) for tensor in tensors), **options)  # type: ignore[arg-type]
    size = sum(tensor.nbytes for tensor in tensors) / 2**30
    print(f"{size:,.2f} GiB of images or latents are too large for the device, and are read batch by batch", flush=True)
    return StreamedBatches(*tensors, device=device, **options)
