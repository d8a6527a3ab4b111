"""How often each pixel value occurs, channel by channel: splits, or real and generated images, over each other."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from latentdiff.report.figure_style import FAINT, LINES, Format, Theme, legend_columns, panels, rendered, style

CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
CHUNK = 1000  # Images that are counted at a time.
# A peak this many times higher than nine tenths of the curve leaves nothing of it to be seen but on a log scale.
PEAK = 10


def pixel_density(images: Tensor) -> np.ndarray:
    """uint8 [n, c, h, w] -> fp64 [c, 256]: the share of a channel's pixels that have each value; rows sum to 1."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for chunk in images.split(CHUNK):
        for channel, values in enumerate(chunk.cpu().numpy().transpose(1, 0, 2, 3)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    return counts / counts.sum(1, keepdims=True)


def density_moments(density: np.ndarray) -> dict[str, list[float]]:
    """Of each channel of a density [c, 256]: ``mean`` and ``std`` in [0, 1], and the shares of 0 and of 255."""
    values = np.arange(256) / 255
    mean = density @ values
    std = np.sqrt((density * (values - mean[:, None]) ** 2).sum(1))
    return {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "share_of_0": density[:, 0].tolist(),
        "share_of_255": density[:, -1].tolist(),
    }


def draw_pixel_density(densities: dict[str, np.ndarray], theme: Theme = "light", format: Format = "svg") -> bytes:
    """One panel a channel, one line for each named density [c, 256]; all with as many channels."""
    channels = len(next(iter(densities.values())))
    names = CHANNELS.get(channels, tuple(f"channel {index}" for index in range(channels)))
    curves = np.stack(list(densities.values()))
    log = curves.max() > PEAK * np.quantile(curves, 0.9)
    with matplotlib.rc_context(style(theme)):
        columns = legend_columns(densities)
        rows = -(-len(densities) // columns)
        figure, axes = panels(0.7 + 0.2 * rows + 1.35 * channels, channels, 1, sharex=True)
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
        return rendered(figure, format)
