from __future__ import annotations

import numpy as np
import pytest
import torch

from latentdiff.data.statistics import density_moments, pixel_density
from latentdiff.report.pixel_density import draw_pixel_density


def test_density_and_moments_are_those_of_the_pixels():
    images = torch.randint(0, 256, (1300, 3, 6, 5), dtype=torch.uint8)
    images[:, 1] = images[:, 1] // 2
    density, values = pixel_density(images), images.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    assert density.shape == (3, 256)
    assert density.sum(1) == pytest.approx(np.ones(3))
    assert density[2, 17] == pytest.approx((values[2] == 17).mean())
    moments = density_moments(density)
    assert moments["mean"] == pytest.approx(values.mean(1) / 255)
    assert moments["std"] == pytest.approx(values.std(1) / 255)
    assert moments["share_of_0"] == pytest.approx((values == 0).mean(1))
    assert moments["share_of_255"] == pytest.approx((values == 255).mean(1))


def test_figure_has_a_panel_a_channel_and_a_log_scale_only_for_a_peak(monkeypatch):
    figures = []
    monkeypatch.setattr("latentdiff.report.pixel_density.render", lambda figure, _: figures.append(figure) or b"")
    even = np.full((3, 256), 1 / 256)
    black = np.full((1, 256), 0.1 / 255)
    black[:, 0] = 0.9
    draw_pixel_density({"real": even, "generated": even})
    draw_pixel_density({"train": black})
    colour, grey = figures
    assert [axes.get_title(loc="left").split(",")[0] for axes in colour.axes] == ["red", "green", "blue"]
    assert [line.get_label() for line in colour.axes[0].lines] == ["real", "generated"]
    assert [axes.get_yscale() for axes in (*colour.axes, *grey.axes)] == ["linear"] * 3 + ["log"]
