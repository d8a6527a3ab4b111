"""The engine openvino: OpenVINO on the CPU."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.extras import import_extra
from latentdiff.inference.engines.graphs import Compiled, GraphName, Graphs, cache_folder, network_name
from latentdiff.inference.engines.passes_in_parts import in_parts


class OpenVinoEngine:
    """Runs a model's graphs with OpenVINO, with as many threads as torch has. Compiled graphs are cached on the disk.

    Args:
        graphs: The model's graphs.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``openvino``.
    """

    name = "openvino"

    def __init__(self, graphs: Graphs):
        self._graphs = graphs
        self._core: Any = import_extra("openvino", "openvino").Core()
        self._compiled = Compiled()
        self._turn = threading.Lock()  # a compiled graph answers one request at a time

    def __getstate__(self) -> Graphs:
        return self._graphs

    def __setstate__(self, graphs: Graphs) -> None:
        OpenVinoEngine.__init__(self, graphs)

    def network(self, precision: str) -> Network:
        """Return the network in that precision."""
        run = partial(self._run, network_name(precision), precision, self._graphs.model_digest)
        return partial(in_parts, run)

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        return self._run("encoder", "fp32", self._graphs.model_digest, images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        return self._run("decoder", "fp32", self._graphs.model_digest, latents)

    def _run(self, graph: GraphName, precision: str, digest: str, *inputs: Tensor | None) -> Tensor:
        given = [tensor.contiguous().numpy() for tensor in inputs if tensor is not None]
        compiled = self._compiled.get(f"{graph} {precision}", digest, partial(self._compile, graph, precision, digest))
        with self._turn:
            return torch.from_numpy(compiled(given)[0].copy())

    def _compile(self, graph: GraphName, precision: str, digest: str) -> Any:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",  # its own default is bf16
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        folder = cache_folder() / "openvino"
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            folder.mkdir(parents=True, exist_ok=True)
            settings["CACHE_DIR"] = str(folder)
        return self._core.compile_model(self._core.read_model(self._graphs.get(graph, digest)), "CPU", settings)
