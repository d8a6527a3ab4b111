"""How often each pixel value occurs, channel by channel: splits, or real and generated images, over each other."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from latentdiff.report.figure_style import FAINT, LINES, Format, Theme, legend_columns, new_panels, render, style

CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
# A peak this many times higher than nine tenths of the curve leaves nothing of it to be seen but on a log scale.
PEAK = 10


def draw_pixel_density(densities: dict[str, np.ndarray], theme: Theme = "light", format: Format = "svg") -> bytes:
    """One panel a channel, one line for each named density [c, 256]; all with as many channels."""
    channels = len(next(iter(densities.values())))
    names = CHANNELS.get(channels, tuple(f"channel {index}" for index in range(channels)))
    curves = np.stack(list(densities.values()))
    log = curves.max() > PEAK * np.quantile(curves, 0.9)
    with matplotlib.rc_context(style(theme)):
        columns = legend_columns(densities)
        rows = -(-len(densities) // columns)
        figure, axes = new_panels(0.7 + 0.2 * rows + 1.35 * channels, channels, 1, sharex=True)
        for channel, (panel, name) in enumerate(zip(axes, names, strict=True)):
            for index, (label, density) in enumerate(densities.items()):
                # Thinner on top, so that lines that agree are all seen.
                width = 3.2 - 2 * index / max(1, len(densities) - 1) if len(densities) > 1 else 2
                hue = LINES[index % len(LINES)]
                panel.plot(np.arange(256), density[channel], color=hue, linewidth=width, label=label, alpha=0.9)
            if log:
                panel.set_yscale("log")
            else:
                panel.set_ylim(0, 1.05 * curves[:, channel].max())
                panel.yaxis.set_major_locator(MaxNLocator(4))
            panel.set_xlim(-3, 258)
            panel.set_xticks([0, 64, 128, 192, 255])
            panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
            panel.grid(axis="y", color=FAINT[theme])
            panel.set_title(f"{name}, share of the pixels{', log scale' if log else ''}", loc="left")
        axes[-1].set_xlabel("value")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=columns)
        return render(figure, format)
