"""``last.ckpt``: what a training run goes on from. Written whole, with a digest, and with the one before it kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from latentdiff import digest
from latentdiff.errors import CheckpointError
from latentdiff.files import write_atomically

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
# What a checkpoint of either trainer has at least.
KEYS = ("state_dict", "latentdiff")


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, and keep the one that was there as ``previous.ckpt``.

    The one before is kept by a second name for the same file: it costs its space on the disk, and no time. There is a
    whole ``last.ckpt`` at every moment. A file system without hard links keeps none.

    Args:
        state: Tensors and plain values.
        path: Where to, a run's ``last.ckpt``.
    """

    def write(name: Path) -> None:
        torch.save(state, name)
        digest.sign_archive(name)
        _keep(path)

    write_atomically(path, write)


def _keep(path: Path) -> None:
    waiting = path.with_name(f".{PREVIOUS}")
    with suppress(OSError):
        waiting.unlink(missing_ok=True)
        os.link(path, waiting)
        os.replace(waiting, path.with_name(PREVIOUS))
    with suppress(OSError):  # it is left where both are one file already
        waiting.unlink(missing_ok=True)


def read(path: Path, kind: str | None = None, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint of a run, on the CPU. Nothing in it is executed, whatever the environment says.

    Args:
        path: The file.
        kind: What the run must train, ``autoencoder`` or ``diffusion``; None takes either.
        mapped: Leave the weights in the file, for a look at what they are.

    Raises :class:`CheckpointError` for one that is missing or damaged, or of a run of another kind. Where the one
    before a damaged one is whole, the message says how to go on from that.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    checkpoint = _read_or_advise(path, mapped)
    encodes = any(name.startswith("network.encoder.") for name in checkpoint["state_dict"])
    own = "autoencoder" if encodes else "diffusion"
    if kind and own != kind:
        raise CheckpointError(f"{path} holds a run of kind {own!r} where {kind!r} is needed: name another run")
    return checkpoint


def _read_or_advise(path: Path, mapped: bool) -> dict[str, Any]:
    try:
        return _read(path, mapped)
    except CheckpointError as error:
        previous = path.with_name(PREVIOUS)
        if path.name != LAST or not previous.is_file():
            raise
        try:
            seen = _read(previous, mapped=True)["latentdiff"]["images_seen"]
        except CheckpointError:
            raise CheckpointError(f"{error}\n{previous}, the one before it, is damaged too.") from error
        raise CheckpointError(
            f"{error}\nThe one before it is whole, of {seen:,} images. To go on from there:\nmv {previous} {path}"
        ) from error


def _read(path: Path, mapped: bool = False) -> dict[str, Any]:
    try:
        signed = digest.check_archive(path)
        # Given, so that no environment variable can turn it off.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # PyTorch has many words for a file that it cannot read, some of them several lines.
    except Exception as error:
        reason = str(error) if isinstance(error, digest.DamagedFileError | OSError) else "PyTorch cannot read it"
        raise CheckpointError(f"{path} is damaged or no checkpoint of a run: {reason}") from error
    whole = isinstance(state, dict) and all(key in state for key in KEYS) and isinstance(state["latentdiff"], dict)
    if not whole or not isinstance(state["latentdiff"].get("images_seen"), int):
        raise CheckpointError(f"{path} is no checkpoint of a run: it lacks {', '.join(KEYS)}")
    if not signed:
        digest.note_missing_digest(path)
    return state
