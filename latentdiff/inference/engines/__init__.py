"""Engines: what runs the networks of a model. Samplers, guidance, noise and codec are the same for all."""

from __future__ import annotations

import torch

from latentdiff.config import EngineName
from latentdiff.errors import ConfigError
from latentdiff.inference.engines.auto_engine import AutoEngine
from latentdiff.inference.engines.engine import Engine
from latentdiff.inference.engines.graphs import Graphs
from latentdiff.inference.engines.int8_graph import Calibration
from latentdiff.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from latentdiff.inference.engines.openvino_engine import OpenVinoEngine
from latentdiff.inference.engines.torch_engine import TorchEngine
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork

GRAPH_ENGINES = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}


def build_engine(
    name: EngineName,
    exact: bool,
    network: ConditionedNetwork | None,
    autoencoder: Autoencoder | None,
    latent_shape: tuple[int, int, int],
    device: torch.device,
    calibration: Calibration | None = None,
) -> Engine:
    """Return the engine for a model's networks, ready to sample. ``auto`` builds graphs when they are first needed.

    Args:
        name: Which. ``auto`` is torch on a GPU.
        exact: See :class:`~latentdiff.inference.engines.torch_engine.TorchEngine`.
        network: The denoising network, or None for an autoencoder alone.
        autoencoder: The autoencoder, or None for a model of pixels.
        latent_shape: Shape of the network's input.
        device: Where the model is.
        calibration: See :class:`~latentdiff.inference.engines.graphs.Graphs`.

    Raises :class:`~latentdiff.errors.ConfigError` where a package is missing, on a device that the engine does not
    support, and for ``exact`` with another engine than torch.
    """
    if exact and name not in ("torch", "auto"):
        raise ConfigError(f"exact needs the engine torch: leave out exact, or use the engine torch instead of {name}")
    torch_engine = TorchEngine(network, autoencoder, exact)
    if name == "torch" or exact or (name == "auto" and device.type != "cpu"):
        return torch_engine
    if device.type != "cpu":
        raise ConfigError(f"the engine {name} works only on the CPU: use the device cpu or the engine torch")
    graphs = Graphs(network, autoencoder, latent_shape, calibration)
    if name == "auto":
        return AutoEngine(torch_engine, graphs, GRAPH_ENGINES)
    engine = GRAPH_ENGINES[name](graphs)
    # Now, so that what is missing is said before any work. Encoders are rarely needed.
    if network is not None:
        graphs.get("network")
    if autoencoder is not None:
        graphs.get("decoder")
    return engine
