"""What all figures share: colours, letters, and the bytes of an SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Theme = Literal["light", "dark"]
Format = Literal["svg", "png"]

INK = {"light": "#1d2127", "dark": "#e4e6ea"}
FAINT = {"light": "#c9cdd3", "dark": "#454b54"}
# Of several series, in this order.
LINES = ("#3a7fc4", "#cf6a1c", "#2a9187", "#b5485d", "#7d69c4", "#a8871a", "#6b7280", "#c026a3", "#0f766e", "#92400e")
WIDTH = 5.4  # Inches: no wider, so that the letters can still be read where a phone shrinks it to 330 points.
LETTERS, SMALL = 10.5, 8  # Points.
GAP = 0.08  # Least distance of two labels, as a share of the axes' height.


def style(theme: Theme) -> dict[str, Any]:
    """matplotlib's settings, for its ``rc_context``."""
    return {
        "font.size": LETTERS,
        "text.color": INK[theme],
        "text.parse_math": False,  # A dollar in a name is a dollar.
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "axes.edgecolor": FAINT[theme],
        "axes.labelcolor": INK[theme],
        "axes.titlesize": LETTERS,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "grid.color": FAINT[theme],
        "grid.linewidth": 0.6,
        "xtick.color": INK[theme],
        "xtick.major.size": 0,
        "ytick.color": INK[theme],
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.handlelength": 0.8,
        "legend.handleheight": 0.8,
        "legend.borderpad": 0,
        "legend.columnspacing": 1.2,
        "svg.hashsalt": "latentdiff",  # The same numbers give the same bytes.
    }


def new_figure(height: float) -> tuple[Figure, Axes]:
    """An empty figure of the page's width and this height in inches, with one pair of axes."""
    figure, (axes,) = new_panels(height, 1, 1)
    return figure, axes


def new_panels(height: float, rows: int, columns: int, **shared: bool) -> tuple[Figure, list[Axes]]:
    """The same with several, row by row; ``sharex`` and ``sharey`` as in matplotlib."""
    # A Figure of its own, not pyplot's: nothing global to clean up, and no display is looked for.
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def legend_columns(names: Iterable[str]) -> int:
    """How many names fit beside each other above a figure."""
    letter = 0.6 * LETTERS / 72  # Inches, of a wide one.
    longest = max(map(len, names), default=0)
    return max(1, int(WIDTH / (3 * letter + longest * letter)))


def label_ends(axes: Axes, ends: list[tuple[str, str, float, float]]) -> None:
    """Write each line's name at its end (name, hue, x, y), moved up where it would cover another."""
    axes.autoscale_view()  # Else the limits, and with them the shares, change when the figure is drawn.
    to_share = axes.transData + axes.transAxes.inverted()
    placed: list[tuple[float, float]] = []
    for name, hue, x, y in sorted(ends, key=lambda end: end[3]):
        across, up = to_share.transform((x, y))
        up = max([up, *(height + GAP for position, height in placed if abs(across - position) < 0.25)])
        placed.append((across, up))
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(name, (x, up), (7, 0), **place, color=hue, va="center", weight="bold")


def render(figure: Figure, format: Format) -> bytes:
    """The figure's file: an SVG on nothing, or a PNG on white; equal figures give equal bytes."""
    buffer = io.BytesIO()
    ground = {"facecolor": "white", "dpi": 180} if format == "png" else {"transparent": True}
    metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
    figure.savefig(buffer, format=format, metadata=metadata, **ground)
    return buffer.getvalue()
