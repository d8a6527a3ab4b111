"""A studio of miniature models, and a page of it that all tests of a session share."""

from __future__ import annotations

import base64
import io
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from latentdiff.app.catalogue import Catalogue
from latentdiff.app.studio import Studio
from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig
from latentdiff.config.model_stages import AppStage
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.unet import UNet


@pytest.fixture(scope="session")
def model_files(tmp_path_factory, tiny_model_file):
    """A latent model of grey images with three classes, and a model of the pixels of RGB images without classes."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(tiny_model_file, folder / "grey.safetensors")
    torch.manual_seed(1)
    config = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    network = UNet(3, 0, config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    DiffusionModel(network, config, DiffusionConfig(), IdentityCodec((3, 8, 8))).save(folder / "colour.safetensors")
    return [str(folder / "grey.safetensors"), str(folder / "colour.safetensors")]


@pytest.fixture(scope="session")
def catalogue(model_files):
    return Catalogue(model_files)


@pytest.fixture
def studio(catalogue):
    return Studio(AppStage(max_images=9, max_steps=12, max_upload_mb=1), catalogue)


@pytest.fixture(scope="session")
def pictures_in():
    """The pictures of a piece of HTML as uint8 arrays, in their order."""

    def read(html):
        found = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', html)
        return [np.array(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in found]

    return read


@pytest.fixture
def png(tmp_path):
    """Writes an image file of random pixels."""

    def write(name="image.png", size=(30, 20), mode="RGB"):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(tmp_path / name)
        return str(tmp_path / name)

    return write
