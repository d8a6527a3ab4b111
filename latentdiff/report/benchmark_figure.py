"""Draw the figure of a benchmark: ratios and their targets."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.ticker import LogLocator, NullFormatter

from latentdiff.report.figure_style import FAINT, INK, LINES, SMALL, Format, Theme, new_figure, render, style


def benchmark_figure(record: dict[str, Any], theme: Theme = "light", format: Format = "png") -> bytes:
    """Draw the ratios of a ``benchmark.json`` on a log scale, a line each, under their part.

    A dot is a ratio; its colour stands for the other implementation. A small bar is the target. At the dashed line both
    implementations are equal.
    """
    compared = [measurement for measurement in record["measurements"] if measurement["ratios"]]
    parts = {measurement["part"] for measurement in compared}
    names = list(dict.fromkeys(name for measurement in compared for name in measurement["ratios"]))
    colours = {name: LINES[index % len(LINES)] for index, name in enumerate(names)}
    count = len(parts) + sum(len(measurement["ratios"]) for measurement in compared)
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(0.9 + 0.19 * count)
        axes.set_xscale("log")
        axes.axvline(1.0, color=INK[theme], linestyle=(0, (3, 3)), linewidth=0.8)
        labels: list[str] = []
        part = ""
        for measurement in compared:
            if measurement["part"] != part:
                part = measurement["part"]
                axes.axhline(len(labels) - 0.5, color=FAINT[theme], linewidth=0.6)
                labels.append(part)
            first, *_ = measurement["ratios"]
            for name, ratio in measurement["ratios"].items():
                axes.plot(ratio, len(labels), "o", color=colours[name], markersize=5)
                if name in measurement["verdicts"]:
                    axes.plot(measurement["target"]["min_ratio"], len(labels), "|", color=INK[theme], markersize=9)
                labels.append(measurement["name"] if name == first else "")
        for name in names:
            axes.plot([], [], "o", color=colours[name], markersize=5, label=name)
        axes.set_yticks(range(count), labels, fontsize=SMALL)
        for label in axes.get_yticklabels():
            label.set_weight("bold" if label.get_text() in parts else "normal")
        axes.set_ylim(count - 0.5, -0.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="x")
        axes.set_xlabel("times better than")
        figure.legend(loc="outside upper left", ncols=3, fontsize=SMALL)
        return render(figure, format)
