"""Exported graphs compute what the networks compute, whatever the number of images."""

from __future__ import annotations

import sys

import pytest
import torch

from latentdiff.codec import AutoencoderCodec
from latentdiff.config import AutoencoderConfig, NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.inference.model import load
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from latentdiff.models.onnx_graph import decoder_graph, encoder_graph, network_graph

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

BATCHES = (1, 2, 7)  # graphs are traced with three images
UNET = {"channels": (16, 32), "num_res_blocks": 1, "head_channels": 16, "attention_levels": (1,)}
NETWORKS = {
    "additive": {**UNET, "conditioning": "additive"},
    "batch norm": {**UNET, "conditioning": "batch_norm"},
    "fourier": {**UNET, "time_embedding": "fourier"},
    "unconditional": {**UNET, "class_conditional": False},
    "no embedding": {**UNET, "conditioning": "none", "class_conditional": False},
    "patches": {**UNET, "patch": 3},
    "dit": {**UNET, "architecture": "dit", "channels": (16,), "attention_levels": (), "patch": 3},
    "resnet": {"architecture": "resnet", "channels": (16,), "num_res_blocks": 2, "attention_levels": ()},
}
CODEC = {"channels": (16, 32), "encoder_blocks": 1, "decoder_blocks": 1}
RELEASED = ("fashion-mnist/latent", "fashion-mnist/pixel", "flowers-102/latent", "celeba/latent")


def with_random_weights(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval().requires_grad_(False)


def largest_difference(graph, function, *shapes, num_classes=0):
    """Of the graph's output and the function's, over three numbers of images, relative to the largest output."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = 0.0
    for batch in BATCHES:
        inputs = [torch.randn(batch, *shapes[0]), *(999 * torch.rand(batch, *shape) for shape in shapes[1:])]
        if num_classes:
            inputs.append(torch.arange(batch) % (num_classes + 1))
        names = [each.name for each in session.get_inputs()]
        (output,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
        with torch.inference_mode():
            expected = function(*inputs)
        assert output.shape == tuple(expected.shape)
        found = max(found, float((torch.from_numpy(output) - expected).abs().max() / expected.abs().max()))
    return found


@pytest.mark.slow
def test_a_unet_with_classes_and_odd_sides():
    shape = (2, 9, 9)
    network = with_random_weights(build_network(2, 5, NetworkConfig(**{**UNET, "attention_levels": (0, 1)})))
    graph = network_graph(network, shape)
    assert 0 < largest_difference(graph, network, shape, (), num_classes=5) < 2e-6
    assert __file__.encode() not in graph  # nothing of the machine that wrote it
    assert b"latentdiff/models" not in graph


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network(name):
    config = NetworkConfig(**NETWORKS[name])
    network = with_random_weights(build_network(3, 4, config, 6))
    classes = network.null_label or 0
    assert largest_difference(network_graph(network, (3, 8, 8)), network, (3, 8, 8), (), num_classes=classes) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"patch": 2, "refine_channels": 8}, {"smooth_colours": True, "attention": False}])
def test_both_halves_of_an_autoencoder(more):
    autoencoder = with_random_weights(Autoencoder((3, 13, 18), AutoencoderConfig(**CODEC, **more)))
    assert largest_difference(encoder_graph(autoencoder), autoencoder.encode, (3, 13, 18)) < 2e-6
    assert largest_difference(decoder_graph(autoencoder), autoencoder.decode, autoencoder.latent_shape) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_the_released_models(name):
    model = load(f"checkpoints/{name}.safetensors")
    shape = model.codec.latent_shape
    assert (
        largest_difference(
            network_graph(model.network, shape), model.network, shape, (), num_classes=model.network.null_label or 0
        )
        < 5e-6
    )
    if isinstance(model.codec, AutoencoderCodec):
        codec = model.codec.model
        assert largest_difference(encoder_graph(codec), codec.encode, model.codec.image_shape) < 5e-6
        assert largest_difference(decoder_graph(codec), codec.decode, shape) < 5e-6


def test_a_network_that_fixes_the_number_of_images_is_refused():
    class Fixed(torch.nn.Module):
        null_label = text = None

        def zero_labels(self, count):
            return None

        def forward(self, x, time):
            return x.reshape(len(x), -1).reshape(x.shape)

    with pytest.raises(Exception, match="batch"):
        network_graph(Fixed(), (1, 2, 2))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"onnx is not installed: pip install 'latentdiff\[onnx\]'"):
        network_graph(
            build_network(1, 0, NetworkConfig(channels=(8,), attention_levels=(), head_channels=8)), (1, 4, 4)
        )
