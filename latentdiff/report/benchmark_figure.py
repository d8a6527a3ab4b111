"""The figure of a benchmark: how many times faster, and what was to be reached."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.ticker import LogLocator, NullFormatter

from latentdiff.report.canvas import FAINT, INK, LINES, SMALL, Format, Theme, canvas, rendered, style


def benchmark_figure(record: dict[str, Any], theme: Theme = "light", format: Format = "png") -> bytes:
    """The ratios of a ``benchmark.json``, ours over theirs on a log scale, a line each, grouped by part.

    A dot is a ratio, its hue whom it is against; a small bar is the target, a dashed line where both are equal.
    """
    lines = [(row, name, ratio) for row in record["rows"] for name, ratio in row["ratios"].items()]
    names = list(dict.fromkeys(name for _, name, _ in lines))
    hues = {name: LINES[index % len(LINES)] for index, name in enumerate(names)}
    with matplotlib.rc_context(style(theme)):
        figure, axes = canvas(0.9 + 0.19 * len(lines))
        axes.set_xscale("log")
        axes.axvline(1.0, color=INK[theme], linestyle=(0, (3, 3)), linewidth=0.8)
        labels = []
        for height, (row, name, ratio) in enumerate(lines):
            first = height == 0 or lines[height - 1][0] is not row
            labels.append(row["what"] if first else "")
            axes.plot(ratio, height, "o", color=hues[name], markersize=5)
            if name in row["verdicts"]:
                axes.plot(row["target"]["at_least"], height, "|", color=INK[theme], markersize=9)
            if height and lines[height - 1][0]["part"] != row["part"]:
                axes.axhline(height - 0.5, color=FAINT[theme], linewidth=0.6)
        for name in names:
            axes.plot([], [], "o", color=hues[name], markersize=5, label=name)
        axes.set_yticks(range(len(lines)), labels, fontsize=SMALL)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="x")
        axes.set_xlabel("times better than")
        figure.legend(loc="outside upper left", ncols=3, fontsize=SMALL)
        return rendered(figure, format)
