from __future__ import annotations

import numpy as np
import pytest
import torch

from latentdiff.report import data_figures
from latentdiff.report.data_figures import draw_classes, draw_means, draw_pairs, draw_sizes, short_name


@pytest.fixture
def drawn(monkeypatch):
    """The figures in place of their bytes."""
    figures = []
    monkeypatch.setattr(data_figures, "render", lambda figure, _: figures.append(figure) or b"drawn")
    return figures


def test_a_dot_for_each_size_and_no_figure_for_one_size(drawn):
    assert draw_sizes(np.array([[30, 20]] * 5)) is None
    draw_sizes(np.array([[30, 20]] * 5 + [[20, 40]]))
    dots = drawn[0].axes[0].collections[0]
    assert dots.get_offsets().tolist() == [[20, 40], [30, 20]]
    assert dots.get_sizes()[1] > dots.get_sizes()[0]


def test_few_classes_are_bars_and_many_a_sorted_profile_with_its_ends_named(drawn):
    assert draw_classes({"train": []}, []) is None
    draw_classes({"train": [3, 5], "test": [1, 2]}, ["a", "b"])
    assert sorted(bar.get_width() for bar in drawn[0].axes[0].patches) == [1, 2, 3, 5]
    counts = np.random.default_rng(0).permutation(40) + 10
    draw_classes({"train": counts.tolist(), "test": (100 - counts).tolist()}, [f"class{i}" for i in range(40)])
    train, test = drawn[1].axes[0].lines
    assert train.get_ydata().tolist() == sorted(counts, reverse=True)
    assert test.get_ydata().tolist() == sorted(100 - counts)  # in the order of the training images
    texts = [text.get_text() for text in drawn[1].axes[0].texts]
    assert texts == [f"class{counts.argmax()}, 49", f"class{counts.argmin()}, 10"]


def test_images_are_shown_as_they_are(drawn):
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    draw_means({"train": image, "test": image[:1]})
    shown = np.asarray(drawn[0].axes[0].images[0].get_array())
    assert np.allclose(shown[..., :3] * 255, image.permute(1, 2, 0))
    draw_pairs([("a", "b", image, image.flip(2))] * 20)
    pair = np.asarray(drawn[1].axes[0].images[0].get_array())
    assert np.allclose(pair[:, :8, :3] * 255, image.permute(1, 2, 0))
    assert np.allclose(pair[:, 9:, :3], pair[:, 7::-1, :3])
    assert not pair[:, 8, 3].any()
    assert sum(bool(axes.images) for axes in drawn[1].axes) == data_figures.MOST_PAIRS
    assert draw_pairs([]) is None


def test_long_names_lose_their_middle():
    assert short_name("a/b/c.jpg") == "c.jpg"
    assert short_name("x/" + "a" * 30 + "7.jpg") == "aaaaaaaaaaa…aaaaaaa7.jpg"
