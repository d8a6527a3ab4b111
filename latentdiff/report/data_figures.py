"""Figures of a data set: sizes of its files, classes, mean images, duplicates."""

from __future__ import annotations

from pathlib import PurePosixPath

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentdiff.report.figure_style import (
    FAINT,
    INK,
    LINES,
    SMALL,
    Format,
    Theme,
    new_figure,
    new_panels,
    render,
    style,
)

MOST_BARS = 25
MOST_PAIRS = 12
SHORT = 24  # Letters of a file's name above its image.


def draw_sizes(sizes: np.ndarray, theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Height against width, int64 [n, 2] in pixels, a dot for each size, larger for a frequent one; None for one size
    alone."""
    places, counts = np.unique(sizes, axis=0, return_counts=True)
    if len(places) == 1:
        return None
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(3.8)
        area = 6 + 150 * counts / counts.max()
        most = 1.06 * sizes.max()
        axes.plot([0, most], [0, most], color=FAINT[theme], linewidth=1.2)
        axes.annotate("square", (most, most), (-4, -6), textcoords="offset points", ha="right", va="top", size=SMALL)
        # As pixels where there are many, so that an SVG stays small.
        axes.scatter(*places.T, s=area, color=LINES[0], alpha=0.45, linewidths=0, rasterized=len(places) > 500)
        axes.set_xlim(0, most)
        axes.set_ylim(0, most)
        axes.set_aspect("equal")
        axes.grid()
        axes.set_xlabel("width, pixels")
        axes.set_title("height, pixels", loc="left")
        return render(figure, format)


def draw_classes(
    counts: dict[str, list[int]], names: list[str], theme: Theme = "light", format: Format = "svg"
) -> bytes | None:
    """Images of each class for each split: bars, or for many classes a profile from the largest to the smallest.

    None where there are no classes.
    """
    if not names:
        return None
    with matplotlib.rc_context(style(theme)):
        draw = _bars if len(names) <= MOST_BARS else _profile
        return render(draw(counts, names), format)


def _bars(counts: dict[str, list[int]], names: list[str]) -> Figure:
    thickness = 0.8 / len(counts)
    figure, axes = new_figure(0.6 + len(names) * (0.1 + 0.17 * len(counts)))
    for index, (split, values) in enumerate(counts.items()):
        rows = [row + (index - (len(counts) - 1) / 2) * thickness for row in range(len(names))]
        axes.barh(rows, values, height=0.85 * thickness, color=LINES[index], label=split)
        for row, value in zip(rows, values, strict=True):
            axes.annotate(f"{value:,}", (value, row), (3, 0), textcoords="offset points", va="center", size=SMALL)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(map(max, counts.values())))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _profile(counts: dict[str, list[int]], names: list[str]) -> Figure:
    figure, axes = new_figure(3.4)
    first = np.array(next(iter(counts.values())))
    order = np.argsort(-first, kind="stable")
    for index, (split, values) in enumerate(counts.items()):
        axes.step(np.arange(len(names)) + 1, np.array(values)[order], where="mid", color=LINES[index], label=split)
    axes.set_ylim(0, 1.18 * max(map(max, counts.values())))
    axes.set_xlim(0, len(names) + 1)
    place = {"textcoords": "offset points", "size": SMALL}
    for position, at, side in ((0, (4, 6), "left"), (-1, (0, 12), "right")):
        text = f"{names[order[position]]}, {first[order[position]]:,}"
        axes.annotate(text, (range(1, len(names) + 1)[position], first[order[position]]), at, ha=side, **place)
    axes.grid(axis="y")
    axes.set_xlabel(f"the {len(names)} classes, by their number of {next(iter(counts))} images")
    axes.set_title("images", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return figure


def draw_means(means: dict[str, Tensor], theme: Theme = "light", format: Format = "svg") -> bytes:
    """The mean image, uint8 [c, h, w], of each split, side by side."""
    with matplotlib.rc_context(style(theme)):
        # A place for three even where there are two, so that the images are of one size in all reports.
        figure, axes = new_panels(2.1, 1, max(3, len(means)))
        for panel in axes:
            panel.set_axis_off()
        for panel, (split, image) in zip(axes, means.items(), strict=False):
            _show(panel, image)
            panel.set_title(split)
        return render(figure, format)


def draw_pairs(
    pairs: list[tuple[str, str, Tensor, Tensor]], theme: Theme = "light", format: Format = "svg"
) -> bytes | None:
    """The first twelve pairs of images, each with the two captions (one line each) above it; None where there are none.

    Args:
        pairs: Caption and caption, image and image, uint8 [c, h, w].
        theme, format: As in :mod:`latentdiff.report.figure_style`.
    """
    if not pairs:
        return None
    pairs = pairs[:MOST_PAIRS]
    rows = -(-len(pairs) // 3)
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_panels(1.4 * rows, rows, 3)
        for panel in axes:
            panel.set_axis_off()
        for panel, (one, other, image, second) in zip(axes, pairs, strict=False):
            gap = np.full((image.shape[0], image.shape[1], max(1, image.shape[2] // 16)), np.nan)
            _show(panel, np.concatenate([image.numpy(), gap, second.numpy()], axis=2))
            panel.set_title(f"{one}\n{other}", size=SMALL, color=INK[theme], pad=3)
        return render(figure, format)


def short_name(name: str) -> str:
    """A file's name without its folders, its middle left out where it is long."""
    name = PurePosixPath(name).name
    return name if len(name) <= SHORT else f"{name[: SHORT // 2 - 1]}…{name[-SHORT // 2 :]}"


def _show(axes: Axes, image: Tensor | np.ndarray) -> None:
    """An image [c, h, w] of values up to 255; NaN is see-through."""
    values = np.asarray(image, dtype=np.float64) / 255
    alpha = np.where(np.isnan(values[:1]), 0.0, 1.0)
    picture = np.concatenate([np.nan_to_num(np.broadcast_to(values, (3, *values.shape[1:]))), alpha])
    axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
