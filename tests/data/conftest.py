"""Miniature data sets, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdiff.config import DataConfig


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing is downloaded."""
    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: False)


@pytest.fixture
def draw():
    """Writes an image file of random pixels, of a size (width, height)."""

    def write(path, seed=0, size=(24, 20)):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    return write


@pytest.fixture
def config():
    """Makes the settings of a data set under a folder, which holds its cache too."""

    def make(root, name, **settings):
        return DataConfig(name=name, root=str(root), cache_folder=str(Path(root) / "cache"), **settings)

    return make


@pytest.fixture
def faces(tmp_path, draw):
    """CelebA in miniature: eight faces with their tables."""
    folder = tmp_path / "celeba"
    names = [f"{index:06d}.jpg" for index in range(1, 9)]
    for index, name in enumerate(names):
        draw(folder / "img_align_celeba" / name, index, (18, 22))
    rows = [f"{name}  {-1 if index % 2 else 1} -1" for index, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["8", "Smiling Male ", *rows]))
    (folder / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {min(2, index // 4)}" for index, name in enumerate(names))
    )
    return tmp_path
