"""The ONNX graphs of a model, kept in the user's cache folder: building one takes seconds."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentdiff import __version__
from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.inference.engines.int8_graph import RECIPE, Calibration, int8_graph
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.onnx_graph import OPSET, decoder_graph, encoder_graph, network_graph

GraphName = Literal["network", "network-int8", "encoder", "decoder"]
DIGEST_BYTES = 32


def cache_folder() -> Path:
    """The user's cache folder of latentdiff: ``LATENTDIFF_CACHE``, else ``latentdiff`` in ``XDG_CACHE_HOME``.

    Raises :class:`~latentdiff.errors.ConfigError` for a user without a home folder.
    """
    if named := os.environ.get("LATENTDIFF_CACHE"):
        return Path(named).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentdiff"
    except RuntimeError as error:
        raise ConfigError("there is no home folder to keep files in: set LATENTDIFF_CACHE to a folder") from error


class Graphs:
    """The graphs of a model's networks. Each is built when it is first asked for, or read from the cache folder.

    Args:
        network: The denoising network, or None.
        autoencoder: The autoencoder, or None.
        latent_shape: Shape of the network's input.
        calibration: The inputs that the 8-bit network's ranges are measured on. Without them there is no 8-bit network.
    """

    def __init__(
        self,
        network: ConditionedNetwork | None,
        autoencoder: Autoencoder | None,
        latent_shape: tuple[int, int, int],
        calibration: Calibration | None = None,
    ):
        self._network, self._autoencoder, self.latent_shape = network, autoencoder, latent_shape
        self._calibration = calibration
        self._digest: tuple[WeightsState, str] | None = None  # and the state of the weights that it is of
        # Graphs that could not be written, by file name.
        self._unwritten: dict[str, bytes] = {}

    def zero_labels(self, rows: int) -> Tensor | None:
        """Labels of zeros for the denoising network, of so many images; None where it takes none."""
        return None if self._network is None else self._network.zero_labels(rows)

    @cached_property
    def weights(self) -> int:
        """How many weights of products the denoising network has. Tables of classes and words are none."""
        layers = [] if self._network is None else self._network.modules()
        kinds = (nn.Linear, nn.Conv2d)
        return sum(weight.numel() for layer in layers if isinstance(layer, kinds) for weight in layer.parameters())

    @cached_property
    def parameters(self) -> int:
        """How many numbers the denoising network and the autoencoder have."""
        modules = [module for module in (self._network, self._autoencoder) if module is not None]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    @property
    def operations(self) -> float:
        """About how many operations a pass of the denoising network takes for one image, at the most: as if each weight
        were used at each patch of the input, for one product and one sum."""
        places = math.prod(self.latent_shape[1:]) / getattr(self._network, "patch", 1) ** 2
        return 2.0 * self.weights * places

    def weights_state(self) -> WeightsState:
        """What differs once a weight was replaced, or changed in place."""
        return WeightsState(_tensors_of(self._network, self._autoencoder))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_digest": None, "_unwritten": {}}

    @property
    def model_digest(self) -> str:
        """Digest of present weights, architecture and versions, so that a cached graph belongs to exactly this
        model."""
        state = self.weights_state()
        if self._digest is None or self._digest[0] != state:
            self._digest = state, self._new_digest()
            self._unwritten.clear()
        return self._digest[1]

    def _new_digest(self) -> str:
        digest = hashlib.sha256(repr((OPSET, __version__, torch.__version__, self.latent_shape)).encode())
        for module in (self._network, self._autoencoder):
            digest.update(repr(module).encode())
            for name, value in sorted(_plain_values(module)):
                digest.update(f"{name}={value}".encode())
            for name, tensor in sorted(module.state_dict().items()) if module is not None else ():
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:32]

    def get(self, name: GraphName, digest: str | None = None) -> bytes:
        """The graph ``name`` of the present weights.

        Args:
            name: Which.
            digest: Of the weights that it is to be of.

        Raises :class:`~latentdiff.errors.ConfigError` without the extra ``onnx`` where it must be built, and where the
        weights are no longer those of ``digest``.
        """
        path = self._path(name)
        if digest not in (None, self.model_digest):
            raise ConfigError("the model's weights changed while it was drawing: draw again")
        if (content := self._unwritten.get(path.name) or _read(path)) is not None:
            return content
        what = "network in 8 bits" if name == "network-int8" else name
        print(f"building the ONNX graph of the {what}: done once for this model, takes some seconds", flush=True)
        content = self._build(name)
        try:
            write_atomically(path, lambda file: file.write_bytes(hashlib.sha256(content).digest() + content))
        except OSError:  # a cache that cannot be written is no reason to fail
            self._unwritten[path.name] = content
        return content

    def has(self, name: GraphName) -> bool:
        """Whether the graph ``name`` is in the cache folder."""
        return os.path.isfile(self._path(name))  # False, too, in a folder that this user may not search

    def _path(self, name: GraphName) -> Path:
        return cache_folder() / "graphs" / f"{self.model_digest}-{self._file_name(name)}.onnx"

    def _file_name(self, name: GraphName) -> str:
        if name != "network-int8" or self._calibration is None:
            return name
        return f"{name}-{hashlib.sha256(f'{RECIPE}, {self._calibration.key}'.encode()).hexdigest()[:8]}"

    def _build(self, name: GraphName) -> bytes:
        if name == "network-int8":
            assert self._calibration is not None
            return int8_graph(self.get("network"), self._calibration.inputs())
        if name == "network":
            assert self._network is not None
            return network_graph(self._network, self.latent_shape)
        assert self._autoencoder is not None
        build: Callable[[Autoencoder], bytes] = encoder_graph if name == "encoder" else decoder_graph
        return build(self._autoencoder)


class Compiled:
    """What an engine has compiled from the graphs of a model. That of weights which have changed is dropped."""

    def __init__(self):
        self._kept: dict[tuple[str, str], Any] = {}

    def get(self, name: str, digest: str, compile_graph: Callable[[], Any]) -> Any:
        """What was compiled under ``name`` for the weights of ``digest``; compiled now where it was not yet."""
        if (name, digest) not in self._kept:
            compiled = compile_graph()
            kept = {key: value for key, value in self._kept.items() if key[1] == digest}
            self._kept = {**kept, (name, digest): compiled}
        return self._kept[name, digest]


def _tensors_of(*networks: nn.Module | None) -> list[Tensor]:
    """Parameters and buffers. ``nn.Module.parameters`` takes five times as long, and this is asked for each batch."""
    found: list[Tensor | None] = []
    waiting = list(networks)
    while waiting:
        if (module := waiting.pop()) is not None:
            found += module._parameters.values()
            found += module._buffers.values()
            waiting += module._modules.values()
    return [tensor for tensor in found if tensor is not None]


class WeightsState:
    """Weights at one moment; equal to another state if none of them was replaced, or changed in place, in between.

    Torch counts changes in place. It does not for tensors of ``inference_mode``, for changes through ``.data`` and for
    those that a fused optimizer makes. So weights that are being trained are compared by their sums as well.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        # Held, so that no other tensor can have the identity or the memory of one that was replaced.
        self._held = [(tensor, tensor.detach()) for tensor in tensors]
        self._marks = [(id(tensor), tensor.data_ptr(), _changes(tensor)) for tensor in tensors]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightsState) and self._marks == other._marks


def _changes(tensor: Tensor) -> tuple[int, float | None]:
    """How often a tensor was changed in place, as torch counts; of one that is trained also the sum of its values."""
    count = 0 if tensor.is_inference() else tensor._version
    return count, tensor.detach().double().sum().item() if tensor.requires_grad else None


def _plain_values(module: nn.Module | None) -> list[tuple[str, object]]:
    """The settings that modules hold beside their weights, such as a patch's side."""
    plain = bool | int | float | str | tuple | list
    parts = module.named_modules() if module is not None else ()
    return [
        (f"{place}.{name}", value)
        for place, part in parts
        for name, value in vars(part).items()
        if isinstance(value, plain)
    ]


def _read(path: Path) -> bytes | None:
    """The content of a cached file; None where it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    whole = hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]
    return content[DIGEST_BYTES:] if whole else None


def network_name(precision: str) -> GraphName:
    """The network's graph for a precision: bf16 is the engine's own arithmetic on the graph in fp32."""
    return "network-int8" if precision == "int8" else "network"
