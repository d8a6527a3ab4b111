"""What a notebook shows of models and of images."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import image_grid, load
from latentdiff.errors import ConfigError, FolderError
from latentdiff.report.model_table import card_figures, class_words

CARD = """# tiny

Measured on this file, 10 images:

- FID to test 7.14 <b>good</b>
- precision 78.1%

by

    command

Measured on this file, 20 images:

- FID to test 9
"""


class Balanced(HTMLParser):
    """Raises where tags do not nest."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def copied(tiny_model_file, tmp_path):
    """The tiny model's file in a folder of the test's own."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(tiny_model_file.read_bytes())
    return path


def cells(html):
    """The rows of a table by their names, as text."""
    return dict(re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", html))


def test_a_model_shows_what_it_is(copied):
    html = load(copied)._repr_html_()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    rows = cells(html)
    assert rows["Images"] == "1 x 10 x 10"
    assert rows["Latents"].startswith("2 x 5 x 5, 2.0 times fewer")
    assert rows["Classes"] == "3: Coat, Dress, T-shirt, top"
    assert rows["Samples by default"] == "dpmpp_2m, 20 steps, guidance_scale 1"
    assert "Measured" not in html


def test_a_card_beside_the_file_gives_its_figures(copied):
    copied.with_suffix(".md").write_text(CARD)
    assert card_figures(copied.with_suffix(".md")) == ["FID to test 7.14 <b>good</b>", "precision 78.1%"]
    html = load(copied)._repr_html_()
    assert "<li>precision 78.1%</li>" in html
    assert "&lt;b&gt;good" in html


def test_what_is_no_card_gives_no_figures(tmp_path):
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other.md").write_text("# Notes\n\n- not a figure\n")
    assert [card_figures(tmp_path / name) for name in ("absent.md", "binary.md", "other.md", ".")] == [[], [], [], []]


def test_names_and_records_are_escaped_and_odd_records_left_out(copied):
    model = load(copied)
    model.class_names = ("<script>alert(1)</script>", "b", "c")
    model.provenance = {
        "data": {"name": "<i>mine</i>", "images": 1200},
        "images_seen": 64,
        "seconds": "long",
        "history": [{"images_seen": 64, "val_loss": 0.25, "latent_mean_0": 1.0, "note": "<u>"}],
    }
    html = model._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    rows = cells(html)
    assert rows["Trained on"] == "1,200 images of &lt;i&gt;mine&lt;/i&gt;"
    assert rows["Last epoch"] == "val_loss 0.25"
    assert "Training" not in rows


def test_the_released_models_show_the_figures_of_their_cards():
    latent, autoencoder = (load(f"checkpoints/fashion-mnist/{name}.safetensors") for name in ("latent", "autoencoder"))
    assert "FID to test" in latent._repr_html_()
    assert cells(latent._repr_html_())["Trained on"] == "60,000 images of fashion-mnist"
    assert cells(autoencoder._repr_html_())["Latents"] == "2 x 7 x 7, 8.0 times fewer numbers"


def test_many_classes_are_cut():
    assert class_words([str(number) for number in range(30)]).endswith("10, 11, …")
    assert class_words(()) == "none: it is unconditional"


def test_a_grid_is_a_png_that_can_be_saved(tmp_path):
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    shown = image_grid(images, columns=3)
    picture = np.asarray(Image.open(io.BytesIO(shown._repr_png_())))
    assert picture.shape == (2 * 58 + 2, 3 * 58 + 2, 3)
    assert (picture[2:58, 2:58, 0] == images[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()).all()
    shown.save(tmp_path / "grid.png")
    assert (np.asarray(Image.open(tmp_path / "grid.png")) == picture).all()
    image_grid(images, columns=2).save(tmp_path / "grid.png")  # an earlier picture is replaced, and nothing else
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape != picture.shape
    (tmp_path / "notes.png").write_text("precious")
    with pytest.raises(FolderError, match=r"notes\.png is not written: what is there is no picture"):
        shown.save(tmp_path / "notes.png")
    assert (tmp_path / "notes.png").read_text() == "precious"
    assert repr(image_grid(images)) == "ImageGrid(5 images of 1x28x28, 3 in a row)"
    assert repr(image_grid(images[0])).startswith("ImageGrid(1 images")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, 4, dtype=torch.uint8), torch.zeros(0, 1, 4, 4, dtype=torch.uint8)],
)
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(ConfigError, match="uint8 images"):
        image_grid(images)
    with pytest.raises(ConfigError, match="columns"):
        image_grid(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), columns=0)
