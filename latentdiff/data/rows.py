"""Images in the rows of tables, read as if they were files: ``train/000123`` is a row of the training split."""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from latentdiff.data.files import Files
from latentdiff.data.image_formats import BadImageError

# Bytes of rows that were read lately. Threads take them in nearly, but not quite, the order in which they lie.
KEPT = 32 * 1024**2
NOT_INSIDE = "its row holds no image, and names {}, which is not read: save the data set with its images inside"


class Part(ABC):
    """A stretch of a split: one file of a table.

    Attributes:
        count: Number of its rows.
        stamp: Numbers that change with the file's content.
    """

    count: int
    stamp: tuple[int, ...]

    @abstractmethod
    def value(self, row: int) -> Any:
        """The value of the image column in a row. Any thread may call it, for any row."""


class StreamedPart(Part):
    """A file that is read from front to back, as compressed ones are. Rows that lie near each other cost one read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Sequence[Any]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._stream: Iterator[Sequence[Any]] | None = None
        self._next = 0
        # The first row that could not be read, and why, by the row where reading began.
        self._failed: dict[int, tuple[int, str]] = {}

    @abstractmethod
    def start_before(self, row: int) -> int:
        """The nearest row at or before ``row`` from which reading can begin."""

    @abstractmethod
    def read_from(self, row: int) -> Iterator[Sequence[Any]]:
        """Yield the values of the rows from ``row`` on, some megabytes at a time. ``row`` is a :meth:`start_before`."""

    def value(self, row: int) -> Any:
        with self._lock:
            found = self._find(row)
            if found is None:
                self._read_up_to(row)
                found = self._find(row)
            assert found is not None
            return found[0]

    def forget(self) -> None:
        """Release the rows that were read."""
        with self._lock:
            self._kept.clear()
            self._sizes.clear()
            self._stream = None

    def _read_up_to(self, row: int) -> None:
        start = self.start_before(row)
        reached, reason = self._failed.get(start, (row + 1, ""))
        if row >= reached:
            raise BadImageError(reason)
        if self._stream is None or row < self._next or start > self._next:
            self._next, self._stream = start, self.read_from(start)
        try:
            while row >= self._next:
                values = next(self._stream, None)
                if not values:
                    raise BadImageError("its file ends before its row")
                self._keep(values)
        except Exception as error:  # pyarrow raises many kinds on damaged data
            self._stream = None
            reason = str(error) if isinstance(error, BadImageError) else f"its file is damaged: {_one_line(error)}"
            self._failed[self.start_before(self._next)] = (self._next, reason)
            raise BadImageError(reason) from error

    def _find(self, row: int) -> tuple[Any] | None:
        for first in reversed(self._kept):
            if first <= row < first + len(self._kept[first]):
                return (self._kept[first][row - first],)
        return None

    def _keep(self, values: Sequence[Any]) -> None:
        self._kept[self._next] = values
        self._kept.move_to_end(self._next)
        self._sizes[self._next] = sum(map(_size, values))
        self._next += len(values)
        while len(self._kept) > 1 and sum(self._sizes.values()) > KEPT:
            first, _ = self._kept.popitem(last=False)
            del self._sizes[first]


class RowFiles(Files):
    """The images of a table's rows.

    Args:
        path: What messages call the place.
        splits: The parts of each split, in order. The split's name is the folder of its images; an empty name is none.
        keep: For each split, the rows that are images of the data set; the others have no class. Default: all.
        reads_paths: Whether an image may be a file that its row names by an absolute path.
    """

    def __init__(
        self,
        path: Path,
        splits: Mapping[str, Sequence[Part]],
        keep: Mapping[str, Sequence[int]] | None = None,
        reads_paths: bool = False,
    ):
        self.path, self._reads_paths = path, reads_paths
        # For each split the first row of each part, and the parts.
        self._parts: dict[str, tuple[list[int], list[Part]]] = {}
        self._last: StreamedPart | None = None
        self._before: StreamedPart | None = None
        self._turn = threading.Lock()
        images: list[str] = []
        for split, parts in splits.items():
            starts, first = [], 0
            for part in parts:
                starts.append(first)
                first += part.count
            self._parts[split] = starts, list(parts)
            prefix = f"{split}/" if split else ""
            rows = range(first) if keep is None or split not in keep else keep[split]
            images += [f"{prefix}{row:06d}" for row in rows]
        self.images = tuple(images)

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._content(name, None))

    def read(self, name: str, limit: int | None = None) -> bytes:
        return self._content(name, limit)

    def stamp(self, name: str) -> tuple[int, ...]:
        # Its size is not known before it is read: 0 stands for all of them.
        part, row = self._locate(name)
        return (0, *part.stamp, row)

    def _content(self, name: str, limit: int | None) -> bytes:
        part, row = self._locate(name)
        if isinstance(part, StreamedPart):
            self._enter(part)
        value = part.value(row)
        path = None
        if isinstance(value, dict):
            value, path = value.get("bytes"), value.get("path")
        if value is None and path and self._reads_paths and Path(path).is_absolute():
            return _read_file(Path(path), limit)
        if value is None:
            raise BadImageError(NOT_INSIDE.format(path) if path else "its row is empty")
        if limit is not None and len(value) > limit:
            raise BadImageError(f"it has {len(value):,} bytes; at most {limit:,} are read (--data.max_file_size)")
        return bytes(value)

    def _enter(self, part: StreamedPart) -> None:
        """Keep the rows of two files at most: threads that are behind still read the one before."""
        with self._turn:
            if part is self._last or part is self._before:
                return
            left, self._before, self._last = self._before, self._last, part
        if left is not None:
            left.forget()

    def _locate(self, name: str) -> tuple[Part, int]:
        split, _, number = name.rpartition("/")
        row = int(number)
        starts, parts = self._parts[split]
        place = bisect_right(starts, row) - 1
        return parts[place], row - starts[place]


def _read_file(path: Path, limit: int | None) -> bytes:
    size = path.stat().st_size
    if limit is not None and size > limit:
        raise BadImageError(f"it has {size:,} bytes; at most {limit:,} are read (--data.max_file_size)")
    return path.read_bytes()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _size(value: Any) -> int:
    if isinstance(value, dict):
        value = value.get("bytes")
    return 0 if value is None else len(value)
