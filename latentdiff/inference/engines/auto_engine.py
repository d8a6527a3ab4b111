"""The engine auto: whichever is the fastest for this model, on this machine, at this size of batch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from latentdiff import distributed
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
# rather than timed, so that a busy machine chooses no other engine.
PATIENCE = 3e12
# Parameters of a model whose graphs are never built unasked: it would take minutes, and several times the memory.
LARGE = 100_000_000


class AutoEngine:
    """Begins with torch. Measures the engines that are installed once enough is drawn, and remembers the fastest.

    Building a model's graphs takes seconds, so torch runs the first batches, up to ``patience``. If the graphs are
    there already, the engines are measured when a size of batch is first met. The choice is kept in the user's cache
    folder, by the model, the machine, the precision and the size of the batch, rounded up to a power of two. Images are
    decoded by the engine that ran the network last. If the model's weights change, all begins again: torch uses the
    present weights, and new graphs are built once they pay. The graphs of a model with more than 100 million parameters
    are not built unasked, nor are any by several processes at once.

    Args:
        torch_engine: The engine torch, used if no other is installed.
        graphs: The model's graphs.
        others: The other engines by name.

    Attributes:
        patience: Operations of the network, about, that torch computes before graphs are built.
    """

    name = "auto"

    def __init__(self, torch_engine: TorchEngine, graphs: Graphs, others: Mapping[str, Callable[[Graphs], Engine]]):
        self._torch, self._graphs, self._others = torch_engine, graphs, others
        self._choosing = threading.Lock()
        self.patience = PATIENCE
        self._begin(graphs.weights_state())

    def _begin(self, weights: object) -> None:
        """Begin with torch, for weights in this state."""
        self._weights, self._work = weights, 0.0
        self._last: Engine | None = None
        self._engines: dict[str, Engine] | None = None
        self._chosen: dict[tuple[int, str], Engine] = {}
        self._decodes_by_torch = False  # once another engine has failed to

    def _notice_changes(self) -> None:
        weights = self._graphs.weights_state()
        if weights != self._weights:
            with self._choosing:
                self._begin(weights)

    def __getstate__(self) -> tuple[TorchEngine, Graphs, Mapping[str, Callable[[Graphs], Engine]]]:
        return self._torch, self._graphs, self._others

    def __setstate__(self, state: tuple[TorchEngine, Graphs, Mapping[str, Callable[[Graphs], Engine]]]) -> None:
        AutoEngine.__init__(self, *state)

    @property
    def chosen(self) -> Engine:
        """The engine that ran last; torch before any has."""
        return self._last or self._torch

    def network(self, precision: str) -> Network:
        """Return a network for one batch, run by the fastest engine for its size, or by torch while that pays."""

        def run(x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
            rows = 1 << (len(x) - 1).bit_length()
            engine = self._last = self._torch if by_torch(rows) else self._choice(rows, precision, labels is not None)
            if engine is self._torch:
                self._work += len(x) * self._graphs.operations
            return network_of(engine)(x, time, labels)

        self._notice_changes()
        waits: list[bool] = []

        def by_torch(rows: int) -> bool:
            if not waits:  # decided by the first pass, for the whole batch
                waits.append(precision != "int8" and not self._pays() and not self._is_ready(rows, precision))
            return waits[0]

        network_of = cache(lambda engine: engine.network(precision))  # torch casts weights in it
        return run

    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images in [-1, 1]."""
        return self._by_the_chosen(lambda engine: engine.encode(images))

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, about in [-1, 1], of raw latents."""
        return self._by_the_chosen(lambda engine: engine.decode(latents))

    def _by_the_chosen(self, function: Callable[[Engine], Tensor]) -> Tensor:
        """``function`` of the engine that ran the network last, or of torch if that engine fails."""
        self._notice_changes()
        engine = self.chosen
        if engine is not self._torch and not self._decodes_by_torch:
            try:
                return function(engine)
            except Exception as error:  # whatever the exporter or another's library cannot do here
                self._decodes_by_torch = True
                print(f"the autoencoder is run by torch: {engine.name} fails here ({_first_line(error)})", flush=True)
        return function(self._torch)

    def _pays(self) -> bool:
        """Whether so much was drawn that building graphs pays."""
        return self._work >= self.patience and self._graphs.parameters <= LARGE and distributed.world_size() == 1

    def _is_ready(self, rows: int, precision: str) -> bool:
        """Whether the engines can be measured at once, or torch was found to be the fastest."""
        with suppress(ConfigError):  # no cache folder
            if os.path.isdir(cache_folder() / "graphs"):
                return self._graphs.has("network") or self._remembered(rows, precision) == "torch"
        return False

    def _choice(self, rows: int, precision: str, with_labels: bool) -> Engine:
        """The engine for batches of so many rows."""
        with self._choosing:
            if (rows, precision) not in self._chosen:
                self._chosen[rows, precision] = self._choose(rows, precision, with_labels)
            return self._chosen[rows, precision]

    def _choose(self, rows: int, precision: str, with_labels: bool) -> Engine:
        remembered = self._remembered(rows, precision)
        if remembered == "torch":
            return self._torch  # no other engine need be imported
        if self._engines is None:
            self._engines = self._find_engines(rows, precision)
        if len(self._engines) == 1:
            return self._torch
        if remembered in self._engines:
            return self._engines[remembered]
        labels = self._graphs.zero_labels(rows) if with_labels else None
        inputs = (torch.zeros(rows, *self._graphs.latent_shape), torch.zeros(rows), labels)
        found, measured = measure(self._engines, precision, inputs)
        if not found:
            raise ConfigError(f"no engine that is installed here can run this model in the precision {precision}")
        best = min(found, key=lambda name: found[name])
        self._remember(rows, precision, best, found)
        shown = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in found.items())
        print(f"engine {best} for {rows} images at a time: milliseconds a pass of {measured} are {shown}", flush=True)
        return self._engines[best]

    def _find_engines(self, rows: int, precision: str) -> dict[str, Engine]:
        """The engines that are installed and have this model's graph."""
        found: dict[str, Engine] = {"torch": self._torch}
        for name, build in self._others.items():
            try:
                found[name] = build(self._graphs)
            except ConfigError:
                continue  # it is not installed
            except Exception as error:  # a library that cannot be loaded here
                print(f"the engine {name} is left out: it fails here ({_first_line(error)})", flush=True)
        if len(found) == 1:
            print("engine torch: no other is installed (pip install 'latentdiff[onnx]')", flush=True)
            return found
        try:
            self._graphs.get("network")
        except Exception as error:  # whatever the exporter cannot do
            print(f"engine torch: the network has no ONNX graph here ({_first_line(error)})", flush=True)
            if not isinstance(error, ConfigError | OSError | MemoryError):  # a package, disk or memory may be had later
                self._remember(rows, precision, "torch", {})
            return {"torch": self._torch}
        return found

    def _remembered(self, rows: int, precision: str) -> str | None:
        """The engine that was the fastest; None where none was measured."""
        with suppress(ConfigError, OSError, ValueError, KeyError, TypeError):
            return json.loads(self._record_of(rows, precision).read_text())["engine"]
        return None

    def _remember(self, rows: int, precision: str, engine: str, seconds: Mapping[str, float]) -> None:
        with suppress(ConfigError, OSError):  # a cache that cannot be written is no reason to fail
            record = json.dumps({"engine": engine, "seconds": seconds})
            write_atomically(self._record_of(rows, precision), lambda file: file.write_text(record))

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
    for name in ("torch", "onnxruntime", "openvino", "onnx", "onnxscript"):
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return ", ".join([platform.machine(), processor, *versions])
