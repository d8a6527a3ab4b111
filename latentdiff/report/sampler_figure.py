"""The figure of quality against sampling effort."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.ticker import LogLocator, NullFormatter

from latentdiff.report.figure_style import FAINT, LINES, Format, Theme, new_figure, render, style

NAMES_A_ROW = 3  # In the legend.


def sampler_figure(record: dict[str, Any], theme: Theme = "light", format: Format = "png") -> bytes:
    """:func:`quality_over_passes` of a ``samplers.json``."""
    series: dict[str, list[tuple[int, float]]] = {}
    for row in record["rows"]:
        series.setdefault(row["sampler"], []).append((row["passes"], row["distance_test"]))
    label = f"classifier distance, {record['num_images']:,} images"
    return quality_over_passes(series, label, record["floor"], theme, format)


def quality_over_passes(
    series: dict[str, list[tuple[int, float]]],
    label: str,
    floor: float | None = None,
    theme: Theme = "light",
    format: Format = "png",
) -> bytes:
    """Distance against network passes an image, both on log scales; one line for each sampler.

    Named in a legend, since solvers of one flow end at the same point, where labels would lie on each other.

    Args:
        series: For each sampler its points (passes, distance).
        label: What the distance is.
        floor: What real images reach: a dotted line.
        theme, format: As in :mod:`latentdiff.report.figure_style`.
    """
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(4.0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for (name, points), hue in zip(series.items(), LINES, strict=False):
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, color=hue, linewidth=1.8, marker="o", markersize=3.5, label=name)
        if floor:
            axes.axhline(floor, color=FAINT[theme], linestyle=(0, (1, 2)), linewidth=1.4)
            axes.annotate("real images", (axes.get_xlim()[0], floor), (4, -12), textcoords="offset points")
        axes.margins(x=0.05, y=0.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y")
        axes.set_xlabel("network passes an image")
        axes.set_title(label, loc="left")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=NAMES_A_ROW)
        return render(figure, format)
