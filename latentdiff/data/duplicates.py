"""Find images that a data set holds twice: equal files, equal pixels, and nearly equal pixels."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from latentdiff.data.files import Files

Kind = Literal["file", "pixels", "near"]
KINDS: tuple[Kind, ...] = ("file", "pixels", "near")
# Side of a thumbnail in pixels: enough to tell two photographs of one flower apart, too few to show what a JPEG
# encoder changes.
THUMBNAIL = 16
CHUNK = 1000  # Images that become thumbnails at a time.
ROWS, COLUMNS = 1024, 8192  # Thumbnails that are compared at a time: 32 MiB of distances.


@dataclass(frozen=True)
class Pair:
    """Two images that are equal or nearly equal.

    Attributes:
        first: Place of one image.
        second: Place of the other image, which comes later.
        kind: The first that fits of ``file``: byte-identical files; ``pixels``: equal images of other files or of
            none; ``near``: thumbnails closer than the threshold.
        distance: Distance of the thumbnails; 0 for the first two kinds.
        mirrored: Whether one image is near the mirror image of the other.
    """

    first: int
    second: int
    kind: Kind
    distance: float = 0.0
    mirrored: bool = False


@dataclass
class Duplicates:
    """The duplicates of a data set.

    Attributes:
        counts: For each kind, the number of pairs, by the splits of the two images in order.
        pairs: Of each kind, no more pairs than were asked for: near ones by distance, others in order.
        mirrored: Number of near pairs that are mirrored.
        flat: Number of images of a single grey. They have no contrast to compare, so they are near nothing.
    """

    counts: dict[Kind, Counter[tuple[int, int]]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    pairs: list[Pair] = field(default_factory=list)
    mirrored: int = 0
    flat: int = 0

    def total(self, kind: Kind) -> int:
        """Number of all pairs of a kind."""
        return self.counts[kind].total()


def find_duplicates(
    splits: Sequence[Tensor], file_digests: Sequence[bytes | None] | None, threshold: float, listed: int = 50
) -> Duplicates:
    """Find the duplicates within and across splits.

    The search for near pairs takes time in the square of the number of images, and three kibibytes of memory an image.

    Args:
        splits: The images of each split, uint8 [n, c, h, w], all of one shape. Places count through all splits.
        file_digests: The result of :func:`digest_files` for each place, None for an image without a file. None where
            no image has a file.
        threshold: Largest distance of two near thumbnails: the root mean squared difference, after each thumbnail was
            standardised to mean 0 and standard deviation 1. 0 looks for no near pairs. Unrelated images are about 1.4
            apart. Of images of 64 pixels (Flowers-102, CelebA), 99.9 % are within 0.1 of their JPEG of quality 75 and
            98 % of their JPEG of quality 50, but at most 3 % of themselves cropped by a pixel on each side.
        listed: Number of pairs of each kind in the result. All pairs are counted.
    """
    of_split = torch.cat([torch.full((len(images),), index) for index, images in enumerate(splits)]).tolist()
    # Equal bytes make equal squares unless the crop is a random one, so neither implies the other here.
    squares = [digest for images in splits for digest in _digest_images(images)]
    files = list(file_digests) if file_digests is not None else [None] * len(squares)
    found = Duplicates()

    found.counts["file"] = _count_pairs(files, of_split)
    both = [None if file is None else (file, square) for file, square in zip(files, squares, strict=True)]
    found.counts["pixels"] = _count_pairs(squares, of_split)
    found.counts["pixels"].subtract(_count_pairs(both, of_split))
    found.counts["pixels"] += Counter()  # drops the zeros
    found.pairs += [Pair(*pair, "file") for pair in islice(_equal_pairs(files), listed)]
    different = ((a, b) for a, b in _equal_pairs(squares, files) if files[a] is None or files[a] != files[b])
    found.pairs += [Pair(*pair, "pixels") for pair in islice(different, listed)]
    if threshold > 0:
        _find_near(found, splits, _number_keys(squares), _number_keys(files), torch.tensor(of_split), threshold, listed)
    return found


def digest_files(files: Files, names: Sequence[str]) -> list[bytes | None]:
    """Digest files to find equal ones: 16 bytes for each name, equal for equal content.

    None for an empty name, and for a file whose size no other file has, which is not read. Raises OSError.
    """
    sizes = [files.stamp(name)[0] if name else -1 for name in names]
    alike = Counter(sizes)
    return [
        hashlib.blake2b(files.read(name), digest_size=16).digest() if name and alike[size] > 1 else None
        for name, size in zip(names, sizes, strict=True)
    ]


def thumbnails(images: Tensor) -> Tensor:
    """Make standardised thumbnails: uint8 [n, c, h, w] -> fp32 [n, t, t].

    Greyscale with mean 0 and standard deviation 1; all 0 for an image of a single grey.
    """
    side = min(THUMBNAIL, *images.shape[-2:])
    chunks = []
    for chunk in images.split(CHUNK):
        # Averages over areas: antialiased, and the same for the mirror image.
        small = functional.adaptive_avg_pool2d(chunk.float().mean(1), side)
        small = small - small.mean((1, 2), keepdim=True)
        deviation = small.square().mean((1, 2), keepdim=True).sqrt()
        # Below a quarter of a grey level there is only rounding, which scaling would make look like a picture.
        chunks.append(torch.where(deviation > 0.25, small / deviation.clamp_min(1e-6), torch.zeros_like(small)))
    return torch.cat(chunks)


def _digest_images(images: Tensor) -> Iterator[bytes]:
    """16 bytes for each image, equal for equal pixels."""
    for image in images:
        yield hashlib.blake2b(image.contiguous().numpy(), digest_size=16).digest()


def _group_equal(keys: Sequence[Hashable | None]) -> list[list[int]]:
    """Group the places of equal keys that occur more than once; None equals nothing."""
    groups = defaultdict(list)
    for place, key in enumerate(keys):
        if key is not None:
            groups[key].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _equal_pairs(
    keys: Sequence[Hashable | None], within: Sequence[Hashable | None] | None = None
) -> Iterator[tuple[int, int]]:
    """Yield all pairs of places with equal ``keys``, without groups that are equal in ``within`` too."""
    for group in _group_equal(keys):
        if within is not None and within[group[0]] is not None and len({within[place] for place in group}) == 1:
            continue  # all of one file, and such a group can be large
        yield from combinations(group, 2)


def _count_pairs(keys: Sequence[Hashable | None], of_split: list[int]) -> Counter[tuple[int, int]]:
    """Count the pairs with equal keys by their splits, from the sizes of the groups, which can be large."""
    counts: Counter[tuple[int, int]] = Counter()
    for group in _group_equal(keys):
        sizes = sorted(Counter(of_split[place] for place in group).items())
        for split, size in sizes:
            counts[split, split] += size * (size - 1) // 2
        for (one, size), (other, other_size) in combinations(sizes, 2):
            counts[one, other] += size * other_size
    return +counts


def _number_keys(keys: Sequence[Hashable | None]) -> Tensor:
    """Replace keys by numbers, int64 [n]: equal ones for equal keys; None equals nothing."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault((place,) if key is None else key, place) for place, key in enumerate(keys)])


def _find_near(
    found: Duplicates,
    splits: Sequence[Tensor],
    squares: Tensor,
    files: Tensor,
    of_split: Tensor,
    threshold: float,
    listed: int,
) -> None:
    """Add the near pairs to ``found``: those that are equal neither in ``squares`` nor in ``files``."""
    small = torch.cat([thumbnails(images) for images in splits])
    found.flat = int((small == 0).all(2).all(1).sum())
    # Rows of unit length: their product is the correlation r, and the squared distance 2 - 2 r.
    rows, mirror = (functional.normalize(view.flatten(1), dim=1) for view in (small, small.flip(2)))
    least = 1 - threshold**2 / 2
    closest: list[tuple[float, int, int, bool]] = []  # a heap, the furthest pair on top
    for top in range(0, len(rows), ROWS):
        for left in range(top - top % COLUMNS, len(rows), COLUMNS):
            block = slice(left, left + COLUMNS)
            straight, turned = (rows[top : top + ROWS] @ view[block].T for view in (rows, mirror))
            first, second = torch.nonzero(torch.maximum(straight, turned) > least, as_tuple=True)
            one, other = first + top, second + left
            new = (one < other) & (squares[one] != squares[other]) & (files[one] != files[other])
            first, second, one, other = first[new], second[new], one[new], other[new]
            is_turned = turned[first, second] > straight[first, second]
            distance = (2 - 2 * torch.maximum(straight, turned)[first, second]).clamp_min(0).sqrt()
            found.mirrored += int(is_turned.sum())
            found.counts["near"].update(zip(of_split[one].tolist(), of_split[other].tolist(), strict=True))
            # Only pairs that could be listed become Python objects.
            order = distance.argsort()[:listed]
            candidates = (tensor[order].tolist() for tensor in (distance, one, other, is_turned))
            for away, a, b, flag in zip(*candidates, strict=True):
                entry = (-away, -a, -b, flag)
                if len(closest) < listed:
                    heapq.heappush(closest, entry)
                elif entry > closest[0]:
                    heapq.heapreplace(closest, entry)
    found.pairs += [Pair(-a, -b, "near", -away, flag) for away, a, b, flag in sorted(closest, reverse=True)]
