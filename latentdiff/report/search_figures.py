"""Figures of a search: every trial over all that was chosen, the trials in their order, and what mattered."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from latentdiff.report.figure_style import FAINT, INK, LINES, SMALL, WIDTH, Format, Theme, new_figure, render, style

QUALITIES = {"distance": "classifier distance", "kid": "KID"}
BEST, GOOD = LINES[1], LINES[0]
# Share of the trials that are drawn in colour.
GOOD_SHARE = 0.1
ROW = 0.7  # Inches of an axis of the parallel coordinates.
# Choices, of which more would not be readable beneath an axis.
LONGEST_CHOICES = 60
# Of the page, around letters that lines cross.
GROUND = {"light": "#fbfbfa", "dark": "#15181c"}


def parallel_coordinates(record: dict[str, Any], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """Every complete trial as a line over an axis for each thing that was chosen, and the figure it reached below.

    The axes lie: their names may be long. The best trial has dots, the best tenth is in colour. None without two
    complete trials.

    Args:
        record: A search's ``search.json``.
        theme, format: As in :mod:`latentdiff.report.figure_style`.
    """
    trials = sorted(_complete(record), key=lambda trial: trial["value"])
    if len(trials) < 2:
        return None
    names = list(record["space"])
    with matplotlib.rc_context(style(theme)):
        figure = Figure(figsize=(WIDTH, ROW * (len(names) + 1) + 0.5), layout="constrained")
        axes = figure.subplots()
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(len(names) + 0.55, -0.6)
        axes.set_axis_off()
        for row, name in enumerate(names):
            _draw_axis(axes, row, name, _ticks(record["space"][name]), theme)
        low, high = (float(trials[index]["value"]) for index in (0, -1))
        quality = QUALITIES.get(record["metric"], record["metric"])
        ends = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
        _draw_axis(axes, len(names), f"{quality}, the best on the left", ends, theme)
        good = math.ceil(GOOD_SHARE * len(trials))
        for place in reversed(range(len(trials))):
            trial = trials[place]
            xs = [_place(record["space"][name], trial["values"].get(name)) for name in names]
            xs.append((trial["value"] - low) / (high - low) if high > low else 0.0)
            points = [(x, y) for y, x in enumerate(xs) if x is not None]
            look = {"color": FAINT[theme], "linewidth": 0.8}
            if place < good:
                look = {"color": GOOD, "linewidth": 1.6}
            if place == 0:
                look = {"color": BEST, "linewidth": 2.2, "marker": "o", "markersize": 5}
            axes.plot([x for x, _ in points], [y for _, y in points], clip_on=False, **look)
        return render(figure, format)


def history(record: dict[str, Any], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """What each trial reached, in their order, and the best so far as a line. None without a complete trial.

    A trial that was ended early is a cross at its last look. A figure at an early look is worse than the same trial's
    at its end would be.
    """
    complete = _complete(record)
    if not complete:
        return None
    pruned = [
        (trial["number"], list(trial["looks"].values())[-1])
        for trial in record["trials"]
        if trial["state"] == "pruned" and trial["looks"]
    ]
    best, steps = math.inf, []
    for trial in sorted(complete, key=lambda trial: trial["number"]):
        best = min(best, trial["value"])
        steps.append((trial["number"], best))
    steps.append((max(trial["number"] for trial in record["trials"]), best))
    values = [trial["value"] for trial in complete] + [value for _, value in pruned]
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(3.4)
        scale = "log" if max(values) > 5 * min(values) > 0 else "linear"
        axes.set_yscale(scale)
        axes.step(*zip(*steps, strict=True), where="post", color=BEST, linewidth=1.8, label="best so far")
        points = [(trial["number"], trial["value"]) for trial in complete]
        axes.plot(*zip(*points, strict=True), "o", color=GOOD, markersize=5, label="complete trial")
        if pruned:
            axes.plot(*zip(*pruned, strict=True), "x", color=INK[theme], markersize=5, label="ended early")
        axes.margins(x=0.03, y=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if scale == "log" else MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y")
        axes.set_xlabel("trial")
        axes.set_title(f"{QUALITIES.get(record['metric'], record['metric'])}, {scale} scale", loc="left")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return render(figure, format)


def importance(record: dict[str, Any], theme: Theme = "light", format: Format = "svg") -> bytes | None:
    """How much each thing that was chosen decides whether a trial is among the best, as bars. None where not known."""
    found = record["importance"]
    if not found:
        return None
    names = sorted(found, key=found.get)
    with matplotlib.rc_context(style(theme)):
        figure, axes = new_figure(0.5 + 0.32 * len(names))
        bars = axes.barh(names, [found[name] for name in names], color=GOOD, height=0.6)
        axes.bar_label(bars, [f"{found[name]:.0%}" for name in names], padding=4)
        axes.set_xlim(0, 1.15 * max(found.values()))
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        return render(figure, format)


def _complete(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in record["trials"] if trial["state"] == "complete"]


def _draw_axis(axes: Axes, row: int, name: str, ticks: list[tuple[float, str]], theme: Theme) -> None:
    """An axis from left to right, its name above, its ticks beneath."""
    axes.plot([0, 1], [row, row], color=INK[theme], linewidth=0.8, alpha=0.6)
    letters = {"color": INK[theme], "textcoords": "offset points", "zorder": 3}
    letters["path_effects"] = [withStroke(linewidth=3, foreground=GROUND[theme])]
    axes.annotate(name, (0, row), (0, 5), weight="bold", size=SMALL + 1, **letters)
    for x, text in ticks:
        place = "left" if x < 0.02 else "right" if x > 0.98 else "center"
        axes.plot([x], [row], "|", color=INK[theme], markersize=6)
        axes.annotate(text, (x, row), (0, -5), ha=place, va="top", size=SMALL, **letters)


def _ticks(dimension: dict[str, Any]) -> list[tuple[float, str]]:
    """Where an axis has ticks, from 0 to 1, and their texts."""
    if "choices" in dimension:
        choices = list(dimension["choices"])
        longest = max(1, LONGEST_CHOICES // len(choices))
        texts = [text if len(text) <= longest else f"{text[: longest - 1]}…" for text in choices]
        return [(_place(dimension, choice) or 0.0, text) for choice, text in zip(choices, texts, strict=True)]
    return [(0.0, f"{dimension['low']:g}"), (1.0, f"{dimension['high']:g}")]


def _place(dimension: dict[str, Any], value: Any) -> float | None:
    """Where a value lies on its axis, from 0 to 1; None for a value that the space has no more."""
    if value is None:
        return None
    if "choices" in dimension:
        choices = list(dimension["choices"])
        return choices.index(value) / (len(choices) - 1) if value in choices else None
    low, high = dimension["low"], dimension["high"]
    if dimension["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)
