import io

import numpy as np
import pytest
from PIL import Image

from latentdiff.report.class_figure import class_distances_figure
from latentdiff.report.curves import losses, quality_over_images, quality_over_time
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.pixel_density import draw_pixel_density


@pytest.mark.parametrize("draw", [quality_over_time, quality_over_images, losses, class_distances_figure])
def test_svg_is_transparent_png_is_on_white_and_both_repeat(five, draw):
    evaluations = [read_evaluation(folder) for folder in five]
    light, dark, png = draw(evaluations), draw(evaluations, "dark"), draw(evaluations, format="png")
    assert light.startswith(b"<?xml")
    assert light != dark
    assert light == draw(evaluations)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert (pixels[0] == 255).all()
    assert pixels.min() < 64


@pytest.mark.parametrize("names", [("a", "b"), ("latent-20480-images", "pixel-300-seconds-a", "latent-300-seconds")])
def test_no_name_of_a_legend_is_cut_off(write, monkeypatch, names):
    figures = []
    for module in ("class_figure", "pixel_density"):
        monkeypatch.setattr(f"latentdiff.report.{module}.render", lambda figure, _: figures.append(figure) or b"")
    class_distances_figure([read_evaluation(write(name, "diffusion", 9.0)) for name in names])
    draw_pixel_density({name: np.full((1, 256), 1 / 256) for name in ("test images", "real", "noise", *names)})
    for figure in figures:
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box, whole = legend.get_window_extent(), figure.bbox
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert len(figures) == 2


@pytest.mark.parametrize("draw", [quality_over_time, quality_over_images, losses, class_distances_figure])
def test_nothing_to_draw_is_none(five, draw):
    assert draw([read_evaluation(five[2])]) is None  # Noise.


def test_empty_histories_are_skipped(write):
    def change(values):
        values["training"]["history"] = [{"images_seen": 5, "seconds": None, "distance": None}]

    assert quality_over_time([read_evaluation(write("latent", "diffusion", 9.0, 60.0, change=change))]) is None


def test_a_history_of_kid_serves_where_there_is_no_classifier(write):
    def change(values):
        values["training"]["history"] = [
            {"images_seen": k, "seconds": 9.0 * k, "kid": 1 / k - 0.3} for k in range(1, 5)
        ]

    evaluations = [read_evaluation(write("latent", "diffusion", 9.0, 60.0, change=change))]
    assert quality_over_time(evaluations)
    assert quality_over_images(evaluations)
    assert losses(evaluations) is None


def test_a_model_is_named_once_beside_its_two_losses(write, monkeypatch):
    def change(values):
        values["training"]["history"] = [{"images_seen": k, "loss": 1 / k, "val_loss": 2 / k} for k in range(1, 5)]

    figures = []
    monkeypatch.setattr("latentdiff.report.curves.render", lambda figure, _: figures.append(figure) or b"")
    losses([read_evaluation(write(name, "diffusion", 9.0, 60.0, change=change)) for name in ("a", "b")])
    (axes,) = figures[0].axes
    assert sorted(text.get_text() for text in axes.texts) == ["a", "b"]
    assert len([line for line in axes.lines if len(line.get_xdata()) == 4]) == 4
    assert "dashed: held out" in axes.get_title(loc="left")


def test_a_hundred_classes_and_any_name(write):
    def change(values):
        values["metrics"]["classifier"]["per_class_distance"] = {f"$x_{k}$ & <b>": float(k) for k in range(102)}

    folder = write("latent $^", "diffusion", 9.0, 60.0, change=change)
    few = class_distances_figure([read_evaluation(folder)], format="png")
    assert Image.open(io.BytesIO(few)).height < 1300
    assert quality_over_time([read_evaluation(folder)])


def test_a_class_that_one_model_lacks_is_drawn_as_unknown(five):
    pixel, latent = read_evaluation(five[3]), read_evaluation(five[1])
    before = class_distances_figure([pixel, latent])
    latent.values["metrics"]["classifier"]["per_class_distance"] = {"T-shirt": 1.0, "Bag": None}
    assert class_distances_figure([pixel, latent]) != before


def test_a_narrow_range_has_a_linear_axis_with_ticks(write):
    def change(values):
        values["training"]["history"] = [
            {"images_seen": k, "seconds": 10.0 * k, "distance": 3.3 + k / 10} for k in range(9)
        ]

    folder = write("latent", "diffusion", 9.0, 90.0, 40.0, change=change)
    assert quality_over_time([read_evaluation(folder)])
