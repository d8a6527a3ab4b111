from __future__ import annotations

import pytest
import torch

from latentdiff import checkpoint
from latentdiff.data import ImageDataset
from latentdiff.models.classifier import Classifier

CLASSES = ("one", "two", "three")


@pytest.fixture(scope="session")
def make_images():
    """A function from a number and a seed to small greyscale images whose brightness follows their class."""

    def make(count: int, seed: int, split: str = "test") -> ImageDataset:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % len(CLASSES)
        noise = torch.randint(0, 80, (count, 1, 12, 12), generator=generator)
        images = (noise + 70 * labels[:, None, None, None]).to(torch.uint8)
        return ImageDataset(images, labels, "stripes", split, "full", CLASSES)

    return make


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """A classifier of random weights for the images of ``make_images``."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    network = {"image_shape": [1, 12, 12], "num_classes": 3, "channels": [8, 16]}
    header = {"network": network, "class_names": list(CLASSES), "data": {"name": "stripes"}, "test_accuracy": 0.5}
    checkpoint.save(path, "classifier", Classifier(**network).state_dict(), header, torch.bfloat16)
    return path
