"""A data set's analysis as files: a self-contained page, its figures as PNGs, and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from latentdiff import __version__
from latentdiff.folder_mark import write_files
from latentdiff.report.data_figures import draw_classes, draw_means, draw_pairs, draw_sizes, short_name
from latentdiff.report.formats import percent, shape_text
from latentdiff.report.page import templates
from latentdiff.report.pictures import Picture, image_grid, plot
from latentdiff.report.pixel_density import draw_pixel_density

KINDS = {"file": "the same file", "pixels": "the same pixels", "near": "nearly the same"}


@dataclass(frozen=True)
class Shown:
    """What the page shows and the JSON does not hold.

    Attributes:
        sizes: Widths and heights of the files, int64 [n, 2]; None where there are none.
        means: The mean image, uint8 [c, h, w], of each split.
        grids: A PNG of some images of each split.
        pairs: The images, uint8 [c, h, w], of the pairs in ``record["duplicates"]["pairs"]``.
    """

    sizes: np.ndarray | None
    means: dict[str, Tensor]
    grids: dict[str, bytes]
    pairs: list[tuple[Tensor, Tensor]]


def write_data_page(record: dict[str, Any], shown: Shown, folder: Path) -> Path:
    """Write ``index.html``, ``analysis.json`` and the PNGs into ``folder``; return the page's path.

    Args:
        record: The numbers, as :mod:`latentdiff.stages.analyse` gathers them.
        shown: The pictures.
        folder: Created if need be.
    """
    plots = _plots(record, shown)
    grids = [
        image_grid(
            split,
            f"Some of its {record['splits'][split]['n']:,} images, drawn by seed {record['seed']}.",
            png,
            f"samples-{split}",
        )
        for split, png in shown.grids.items()
    ]
    content = {
        "title": f"The data set {record['name']}",
        "finding": finding(record),
        "sentences": sentences(record),
        "splits": _split_rows(record),
        "plots": plots,
        "grids": grids,
        "counts": _count_rows(record),
        "pairs": _pair_rows(record),
        "listed": record["duplicates"]["listed"],
        "notes": _notes(record),
        "command": record["command"],
        "version": __version__,
    }
    files = {picture.file: picture.data for picture in (*plots, *grids)}
    files["analysis.json"] = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False).encode()
    files["index.html"] = templates().get_template("data.html.j2").render(content).encode()
    write_files(folder, files, "analyse")
    return folder / "index.html"


def finding(record: dict[str, Any]) -> str:
    """The data set in one sentence."""
    parts = [f"{split['n']:,} {name}" for name, split in record["splits"].items()]
    amounts = " and ".join(([", ".join(parts[:-1])] if parts[1:] else []) + parts[-1:])
    classes = f"{len(record['class_names'])} classes" if record["class_names"] else "no classes"
    return f"{record['name']}: {amounts} images of {shape_text(record['image_shape'])}, {classes}."


def sentences(record: dict[str, Any]) -> list[str]:
    """What there is to know before training on it, the same on the screen and on the page."""
    lines = [_of_sizes(record)]
    first, split = next(iter(record["splits"].items()))
    if record["class_names"]:
        small, large = split["smallest_class"], split["largest_class"]
        lines.append(
            f"Every class of {first} has {large['n']:,} images."
            if small["n"] == large["n"]
            else f"Largest class of {first}: {_class(large)}; smallest: {_class(small)}."
        )
    mean, std = (np.round(split["pixels"][key], 3).tolist() for key in ("mean", "std"))
    lines.append(f"Pixels of {first}, in [0, 1]: mean {_list(mean)}, standard deviation {_list(std)}.")
    counts = record["duplicates"]["counts"]
    total = {kind: sum(found.values()) for kind, found in counts.items()}
    totals = [f"{total['file']:,} of the same file"] if record["files"] else []
    totals.append(f"{total['pixels']:,} of the same pixels{' in other files' if totals else ''}")
    if record["duplicates"]["threshold"]:
        mirrored = record["duplicates"]["mirrored"]
        totals.append(f"{total['near']:,} nearly the same" + (f" ({mirrored:,} mirrored)" if mirrored else ""))
    lines.append(f"Pairs of duplicates: {', '.join(totals)}.")
    across = {
        place: sum(counts[kind].get(place, 0) for kind in counts) for place in record["duplicates"]["across_splits"]
    }
    if any(across.values()):
        where = ", ".join(f"{number:,} in {place}" for place, number in across.items() if number)
        lines.append(f"Of these across splits, where they can make a test easier than it looks: {where}.")
    torn = [pair for pair in record["duplicates"]["pairs"] if pair["first"]["class"] != pair["second"]["class"]]
    if torn:
        one, other = torn[0]["first"], torn[0]["second"]
        lines.append(
            f"Of two classes, so perhaps wrongly labelled: {len(torn):,} of the listed pairs, first "
            f"{one['file']} ({one['class']}) and {other['file']} ({other['class']})."
        )
    return lines


def _of_sizes(record: dict[str, Any]) -> str:
    told = [f"{name} comes in arrays of {shape_text(shape)}." for name, shape in record["arrays"].items()]
    sizes = record["sizes"]
    if not sizes:
        return " ".join([*told, record["crop"]])
    shapes = ", ".join(f"{percent(sizes[key])} {key}" for key in ("portrait", "landscape", "square") if sizes[key])
    told.append(f"Files are {_span(sizes['width'])} pixels wide and {_span(sizes['height'])} high: {shapes}.")
    kept = sizes["kept_area"]
    least = "" if kept["mean"] - kept["minimum"] < 5e-4 else f" on average, at least {percent(kept['minimum'])}"
    return " ".join([*told, record["crop"], f"The cut keeps {percent(kept['mean'])} of an image's area{least}."])


def _class(end: dict[str, Any]) -> str:
    others = end["as_many_in_others"]
    return f"{end['name']}, {end['n']:,} images" + (f" (as {others:,} others)" if others else "")


def _span(side: dict[str, Any]) -> str:
    low, high = side["minimum"], side["maximum"]
    return str(low) if low == high else f"{low}–{high} (median {side['median']:g})"


def _list(values: list[float]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def _split_rows(record: dict[str, Any]) -> list[list[str]]:
    classes = ["Smallest class", "Largest class"] if record["class_names"] else []
    rows = [["Split", "Images", *classes, "Mean", "Std", "Fingerprint"]]
    for name, split in record["splits"].items():
        pixels = split["pixels"]
        ends = (split["smallest_class"], split["largest_class"]) if classes else ()
        rows.append(
            [
                name,
                f"{split['n']:,}",
                *(f"{end['name']}, {end['n']:,}" for end in ends),
                *(" / ".join(f"{value:.3f}" for value in pixels[key]) for key in ("mean", "std")),
                split["fingerprint"],
            ]
        )
    return rows


def _count_rows(record: dict[str, Any]) -> list[list[str]]:
    counts, places = record["duplicates"]["counts"], record["duplicates"]["places"]
    rows = [["Pairs", *places, "all"]]
    for kind, text in KINDS.items():
        values = [counts[kind].get(place, 0) for place in places]
        looked = kind == "pixels" or (record["files"] if kind == "file" else record["duplicates"]["threshold"])
        rows.append([text, *(f"{value:,}" if looked else "–" for value in (*values, sum(values)))])
    return rows


def _pair_rows(record: dict[str, Any]) -> list[list[str]]:
    rows = [["Kind", "First", "Second", "Classes", "Distance"]]
    for pair in record["duplicates"]["pairs"]:
        images = pair["first"], pair["second"]
        classes = list(dict.fromkeys(image["class"] for image in images if image["class"]))
        rows.append(
            [
                KINDS[pair["kind"]] + (", mirrored" if pair["mirrored"] else ""),
                *(f"{image['split']}: {image['file']}" for image in images),
                " | ".join(classes) or "–",
                f"{pair['distance']:.3f}" if pair["kind"] == "near" else "0",
            ]
        )
    return rows


def _notes(record: dict[str, Any]) -> dict[str, str]:
    duplicates = record["duplicates"]
    notes = {split: f"{values['description']}." for split, values in record["splits"].items() if values["description"]}
    notes["The crop"] = record["crop"]
    notes["Duplicates"] = (
        "Each pair counts once, under the first that fits: byte-identical files; squares whose pixels are equal after "
        "the crop; and nearly the same. Three equal images are three pairs."
    )
    if duplicates["threshold"]:
        side = duplicates["thumbnail"]
        notes["Nearly the same"] = (
            f"Greyscale thumbnails of {side}×{side}, each brought to mean 0 and standard deviation 1, whose root mean "
            f"squared difference is at most {duplicates['threshold']:g}, the second as it is or mirrored. Unrelated "
            "images are about 1.4 apart. Photographs so near are one photograph, re-encoded or retouched, or two of a "
            "series; plain objects on a plain ground, such as trousers or digits, can be so near and still be two. One "
            "photograph cut differently, by as little as a pixel in sixty, is further apart and is not found."
        )
    if duplicates["flat"]:
        notes["Flat images"] = (
            f"{duplicates['flat']:,} images are of one grey all over, without a contrast to compare: near nothing."
        )
    return notes


def _plots(record: dict[str, Any], shown: Shown) -> list[Picture]:
    splits, sizes, names = record["splits"], shown.sizes, record["class_names"]
    counts = {name: split["class_counts"] for name, split in splits.items()}
    densities = {name: np.array(split["density"]) for name, split in splits.items()}
    pairs = [
        (_caption(pair["first"]), _caption(pair["second"]), *images)
        for pair, images in zip(record["duplicates"]["pairs"], shown.pairs, strict=True)
    ]
    drawn: list[tuple[str, str, Callable[..., bytes | None] | None, str]] = [
        (
            "Sizes of the files",
            "A dot for each size that occurs, the larger the more images have it. The crop takes away more the further "
            "a dot is from the line.",
            partial(draw_sizes, sizes) if sizes is not None else None,
            "sizes.png",
        ),
        (
            "Images of each class",
            "The smallest and the largest class are named in the table above.",
            partial(draw_classes, counts, names),
            "classes.png",
        ),
        (
            "Pixel values",
            "The share of a channel's pixels that have each value, the splits over each other. Where the lines part, "
            "the splits differ; peaks at the ends are pixels that were clipped, or black and white grounds.",
            partial(draw_pixel_density, densities),
            "density.png",
        ),
        (
            "Mean images",
            "The average of all images of a split: sharp where they agree.",
            partial(draw_means, shown.means),
            "means.png",
        ),
        (
            "Duplicates",
            "The first of the pairs listed below, the first of each pair on the left.",
            partial(draw_pairs, pairs),
            "duplicates.png",
        ),
    ]
    found = [plot(title, caption, draw, file) for title, caption, draw, file in drawn if draw is not None]
    return [picture for picture in found if picture is not None]


def _caption(image: dict[str, Any]) -> str:
    return f"{image['split']} {short_name(image['file'])}"
