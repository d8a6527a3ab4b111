"""One safetensors file holds a model: its weights and, in the header, the JSON that rebuilds it."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latentdiff import __version__, distributed
from latentdiff.errors import CheckpointError
from latentdiff.files import file_sha256, write_atomically

FORMAT = 1
KEY = "latentdiff"


def save(path: Path, kind: str, tensors: dict[str, Tensor], header: dict[str, Any], dtype: torch.dtype | None = None):
    """Write a model file.

    Args:
        path: Where to; replaced atomically.
        kind: ``autoencoder``, ``diffusion`` or ``classifier``.
        tensors: Named weights.
        header: Plain values that rebuild the model.
        dtype: Store matrices and kernels in this type (bf16 halves a released file); biases, norms and statistics,
            which are few, stay as they are.
    """

    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        narrow = dtype is not None and tensor.is_floating_point() and tensor.ndim > 1
        return (tensor.to(dtype) if narrow else tensor).contiguous().clone()

    meta = {KEY: json.dumps({"format": FORMAT, "kind": kind, **header})}
    stored_tensors = {name: stored(tensor) for name, tensor in tensors.items()}
    write_atomically(Path(path), lambda name: save_file(stored_tensors, name, metadata=meta))


def read_header(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """The header of a model file, checked to be of ``kind`` where one is given. Raises :class:`CheckpointError`."""
    return _open(Path(path), kind, with_tensors=False)[0]


def read(path: Path | str, kind: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights (floating-point ones as fp32) of a model file. Raises :class:`CheckpointError`."""
    return _open(Path(path), kind, with_tensors=True)


def _open(path: Path, kind: str | None, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"there is no model file {path}")
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys() if with_tensors else ():
                tensor = file.get_tensor(name)
                tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one that latentdiff wrote: its header has no model"
        )
    header = json.loads(metadata[KEY])
    if header["format"] != FORMAT:
        raise CheckpointError(f"{path} is of format {header['format']}; this version of latentdiff reads {FORMAT}")
    if kind and header["kind"] != kind:
        raise CheckpointError(f"{path} holds a model of kind {header['kind']!r} where {kind!r} is needed")
    return header, tensors


def read_shared_autoencoder(path: Path, named: dict[str, str]) -> dict[str, Tensor]:
    """The weights of the autoencoder that a model shares with others, from the very file that its header names."""
    beside = path.parent / named["name"]
    if not beside.is_file():
        raise CheckpointError(f"{path} decodes with {named['name']}, which is not beside it: copy both")
    if file_sha256(beside) != named["sha256"]:
        raise CheckpointError(
            f"{beside} is not the autoencoder that {path} was released with (SHA-256 {named['sha256'][:12]})"
        )
    return read(beside, kind="autoencoder")[1]


class TrainedModel:
    """What every model knows of its training, whether it was trained just now or read from a file.

    Attributes:
        provenance: The record that its file's header holds: data, budget, device, versions, settings, history.
        folder: The folder of the run that made it, or None.
        path: The file that it was read from, or None.
    """

    def __init__(self) -> None:
        self.provenance: dict[str, Any] = {}
        self.folder: Path | None = None
        self.path: Path | None = None

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The measurements at the end of each epoch, as in ``metrics.csv``; empty where they are not known."""
        return self.provenance.get("history", [])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it was trained with, as in ``config.yaml``; empty where they are not known."""
        return self.provenance.get("config", {})


def load_weights(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load ``state`` into ``model``; :class:`CheckpointError` naming ``what`` where the two do not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {what} do not fit the network: {str(error).splitlines()[-1]}") from error


def device_name(device: torch.device | str) -> str:
    """What a person calls the device: the GPU's name, or the CPU with its threads; ``2 x`` where two processes share
    the work."""
    device = torch.device(device)
    own = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    own = torch.cuda.get_device_name(device) if device.type == "cuda" else own
    return own if distributed.world_size() == 1 else f"{distributed.world_size()} x {own}"


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    others = {name: version(name) for name in ("torchvision", "lightning", "pillow")}
    return {
        "latentdiff": __version__,
        "torch": torch.__version__,
        **others,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }
