"""The files that a data set in several parts consists of, and the split that each of them is of."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

from latentdiff.data.dataset import Split
from latentdiff.data.image_formats import is_litter
from latentdiff.data.messages import print_once, printable
from latentdiff.errors import DataError

# A word of a file's or folder's name that tells its split, as Hugging Face's datasets reads it.
SPLIT_OF_WORD: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# Files that one pattern in braces may stand for.
MOST_FILES = 1_000_000


def find_files(path: str, suffixes: Sequence[str], what: str) -> tuple[Path, list[tuple[str, Path]]]:
    """Find the files that ``data.path`` means.

    Args:
        path: A file; a folder, of which all files with a suffix count, also in its sub-folders; or a pattern with
            ``*``, ``?``, ``[…]``, ``{000..012}`` or ``{a,b}``.
        suffixes: What the files end in, such as ``.parquet``, in lower case.
        what: What messages call such a file.

    Returns:
        What messages call the place; and for each file its name, relative to the folder that all are in, and its path,
        in natural order.

    Raises :class:`~latentdiff.errors.DataError` where there is no such file.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = [file for file in sorted(place.rglob("*")) if file.name.lower().endswith(tuple(suffixes))]
        found = [file for file in found if file.is_file() and not is_litter(file.relative_to(place).parts)]
        if not found:
            raise DataError(f"{place} holds no {what}, in it or below")
        return place, _named(found, place)
    if place.exists():
        return place, [(place.name, place)]
    paths: list[Path] = []
    for one in expand_braces(str(place)):
        matching = glob.glob(one, recursive=True) if glob.has_magic(one) else [one] * os.path.exists(one)
        if not matching:
            raise DataError(f"there is no {one}" + ("" if one == str(place) else f" of {place}"))
        paths += [Path(match) for match in matching]
    folder = os.path.commonpath([file.parent for file in paths])
    return place, _named(list(dict.fromkeys(paths)), Path(folder))


def expand_braces(text: str) -> list[str]:
    """What a shell makes of braces: ``{08..11}`` counts, ``{a,b}`` lists. A text without braces is itself."""
    pieces: list[list[str]] = []
    total = 1
    for index, piece in enumerate(re.split(r"\{([^{}]*)\}", text)):
        choices = [piece]
        if index % 2:
            if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", piece):
                first, last = numbers.groups()
                width = len(first) if first.startswith("0") or len(first) == len(last) else 0
                count = int(last) - int(first) + 1
                if not 0 < count <= MOST_FILES:
                    raise DataError(f"{{{piece}}} of {text} counts no files: write it as {{000..012}}")
                choices = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
            else:
                choices = piece.split(",") if "," in piece else [f"{{{piece}}}"]
        total *= len(choices)
        if total > MOST_FILES:
            raise DataError(f"{text} stands for more than {MOST_FILES:,} files")
        pieces.append(choices)
    return ["".join(parts) for parts in product(*pieces)]


def split_of_name(name: str) -> Split | None:
    """The split that a file's name tells, such as ``train-00000-of-00002.parquet`` or ``validation/0.tar``.

    The last folder or file that tells one counts. None where none does, or where a name tells two.
    """
    for part in reversed(name.split("/")):
        words = re.split(r"[^a-z]+", part.lower())
        splits = {SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def by_split(path: Path, files: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """The files of each split; all of them under an empty name where they are of no splits.

    They are of splits where their names tell ``train`` and another one. Raises :class:`DataError` where some names then
    tell none.
    """
    files = list(files)
    splits = [split_of_name(name) for name, _ in files]
    if not {"train"} < set(splits) - {None}:
        return {"": [file for _, file in files]}
    if None in splits:
        odd = files[splits.index(None)][0]
        raise DataError(
            f"{path}: the names of some files tell a split (train, validation, test), but {printable(odd)} does "
            "not. Give it the name of its split, or move it elsewhere."
        )
    found: dict[str, list[Path]] = {}
    for split, (_, file) in zip(splits, files, strict=True):
        found.setdefault(str(split), []).append(file)
    return found


def official_names(path: Path, names: Iterable[str], count: Callable[[str], int]) -> dict[str, Split]:
    """Which split each named one is: those of training, validation and test, as far as there are.

    Args:
        path: What messages call the data set.
        names: The names of its splits, as its authors have them.
        count: The number of rows of one.

    Returns: the splits to take, by the authors' names. Any other is left out, which a line says. Where none is known by
        its name, all are taken, as training images.
    """
    names = list(names)
    known: dict[str, Split] = {}
    # A name that is nothing but a split comes before one that has more words, such as train_extra.
    for name in sorted(names, key=lambda name: name.lower() not in SPLIT_OF_WORD):
        split = split_of_name(name)
        if split is not None and split not in known.values():
            known[name] = split
    if not known:
        return dict.fromkeys(names, "train")
    if left := [name for name in names if name not in known]:
        listed = ", ".join(f"{name} ({count(name):,} rows)" for name in left)
        print_once(printable(f"left out of {path}: the splits {listed}"))
    return known


def natural_order(text: str) -> tuple[list[tuple[int, str]], str]:
    """A key for sorting: ``part-2`` comes before ``part-10``."""
    pieces = re.split(r"(\d+)", text)
    return [(int(piece), "") if index % 2 else (0, piece) for index, piece in enumerate(pieces)], text


def stamp_of(path: Path) -> tuple[int, ...]:
    """Numbers that change with a file's content: its size, and the times of change. Raises :class:`DataError`."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _named(files: list[Path], folder: Path) -> list[tuple[str, Path]]:
    named = [(file.relative_to(folder).as_posix(), file) for file in files]
    return sorted(named, key=lambda pair: natural_order(pair[0]))
