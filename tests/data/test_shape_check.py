import re

import pytest
import torch

from latentdiff.data import ImageDataset
from latentdiff.data.shape_check import check_image_shape
from latentdiff.errors import ConfigError

OWN = {"data": {"name": "folder", "path": "my photos", "size": 32, "colour": "auto", "hflip": True}}


@pytest.mark.parametrize(
    ("name", "shape", "settings", "remedy"),
    [
        (
            "fashion-mnist",
            (3, 32, 32),
            OWN,
            "it was trained on folder: give --data.name folder --data.path 'my photos' --data.size 32",
        ),
        ("folder", (3, 32, 32), OWN, "give --data.size 32 --data.colour rgb"),
        ("folder", (1, 32, 32), {}, "give --data.size 32"),
        ("tensors", (3, 28, 28), {"data": None}, "load them with colour='rgb'"),
        ("folder", (1, 28, 30), {}, "or train another"),
    ],
)
def test_images_of_another_shape_are_refused_with_what_to_do(name, shape, settings, remedy):
    images, labels = torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    data = ImageDataset(images, labels, name, "test", "full", ())
    check_image_shape("m", (1, 28, 28), data, settings)
    own = "x".join(map(str, shape))
    with pytest.raises(ConfigError, match=re.escape(f"m is for images of {own}, but {name} has 1x28x28: {remedy}")):
        check_image_shape("m", shape, data, settings, "or train another")
