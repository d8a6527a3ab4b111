from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latentdiff.config import DataConfig, RunConfig
from latentdiff.config.training_stages import ClassifierStage
from latentdiff.data import load_dataset
from latentdiff.errors import CheckpointError
from latentdiff.evaluation.available_nets import find_feature_nets
from latentdiff.runs.find import find_classifier
from latentdiff.training.train_classifier import train_classifier


def test_ones_own_images_are_measured_by_ones_own_classifier(tmp_path, monkeypatch, device):
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.full((12, 12), 40 * index % 60 + 150 * label, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{index}.png")
    data = DataConfig(name="folder", path="mine", size=12, colour="grey", fractions=(0.5, 0.25, 0.25))
    test = load_dataset(data).test
    with pytest.raises(
        CheckpointError, match=r"stages\.classifier --data\.name folder --data\.path mine --data\.size 12"
    ):
        find_feature_nets(test, device, data, inception="off")

    settings = ClassifierStage(data=data, epochs=2, batch_size=2, channels=(8,), num_threads=1)
    path = train_classifier(settings)
    assert find_classifier("folder") == path.relative_to(tmp_path) if path.is_absolute() else path
    assert find_feature_nets(test, device, data, inception="off")["classifier"].fits(test)


def test_a_released_classifier_comes_before_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = RunConfig().path("classifier", "fashion-mnist") / "model.safetensors"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_classifier("fashion-mnist") != own
    assert find_classifier("no such data set") is None
