"""Images that somebody's model left behind, as files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdiff.data.decode import ReadingRules, open_image
from latentdiff.data.deep_images import DeepValues, check_values, join_values
from latentdiff.data.file_list import check_row, read_rows
from latentdiff.data.files import Files, ListedFiles, open_files
from latentdiff.data.image_formats import IMAGE_SUFFIXES, BadImageError, suffix_of
from latentdiff.data.messages import print_once, printable
from latentdiff.errors import DataError
from latentdiff.evaluation.image_arrays import SUFFIXES, read_arrays, read_class_names
from latentdiff.inference.labels import folded


def holds_images(path: Path) -> bool:
    """Whether ``path`` holds images, not a model: a directory, zip, npz, npy, csv, or a safetensors with ``images``."""
    suffix = path.suffix.lower()
    if suffix != ".safetensors" or not path.is_file():
        return path.is_dir() or suffix in (".zip", ".npz", ".npy", ".csv")
    try:
        with safe_open(path, framework="pt") as file:
            return "images" in file.keys()  # noqa: SIM118
    except (SafetensorError, OSError):
        return False  # whatever reads it as a model says what is wrong


def read_images(
    path: Path,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...] = (),
    rules: ReadingRules | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The images and, where the file has them, their classes.

    Args:
        path: A directory or zip of image files (all are taken, by name); a CSV whose first column names such files,
            and whose second may name their classes; or an .npz, .npy or .safetensors file, as
            :func:`~latentdiff.evaluation.image_arrays.read_arrays` reads them.
        image_shape: What they must be, (c, h, w): to resize here would change what is measured.
        class_names: Of the data set; files that all lie in folders named so are of those classes.
        rules: Which images are read, and what their values mean.

    Returns: uint8 [n, c, h, w], and int64 [n] or None. Raises :class:`~latentdiff.errors.DataError`.
    """
    rules, suffix = rules or ReadingRules(), path.suffix.lower()
    if suffix in SUFFIXES and not path.is_dir():
        images, labels = read_arrays(path, image_shape, rules.value_range)
        names = None if labels is None else read_class_names(path)
        # Without names, the labels are those of the data set.
        if labels is not None and names and class_names:
            labels = _by_name(labels, names, class_names, path)
    elif suffix == ".csv" and not path.is_dir():
        files, classes = _read_list(path)
        images = _read_image_files(files, image_shape, rules)
        labels = None if classes is None else _encode(classes, class_names, path)
    else:
        files = open_files(path)
        images = _read_image_files(files, image_shape, rules)
        labels = _classes_by_folder(path, list(files.images), class_names)
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{path} holds {len(labels):,} labels for {len(images):,} images")
    return images, labels


def _read_image_files(files: Files, image_shape: tuple[int, int, int], rules: ReadingRules) -> Tensor:
    """Decode all files, each of which must be of ``image_shape``: uint8 [n, c, h, w]. Raises DataError."""
    channels, height, width = image_shape
    path = files.path
    unreadable = [(name, f"it is {kind}, which cannot be read here") for name, kind in files.left_out if kind]
    if refused := [*files.refused, *unreadable]:
        name, reason = refused[0]
        raise DataError(f"{path}: {printable(name)} cannot be used: {reason} ({len(refused):,} such files)")
    if line := files.describe_left_out():
        print_once(printable(line))
    images, deep = [], list[DeepValues]()
    for name in files.images:
        where = printable(os.fspath(path / name))
        try:
            image, values = open_image(files.read(name, rules.max_bytes), name, rules)
        except (BadImageError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{where} cannot be used: {error}") from error
        except Exception as error:  # a damaged entry of a zip raises many kinds
            raise DataError(f"{where} cannot be read: {error}") from error
        deep = join_values([*deep, values]) if values else deep
        if image.size != (width, height):
            raise DataError(f"{where} is {image.width}x{image.height}; {width}x{height} are needed")
        pixels = np.array(image)
        if channels == 1 and pixels.ndim == 3:
            if (pixels != pixels[..., :1]).any():
                raise DataError(f"{where} has colours; the data set is grey, and to turn it grey would change it")
            pixels = pixels[..., 0]
        elif channels == 3 and pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        images.append(torch.from_numpy(pixels)[None] if channels == 1 else torch.from_numpy(pixels).movedim(-1, 0))
    if rules.value_range is None:
        check_values(deep, printable(os.fspath(path)), "--value_range")
    return torch.stack(images)


def _read_list(path: Path) -> tuple[ListedFiles, list[str] | None]:
    """The files that a CSV lists in its first column, and their classes where it has a second.

    A header may be left out. Paths are relative to the CSV's own folder, or absolute. Raises DataError.
    """
    rows, folder = read_rows(path), path.parent
    columns = 2
    if rows and not (folder / rows[0][0]).is_file() and suffix_of(rows[0][0]) not in IMAGE_SUFFIXES:
        columns, rows = len(rows[0]), rows[1:]  # a header
    for row in rows:
        check_row(path, row, columns)
    missing = [row[0] for row in rows if not (folder / row[0]).is_file()]
    if missing or not rows:
        first = "".join(missing[:1])
        lost = f"{len(missing):,} of the {len(rows):,} files that it lists are not there, the first is {first}"
        raise DataError(f"{path}: {lost if missing else 'it lists no file that is there'}. Paths start at {folder}/.")
    names = tuple(row[0] for row in rows)
    if len(set(names)) != len(names):
        raise DataError(f"{path} lists a file twice: {next(name for name in names if names.count(name) > 1)}")
    has_classes = all(len(row) > 1 and row[1] for row in rows)
    if not has_classes and any(len(row) > 1 and row[1] for row in rows):
        raise DataError(f"{path} gives a class to some of its files, and none to others")
    return ListedFiles(folder, names), [row[1] for row in rows] if has_classes else None


def _by_name(labels: Tensor, names: tuple[str, ...], class_names: tuple[str, ...], path: Path) -> Tensor:
    """Labels that index ``names`` as labels that index ``class_names``, int64 [n]. Raises DataError."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise DataError(f"{path} names {len(names)} classes, and has labels from {labels.min()} to {labels.max()}")
    used = labels.unique().tolist()
    if unknown := [names[label] for label in used if names[label] not in class_names]:
        raise DataError(f"{path} has classes that the data set does not have: {', '.join(unknown[:5])}")
    place = torch.zeros(len(names), dtype=torch.int64)
    place[used] = torch.tensor([class_names.index(names[label]) for label in used], dtype=torch.int64)
    return place[labels]


def _encode(classes: list[str], class_names: tuple[str, ...], path: Path) -> Tensor:
    """int64 [n]: the place of each class among ``class_names``. Raises DataError for a class that is none of them."""
    unknown = sorted({name for name in classes if _find_class(name, class_names) is None})
    if unknown:
        raise DataError(f"{path} has classes that the data set does not have: {', '.join(unknown[:5])}")
    return torch.tensor([_find_class(name, class_names) for name in classes])


def _find_class(name: str, class_names: tuple[str, ...]) -> int | None:
    """The place of a class: spelt exactly so, else the only one that differs in case or in how accents are stored."""
    if name in class_names:
        return class_names.index(name)
    alike = [index for index, known in enumerate(class_names) if folded(known) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def _classes_by_folder(path: Path, names: list[str], class_names: tuple[str, ...]) -> Tensor | None:
    """int64 [n] where every file lies in a folder that is named after a class, None where none does.

    Raises DataError where some do: all labels would be lost for one folder's name.
    """
    folders = [PurePosixPath(name).parent.name for name in names]
    known = {folder: _find_class(folder, class_names) for folder in set(folders)}
    strange = sorted(folder for folder, index in known.items() if index is None)
    if len(strange) == len(known):
        return None
    if strange:
        named = ", ".join(folder or "(none)" for folder in strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"{path} has images in folders named after classes and in others ({named}): name all of them after "
            "classes, or none"
        )
    return torch.tensor([known[folder] for folder in folders])
