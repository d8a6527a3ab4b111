"""The networks as ONNX graphs in fp32, for any number of images."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.diffusers_networks import DiffusersAutoencoder, DiffusersUNet
from latentdiff.models.text_encoder import FrozenTextEncoder

# The oldest that torch's exporter writes without conversion: most runtimes read it.
OPSET = 18
# Number of images that a graph is traced with. Any other would do.
TRACED_BATCH = 3


def network_graph(network: ConditionedNetwork, shape: tuple[int, int, int]) -> bytes:
    """Return the ONNX graph of a denoising network.

    Inputs: ``x`` fp32 [batch, c, h, w], ``time`` fp32 [batch] and, for a class-conditional network, ``labels`` int64
    [batch] (or, of captions, their tokens [batch, context]). Output: ``output`` fp32 [batch, c or 2 c, h, w].

    Args:
        network: The network.
        shape: (c, h, w) of ``x``.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``onnx``, and for a network whose captions a frozen
    encoder of transformers reads, which is in no graph.
    """
    if isinstance(network.text, FrozenTextEncoder):
        raise ConfigError("a model that reads with an encoder of transformers has no ONNX graph: use the engine torch")
    inputs = {"x": torch.zeros(TRACED_BATCH, *shape), "time": torch.zeros(TRACED_BATCH)}
    labels = network.zero_labels(TRACED_BATCH)
    if labels is not None:
        inputs["labels"] = labels
    return _graph(network, inputs, "output", _most(network))


def encoder_graph(autoencoder: Autoencoder) -> bytes:
    """Return the ONNX graph of ``autoencoder.encode``: ``images`` fp32 [batch, c, h, w] in [-1, 1] to ``moments``."""
    images = torch.zeros(TRACED_BATCH, *autoencoder.image_shape)
    return _graph(_Method(autoencoder, autoencoder.encode), {"images": images}, "moments", _most(autoencoder))


def decoder_graph(autoencoder: Autoencoder) -> bytes:
    """Return the ONNX graph of ``autoencoder.decode``: raw ``latents`` fp32 [batch, c, h, w] to ``images``."""
    latents = torch.zeros(TRACED_BATCH, *autoencoder.latent_shape)
    return _graph(_Method(autoencoder, autoencoder.decode), {"latents": latents}, "images", _most(autoencoder))


class _Method(nn.Module):
    """A method of a module as a module, which is what torch exports."""

    def __init__(self, module: nn.Module, method: Callable[[Tensor], Tensor]):
        super().__init__()
        self.module, self.method = module, method

    def forward(self, x: Tensor) -> Tensor:
        return self.method(x)


def _most(module: nn.Module) -> int | None:
    """How many images a network may be traced for; None for any number.

    diffusers makes its maps contiguous from 64 images on, which is nothing to a graph: one for fewer takes more.
    """
    return 63 if isinstance(module, DiffusersUNet | DiffusersAutoencoder) else None


def _graph(module: nn.Module, inputs: dict[str, Tensor], output: str, most: int | None) -> bytes:
    import_extra("onnxscript", "onnx")  # torch's exporter needs it
    onnx: Any = import_extra("onnx", "onnx")
    batch = torch.export.Dim("batch", min=1, max=most)
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        # torch.export refuses a network that fixes the number of images. torch.onnx.export alone would accept it.
        program = torch.export.export(
            module, tuple(inputs.values()), dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False
        )
        exported = torch.onnx.export(
            program,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    _remove_traces(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _remove_traces(model: Any) -> None:
    """Remove what the exporter notes of its own work, such as paths of source files, and name the batch."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the exporter's messages, which are for those who work on it, from the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
