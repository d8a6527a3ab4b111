"""The list of models: all that can be used, by names that differ, or an error before the page is served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from latentdiff import load
from latentdiff.app.catalogue import Catalogue, released_models
from latentdiff.errors import CheckpointError, ConfigError


def test_the_released_models_come_without_an_argument():
    names = [f"{path.parent.name}/{path.stem}" for path in released_models()]
    assert names == ["fashion-mnist/latent", "fashion-mnist/pixel", "celeba/latent", "flowers-102/latent"]
    catalogue = Catalogue([str(path) for path in released_models()[:2]])
    assert catalogue.names == ["Fashion-MNIST, latent", "Fashion-MNIST, pixel"]
    latent, pixel = catalogue.entries.values()
    assert latent.baseline_kind == pixel.baseline_kind == "trained"
    assert latent.baseline.latent_shape == (32, 1, 1)
    assert "8 times fewer numbers" in latent.facts
    assert "the pixels themselves" in pixel.facts
    assert latent.data_title == "Fashion-MNIST"
    assert latent.classes[3] == "Dress"


def test_models_of_one_name_are_told_apart(model_files, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(model_files[0], tmp_path / "other" / "grey.safetensors")
    catalogue = Catalogue([*model_files, str(tmp_path / "other" / "grey.safetensors")])
    assert catalogue.names == ["grey", "colour", "grey (2)"]


def test_an_autoencoder_is_the_baseline_of_its_images(model_files, tmp_path):
    load(model_files[0]).codec.save(tmp_path / "vae.safetensors")
    given = Catalogue([*model_files, str(tmp_path / "vae.safetensors")])
    assert given.names == ["grey", "colour"]
    grey, colour = given.entries.values()
    assert (grey.baseline_kind, colour.baseline) == ("trained", None)
    assert Catalogue(model_files).get("grey").baseline_kind == "own"
    with pytest.raises(ConfigError, match="only autoencoders"):
        Catalogue([str(tmp_path / "vae.safetensors")])


def test_a_file_that_cannot_be_used_is_an_error_at_once(model_files, tmp_path):
    content = bytearray(Path(model_files[0]).read_bytes())
    content[-100] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    for name in ("damaged.safetensors", "missing.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            Catalogue([model_files[0], str(tmp_path / name)])
