"""The engine onnxruntime: ONNX Runtime on the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.inference.engines.graphs import Compiled, GraphName, Graphs, network_name
from latentdiff.inference.engines.passes_in_parts import in_parts


class OnnxRuntimeEngine:
    """Runs a model's graphs with ONNX Runtime, in fp32 or int8, with as many threads as torch has.

    Args:
        graphs: The model's graphs.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``onnx``.
    """

    name = "onnxruntime"

    def __init__(self, graphs: Graphs):
        self._graphs = graphs
        self._runtime: Any = import_extra("onnxruntime", "onnx")
        self._sessions = Compiled()

    def __getstate__(self) -> Graphs:
        return self._graphs

    def __setstate__(self, graphs: Graphs) -> None:
        OnnxRuntimeEngine.__init__(self, graphs)

    def network(self, precision: str) -> Network:
        """Return the network in fp32 or int8.

        Raises :class:`~latentdiff.errors.ConfigError` for bf16.
        """
        if precision == "bf16":
            raise ConfigError(
                "the engine onnxruntime does not support the precision bf16: use the engine torch or openvino"
            )
        return partial(in_parts, partial(self._run, network_name(precision), self._graphs.model_digest))

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        return self._run("encoder", self._graphs.model_digest, images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        return self._run("decoder", self._graphs.model_digest, latents)

    def _run(self, graph: GraphName, digest: str, *inputs: Tensor | None) -> Tensor:
        session = self._sessions.get(graph, digest, partial(self._new_session, graph, digest))
        given = [tensor.contiguous().numpy() for tensor in inputs if tensor is not None]
        names = [each.name for each in session.get_inputs()]
        return torch.from_numpy(session.run(None, dict(zip(names, given, strict=True)))[0])

    def _new_session(self, graph: GraphName, digest: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        return self._runtime.InferenceSession(
            self._graphs.get(graph, digest), options, providers=["CPUExecutionProvider"]
        )
