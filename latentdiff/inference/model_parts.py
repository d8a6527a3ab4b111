"""The parts of a diffusion model in a file: network, codec, and what built them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from latentdiff import checkpoint
from latentdiff.codec import Codec, IdentityCodec, build_codec
from latentdiff.config import DiffusionConfig, NetworkConfig, from_dict
from latentdiff.config.diffusers_models import network_config_class
from latentdiff.errors import CheckpointError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.network import build_network
from latentdiff.text.build import tokenizer_of_header


class ModelParts(NamedTuple):
    """What a diffusion model is built from, in the order that it takes them."""

    network: ConditionedNetwork
    network_config: NetworkConfig
    diffusion: DiffusionConfig
    codec: Codec
    class_names: list[str]
    header: dict[str, Any]


def build_parts(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> ModelParts:
    """Build the network and the codec of a diffusion model from its file, or the codec from the file beside it.

    Args:
        path: The file, for messages, and to find the one beside it.
        header, tensors: What the file holds.

    Raises :class:`~latentdiff.errors.CheckpointError` for weights that are not those of the model.
    """
    weights: dict[str, dict[str, Tensor]] = {"network": {}, "codec": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in weights:
            raise CheckpointError(f"{path} holds weights that a diffusion model does not have: {name[:80]}")
        weights[part][rest] = tensor
    codec = _codec(path, header, weights["codec"])
    config = from_dict(network_config_class(header["network"]), header["network"])
    diffusion = from_dict(DiffusionConfig, header["diffusion"])
    channels = codec.latent_shape[0]
    outputs = channels * (2 if diffusion.learn_variance else 1)
    tokenizer = tokenizer_of_header(header.get("text"))
    network = checkpoint.build_with_weights(
        lambda: build_network(channels, len(header["class_names"]), config, outputs, tokenizer),
        weights["network"],
        str(path),
    )
    return ModelParts(network, config, diffusion, codec, header["class_names"], header)


def _codec(path: Path, header: dict[str, Any], weights: dict[str, Tensor]) -> Codec:
    decoder = path
    if named := header.get("codec_file"):
        weights, decoder = checkpoint.read_shared_autoencoder(path, named), path.parent / named["name"]
    if header["codec"] is not None:
        return build_codec(header["codec"], weights, str(decoder))
    channels, height, width = header["image_shape"]
    codec = IdentityCodec((channels, height, width))
    if header.get("sampling", {}).get("clip") is False:
        codec.value_range = None
    return codec
