"""One safetensors file holds a model: its weights and, in the header, the JSON that rebuilds it."""

from __future__ import annotations

import json
import math
import os
import platform
import struct
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latentdiff import __version__, digest, distributed, hub
from latentdiff.errors import CheckpointError
from latentdiff.files import write_atomically
from latentdiff.folder_mark import content_of, read_mark
from latentdiff.int8_weights import from_int8, to_int8
from latentdiff.model_header import check_header

FORMAT = 1
KEY = "latentdiff"
# A header is text; a history of ten thousand epochs has five of them.
MAX_HEADER_BYTES = 16 * 2**20
# What a run calls its models.
RUN_MODELS = ("model.safetensors", "best.safetensors", "last.safetensors")

Network = TypeVar("Network", bound=nn.Module)


def save(path: Path, kind: str, tensors: dict[str, Tensor], header: dict[str, Any], dtype: torch.dtype | None = None):
    """Write a model file.

    Args:
        path: Where to; replaced atomically.
        kind: ``autoencoder``, ``diffusion`` or ``classifier``.
        tensors: Named weights.
        header: Plain values that rebuild the model.
        dtype: Store matrices and kernels in this type; biases, norms and statistics, which are few, stay as they are.
            ``torch.bfloat16`` halves a file, ``torch.int8`` halves it again (see :mod:`latentdiff.int8_weights`).

    Raises :class:`CheckpointError` for weights that are NaN or infinite, for a type that would not hold them, and where
    a file that latentdiff did not write would be lost: no file is written.
    """
    if dtype not in (None, torch.int8) and not dtype.is_floating_point:
        raise CheckpointError(f"{path} is not written: {dtype} does not hold weights; take torch.bfloat16 or float32")
    if is_anothers(Path(path)):
        raise CheckpointError(
            f"{path} is not written: a file that is no model of latentdiff is there, and would be lost"
        )

    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        narrow = dtype not in (None, torch.int8) and tensor.is_floating_point() and tensor.ndim > 1
        return (tensor.to(dtype) if narrow else tensor).contiguous().clone()

    header = {name: value for name, value in header.items() if name != "digest"}
    stored_tensors = {name: stored(tensor) for name, tensor in tensors.items()}
    if name := name_of_not_finite(stored_tensors):
        raise CheckpointError(f"{path} is not written: the weights in {name} are NaN or infinite")
    if dtype == torch.int8:
        stored_tensors = to_int8(stored_tensors)
    write_tensors(Path(path), stored_tensors, {"format": FORMAT, "kind": kind, **header})


# Bytes before the tensor in a file of :func:`write_tensor_in_parts`; what the header does not need is spaces.
ROOM_FOR_HEADER = 4096


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a safetensors file whose header has ``header`` as JSON, and the digest of the whole file with it."""

    def write(name: Path) -> None:
        save_file(tensors, name, metadata={KEY: digest.header_with_digest(header)})
        digest.sign_tensors(name)

    write_atomically(path, write)


def write_tensor_in_parts(
    path: Path, name: str, shape: tuple[int, ...], parts: Iterable[Tensor], header: Callable[[], dict[str, Any]]
) -> None:
    """Write what :func:`write_tensors` would, of one fp32 tensor that comes in parts and is never held whole.

    Args:
        path: The file.
        name: The tensor's name.
        shape: Its shape.
        parts: Its rows, some at a time, in order.
        header: Gives the header of :func:`write_tensors`, once all parts are written.
    """
    about = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * math.prod(shape)]}

    def write(file_name: Path) -> None:
        with open(file_name, "wb") as file:
            file.seek(8 + ROOM_FOR_HEADER)
            for part in parts:
                file.write(part.float().contiguous().numpy().data)
            text = {"__metadata__": {KEY: digest.header_with_digest(header())}, name: about}
            head = json.dumps(text, separators=(",", ":")).encode()
            if len(head) > ROOM_FOR_HEADER:
                raise ValueError(f"a header of {len(head):,} bytes has no room in {path}")
            file.seek(0)
            file.write(struct.pack("<Q", ROOM_FOR_HEADER) + head.ljust(ROOM_FOR_HEADER))
        digest.sign_tensors(file_name)

    write_atomically(path, write)


def place_of_tensor(path: Path, name: str) -> tuple[tuple[int, ...], int]:
    """The shape of a tensor in a safetensors file, and where its values begin, in bytes. Raises OSError, ValueError."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        about = json.loads(file.read(length))[name]
    return tuple(about["shape"]), 8 + length + about["data_offsets"][0]


class TensorsFile(NamedTuple):
    """A safetensors file of latentdiff.

    Attributes:
        header: Its JSON, without the digest.
        tensors: Its tensors as they are stored; none where the header alone was asked for.
        digest: That of its content, where it has one, which then fits; None for a file without one.
        num_tensors, num_values: How many tensors there are, and numbers in them.
    """

    header: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str | None
    num_tensors: int
    num_values: int


def read_tensors(path: Path, with_tensors: bool = True) -> TensorsFile:
    """Read a file from :func:`write_tensors`, or one from before files had digests.

    Raises :class:`CheckpointError` for a file that is damaged, or that latentdiff did not write.
    """
    damaged = f"{path} is damaged or not a safetensors file"
    try:
        _check_length(path)
        stored = digest.check_tensors(path)
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names} if with_tensors else {}
            num_values = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    # Whatever the file's bytes, and the library's names for what is wrong with them.
    except Exception as error:
        raise CheckpointError(f"{damaged}: {_first_line(error)}") from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one that latentdiff wrote: its header has no model"
        )
    try:
        header = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not JSON ({_first_line(error)})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is damaged: its header is not a JSON object")
    header.pop("digest", None)
    return TensorsFile(header, tensors, stored, len(names), num_values)


def read_header(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """The header of a model file, checked to be of ``kind`` where one is given. Raises :class:`CheckpointError`."""
    return _open(Path(path), kind, with_tensors=False).header


def read(path: Path | str, kind: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights (floating-point ones as fp32) of a model file. Raises :class:`CheckpointError`."""
    file = _open(Path(path), kind, with_tensors=True)
    return file.header, file.tensors


def _open(path: Path, kind: str | None, with_tensors: bool) -> TensorsFile:
    """A model file, checked from its digest to its weights."""
    if path.is_dir():
        what = f"holds {content_of(mark.stage)}" if (mark := read_mark(path)) else "is a folder"
        raise CheckpointError(f"{path} {what}, and no model: name a model's file or the folder of its run")
    if not path.is_file():
        raise CheckpointError(f"there is no model file {path}")
    file = read_tensors(path, with_tensors)
    header = file.header
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of format {header.get('format')}; this version of latentdiff reads {FORMAT}")
    if kind and header.get("kind") != kind:
        raise CheckpointError(
            f"{path} holds a model of kind {header.get('kind')!r} where {kind!r} is needed: name another file"
        )
    check_header(header, path, file.num_tensors, file.num_values)
    if file.digest is None:
        digest.note_missing_digest(path)
    try:
        weights = from_int8(file.tensors)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    # A copy: a tensor as it comes is a view of the file, which may be replaced while the model is in use.
    tensors = {
        name: tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float32 else tensor.clone()
        for name, tensor in weights.items()
    }
    if name := name_of_not_finite(tensors):
        raise CheckpointError(
            f"the weights in {path} are NaN or infinite ({name}): its training diverged. Take an earlier model of the "
            "run, such as its best.safetensors."
        )
    return file._replace(tensors=tensors)


def is_anothers(path: Path) -> bool:
    """Whether something is there that latentdiff did not write: neither a model file, nor a run's own by its name."""
    if not path.exists() or is_of_a_run(path):
        return False
    if not path.is_file():
        return True
    try:
        _check_length(path)
        with safe_open(path, framework="pt") as file:
            return KEY not in (file.metadata() or {})
    except Exception:  # whatever is in it
        return True


def check_no_run_there(path: Path) -> None:
    """Raise :class:`CheckpointError` where the model of a run would be lost, which has days of training in it."""
    if path.exists() and is_of_a_run(path):
        mark = read_mark(path.parent)
        of = content_of(mark and mark.stage)
        raise CheckpointError(f"{path} is not written: it is the model of {of}, and would be lost. Name another file")


def is_of_a_run(path: Path) -> bool:
    """Whether a path is the model of a run: its name is one of a model, and its folder has a mark."""
    return path.name in RUN_MODELS and read_mark(path.parent) is not None


def _check_length(path: Path) -> None:
    """Raise ValueError for a header that is longer than any, or than the file."""
    with open(path, "rb") as file:
        start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, os.path.getsize(path) - 8):
        raise ValueError(f"its header would have {length:,} bytes")


def _first_line(error: Exception | str) -> str:
    """What an exception says, in one line that is not too long."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


def name_of_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity; None where all numbers are finite.

    It takes 0.5 ms for 2 million numbers: their norm is finite if all of them are, and only where it is not does each
    tensor need a look of its own.
    """
    floating = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating or bool(nn.utils.get_total_norm(list(floating.values())).isfinite()):
        return None
    return next((name for name, tensor in floating.items() if not bool(tensor.isfinite().all())), None)


def read_shared_autoencoder(path: Path, named: dict[str, str]) -> dict[str, Tensor]:
    """The weights of the autoencoder that a model shares with others, from the very file that its header names."""
    beside = path.parent / named["name"]
    if not beside.is_file():
        hub.fetch_beside(path, named["name"])
    if not beside.is_file():
        raise CheckpointError(
            f"{path} needs {named['name']} to decode, which is missing in its folder: copy both files"
        )
    file = _open(beside, "autoencoder", with_tensors=True)
    if (file.digest or digest.file_digest(beside)) != named["sha256"]:
        raise CheckpointError(
            f"{beside} is not the autoencoder that {path} was released with (SHA-256 {named['sha256'][:12]})"
        )
    return file.tensors


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
        reason = _first_line(str(error).splitlines()[-1].strip())
        raise CheckpointError(f"the weights in {what} do not fit the network: {reason}") from error


def build_with_weights(build: Callable[[], Network], state: dict[str, Tensor], what: str) -> Network:
    """Build a network around weights that were read.

    It is built without memory first (torch's device ``meta``) and compared with the weights, name by name and shape by
    shape. It then takes the tensors of ``state`` as they are: no weights are drawn in vain.

    Args:
        build: Makes the network.
        state: Its weights, all of them.
        what: The file, for messages.

    Raises :class:`CheckpointError` where there is no such network, or where the weights are not its own.
    """
    try:
        with torch.device("meta"):
            network = build()
    # What a header asks for may be wrong in every way that code can fail.
    except Exception as error:
        raise CheckpointError(f"{what} describes a network that cannot be built: {_first_line(error)}") from error
    wanted = network.state_dict()
    for name in [*wanted, *state]:
        sides = [_described(tensors.get(name)) for tensors in (state, wanted)]
        if sides[0] != sides[1]:
            raise CheckpointError(
                f"the weights in {what} do not fit the network: {name[:80]} is {sides[0]}, not {sides[1]}"
            )
    network.load_state_dict(state, assign=True)
    return network


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{'' if tensor.is_floating_point() else 'whole numbers '}{list(tensor.shape)}"


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
