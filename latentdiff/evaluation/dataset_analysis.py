"""What a data set holds, as one page."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from latentdiff import __version__
from latentdiff.checkpoint import environment
from latentdiff.config import DataConfig, to_dict
from latentdiff.config.tool_stages import AnalyseStage
from latentdiff.data import ImageDataset, NoSplitError, array_shapes, load_split, open_files
from latentdiff.data.duplicates import THUMBNAIL, Duplicates, digest_files, find_duplicates
from latentdiff.data.files import Files
from latentdiff.data.messages import printable
from latentdiff.data.splits import SPLITS
from latentdiff.data.statistics import (
    class_counts,
    density_moments,
    describe_sizes,
    mean_image,
    pixel_density,
    read_sizes,
)
from latentdiff.errors import ConfigError
from latentdiff.report.data_page import Shown, finding, sentences, write_data_page
from latentdiff.report.grids import grid
from latentdiff.runs import run_folder

COLUMNS = 8  # Of a grid of samples.


def analyse_dataset(config: AnalyseStage, command: str = "") -> Path:
    """Analyse all splits that the data set has; return the run's folder."""
    if config.samples < 1 or config.listed < 0 or not 0 <= config.near < 1:
        raise ConfigError("samples must be at least 1, listed at least 0, and near at least 0 and below 1")
    if config.threads:
        torch.set_num_threads(config.threads)
    splits: dict[str, ImageDataset] = {}
    for split in SPLITS:
        with suppress(NoSplitError):
            splits[split] = load_split(config.data, split)
    if not splits:
        load_split(config.data, "train")  # says why there is none
    first = next(iter(splits.values()))
    files, arrays = open_files(config.data), array_shapes(config.data)
    run = run_folder.numbered(config.run, "analyse", first.name)
    with run_folder.opened(run, "analyse", first.name, config) as folder:
        record, shown = _analyse(config, splits, files, arrays, command)
        page = write_data_page(record, shown, folder)
    for data in splits.values():
        print(data.describe())
    print(finding(record))
    for sentence in sentences(record):
        print(f"  {sentence}")
    print(f"{sum(record['seconds'].values()):.1f} s\n{page}")
    return folder


def _analyse(
    config: AnalyseStage,
    splits: dict[str, ImageDataset],
    files: Files | None,
    arrays: dict[str, tuple[int, int, int]],
    command: str,
) -> tuple[dict[str, Any], Shown]:
    """The numbers, and what the page shows beside them."""
    first, start, seconds = next(iter(splits.values())), time.perf_counter(), {}

    def lap(name: str) -> None:
        seconds[name] = time.perf_counter() - start - sum(seconds.values())

    names = [name for data in splits.values() for name in data.files or [""] * len(data)]
    sizes = read_sizes(files, filter(None, names)) if files is not None else None
    lap("sizes")
    described = {name: _describe(data) for name, data in splits.items()}
    means = {name: mean_image(data.images) for name, data in splits.items()}
    lap("pixels")
    digests = digest_files(files, names) if files is not None else None
    found = find_duplicates([data.images for data in splits.values()], digests, config.near, config.listed)
    lap("duplicates")
    record: dict[str, Any] = {
        "schema": 1,
        "name": first.name,
        "data": to_dict(config.data),
        "image_shape": list(first.image_shape),
        "class_names": list(first.class_names),
        "files": files is not None,
        "sizes": None if sizes is None else describe_sizes(sizes),
        "arrays": {name: list(shape) for name, shape in arrays.items()},
        "crop": _crop(config.data, first.image_shape[-1], {shape[-1] for shape in arrays.values()}, files is not None),
        "splits": described,
        "seed": config.seed,
        "duplicates": {
            "threshold": config.near,
            "thumbnail": min(THUMBNAIL, *first.image_shape[1:]),
            "listed": config.listed,
            **_duplicates(found, splits),
        },
        "seconds": seconds,
        "environment": environment(),
        "version": __version__,
        "command": command,
    }
    shown = Shown(
        sizes,
        means,
        {name: _sample(data, config) for name, data in splits.items()},
        [tuple(_at(splits, place)[1] for place in (pair.first, pair.second)) for pair in found.pairs],
    )
    return record, shown


def _describe(data: ImageDataset) -> dict[str, Any]:
    counts, density = class_counts(data), pixel_density(data.images)
    ends = {}
    if counts:
        # Of equal ones the first of the largest and the last of the smallest, as a sorted profile has them at its ends.
        order = sorted(range(len(counts)), key=counts.__getitem__, reverse=True)
        for name, index in (("smallest_class", order[-1]), ("largest_class", order[0])):
            alike = counts.count(counts[index]) - 1
            ends[name] = {"name": data.class_names[index], "n": counts[index], "as_many_in_others": alike}
    return {
        "n": len(data),
        "description": data.describe(),
        "source": data.source,
        "fingerprint": data.fingerprint,
        "class_counts": counts,
        **ends,
        "pixels": density_moments(density),
        "density": density.tolist(),
    }


def _duplicates(found: Duplicates, splits: dict[str, ImageDataset]) -> dict[str, Any]:
    """What was found, with names for numbers."""
    names = list(splits)
    places = [(a, b) for a in range(len(names)) for b in range(a, len(names))]

    def words(place: tuple[int, int]) -> str:
        a, b = place
        return names[a] if a == b else f"{names[a]} and {names[b]}"

    def image(place: int) -> dict[str, Any]:
        data, _, index = _at(splits, place)
        label = data.class_names[int(data.labels[index])] if data.class_names else None
        name = printable(data.files[index] if data.files else "") or f"#{index}"
        return {"split": data.split, "index": index, "file": name, "class": label}

    return {
        "places": [words(place) for place in places],
        "across_splits": [words((a, b)) for a, b in places if a != b],
        "counts": {
            kind: {words(place): number for place, number in sorted(counts.items())}
            for kind, counts in found.counts.items()
        },
        "mirrored": found.mirrored,
        "flat": found.flat,
        "pairs": [
            {
                "kind": pair.kind,
                "distance": pair.distance,
                "mirrored": pair.mirrored,
                "first": image(pair.first),
                "second": image(pair.second),
            }
            for pair in found.pairs
        ],
    }


def _at(splits: dict[str, ImageDataset], place: int) -> tuple[ImageDataset, Any, int]:
    """The split, the image and its index there, by its place in all splits one after the other."""
    for data in splits.values():
        if place < len(data):
            return data, data.images[place], place
        place -= len(data)
    raise IndexError(place)


def _crop(data: DataConfig, size: int, array_sizes: set[int], files: bool) -> str:
    """What happens to the images on their way to the network, and why, in words."""
    where = "middle" if data.crop == "center" else f"longer side, at a place drawn by seed {data.split_seed},"
    resized = f"resized to {size}×{size} with antialiasing"
    told = []
    if files:
        told.append(
            f"The networks take squares: of a file, that of the shorter side is cut from the {where} and {resized}."
        )
    if array_sizes:
        told.append("Arrays are neither cut nor resized." if array_sizes == {size} else f"Arrays are {resized}.")
    return " ".join(told)


def _sample(data: ImageDataset, config: AnalyseStage) -> bytes:
    """A PNG of a seeded choice of images, in their order."""
    generator = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(data), generator=generator)[: config.samples].sort().values
    buffer = io.BytesIO()
    Image.fromarray(grid(data.images[chosen], COLUMNS)).save(buffer, "png")
    return buffer.getvalue()
