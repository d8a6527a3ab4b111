"""The engine auto: whichever is the fastest for this model, on this machine, at this size of batch."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.inference.engines.engine import Engine
from latentdiff.inference.engines.graphs import Graphs, cache_folder
from latentdiff.inference.engines.int8_graph import Inputs
from latentdiff.inference.engines.torch_engine import TorchEngine

# Seconds that measuring takes, without the building of graphs; more where two passes take longer.
BUDGET = 0.5
# Work after which building graphs pays, in operations: about as long as it takes, ten seconds of a core. It is counted
# rather than timed, so that the same requests are run by the same engines.
PATIENCE = 3e12
# Weights of a network whose graph is never built unasked: it would take minutes, and several times the memory.
LARGE = 100_000_000


class AutoEngine:
    """Begins with torch. Measures the engines that are installed once enough is drawn, and remembers the fastest.

    Building a model's graphs takes seconds, so torch runs the first batches, up to ``patience``. If the graphs are
    there already, the engines are measured when a size of batch is first met. The choice is kept in the user's cache
    folder, by the model, the machine, the precision and the size of the batch, rounded up to a power of two. A batch is
    drawn by one engine from its first step to its last. Images are decoded by the engine that ran the network last. The
    graph of a network with more than 100 million weights is not built unasked.

    Args:
        torch_engine: The engine torch, used if no other is installed.
        graphs: The model's graphs.
        others: The other engines by name.

    Attributes:
        patience: Operations of the network, about, that torch computes before graphs are built.
    """

    name = "auto"

    def __init__(self, torch_engine: TorchEngine, graphs: Graphs, others: Mapping[str, Callable[[Graphs], Engine]]):
        self._torch, self._graphs = torch_engine, graphs
        self._others, self._last = others, None
        self._choice, self._engines = cache(self._choose), cache(self._find_engines)
        self.patience, self._work, self._has_no_graph = PATIENCE, 0.0, False

    @property
    def chosen(self) -> Engine:
        """The engine that ran last; torch before any has."""
        return self._last or self._torch

    def network(self, precision: str) -> Network:
        """Return a network for one batch, run by the fastest engine for its size, or by torch while that pays."""

        def run(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
            engine = self._last = engine_of(1 << (len(x) - 1).bit_length(), labels is not None)
            if engine is self._torch:
                self._work += len(x) * self._graphs.operations
            return network_of(engine)(x, time, labels)

        @cache
        def engine_of(rows: int, with_labels: bool) -> Engine:
            if precision != "int8" and not self._pays() and not self._is_ready(rows, precision):
                return self._torch
            return self._choice(rows, precision, with_labels)

        network_of = cache(lambda engine: engine.network(precision))  # torch casts weights in it
        return run

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        return self.chosen.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        return self.chosen.decode(latents)

    def _pays(self) -> bool:
        """Whether so much was drawn that building graphs pays."""
        return self._work >= self.patience and self._graphs.weights <= LARGE

    def _is_ready(self, rows: int, precision: str) -> bool:
        """Whether the engines can be measured at once, or were."""
        return self._graphs.has("network") or self._record_of(rows, precision).is_file()

    def _choose(self, rows: int, precision: str, with_labels: bool) -> Engine:
        path, remembered = self._record_of(rows, precision), None
        with suppress(OSError, ValueError, KeyError, TypeError):
            remembered = json.loads(path.read_text())["engine"]
        if remembered == "torch":
            return self._torch  # no other engine need be imported
        engines = self._engines()
        if len(engines) == 1:
            if self._has_no_graph:
                self._remember(path, "torch", {})
            return self._torch
        if remembered in engines:
            return engines[remembered]
        labels = self._graphs.zero_labels(rows) if with_labels else None
        inputs = (torch.zeros(rows, *self._graphs.latent_shape), torch.zeros(rows), labels)
        found, measured = measure(engines, precision, inputs)
        if not found:
            raise ConfigError(f"no engine that is installed here can run this model in the precision {precision}")
        best = min(found, key=lambda name: found[name])
        self._remember(path, best, found)
        shown = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in found.items())
        print(f"engine {best} for {rows} images at a time: milliseconds a pass of {measured} are {shown}", flush=True)
        return engines[best]

    def _remember(self, path: Path, engine: str, seconds: Mapping[str, float]) -> None:
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            record = json.dumps({"engine": engine, "seconds": seconds})
            write_atomically(path, lambda file: file.write_text(record))

    def _find_engines(self) -> dict[str, Engine]:
        """The engines that are installed and have this model's graph."""
        found: dict[str, Engine] = {"torch": self._torch}
        for name, build in self._others.items():
            with suppress(ConfigError):
                found[name] = build(self._graphs)
        if len(found) == 1:
            print("engine torch: no other is installed (pip install 'latentdiff[onnx]')", flush=True)
            return found
        try:
            self._graphs.get("network")
        except Exception as error:  # whatever the exporter cannot do
            self._has_no_graph = not isinstance(error, ConfigError)  # that one is of a missing package
            print(f"engine torch: the network has no ONNX graph here ({_first_line(error)})", flush=True)
            return {"torch": self._torch}
        return found

    def _record_of(self, rows: int, precision: str) -> Path:
        key = (self._graphs.model_digest, machine(), torch.get_num_threads(), precision, rows)
        return cache_folder() / "engines" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.json"


def measure(
    engines: Mapping[str, Engine], precision: str, inputs: Inputs, budget: float = BUDGET
) -> tuple[dict[str, float], int]:
    """Return the seconds of a network pass by each engine, the shortest of several, and of how many images it was.

    Engines take turns, first with one image, then with two, four and so on while there is time for two rounds of so
    many. With the last number they take turns until ``budget`` seconds are over. So engines are ranked by the largest
    batch that could be measured: an engine that is slow for few images may be the fastest for many. An engine that does
    not support the precision, or fails, is left out.

    Args:
        engines: By name.
        precision: Of the network.
        inputs: Of the network: x, time, labels.
        budget: Seconds, without the engines' first pass.
    """
    networks: dict[str, Network] = {}
    for name, engine in engines.items():
        with suppress(ConfigError):
            networks[name] = engine.network(precision)
    rows = len(inputs[0])
    for name, network in list(networks.items()):
        try:
            _seconds(network, _first(inputs, 1))  # reads and compiles the graph
        except Exception as error:  # whatever another's library cannot do here
            if name == "torch":
                raise
            print(f"the engine {name} is left out: it fails here ({_first_line(error)})", flush=True)
            del networks[name]
    best, end = dict.fromkeys(networks, float("inf")), time.perf_counter() + budget
    measured, rounds = 1, 0
    while (now := time.perf_counter()) < end or rounds < 2:  # a pass that other work disturbs is not the only one
        # A round of twice as many images takes twice the time at most.
        if rounds and measured < rows and now + 2 * 2 * sum(best.values()) < end:
            best, measured, rounds = dict.fromkeys(networks, float("inf")), min(2 * measured, rows), 0
        for name, network in networks.items():
            best[name] = min(best[name], _seconds(network, _first(inputs, measured)))
        rounds += 1
    return best, measured


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]


def _first(inputs: Inputs, rows: int) -> Inputs:
    x, level, labels = inputs
    return x[:rows], level[:rows], None if labels is None else labels[:rows]


def _seconds(network: Network, inputs: Inputs) -> float:
    start = time.perf_counter()
    network(*inputs)
    return time.perf_counter() - start


def machine() -> str:
    """What speed depends on besides the model: the processor, and the versions of the engines."""
    processor = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    versions = []
    for name in ("torch", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return ", ".join([platform.machine(), processor, *versions])
