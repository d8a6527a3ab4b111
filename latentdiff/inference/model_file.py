"""The file of a model that a command names, also of one that is not a file of ours yet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from latentdiff.codec import AutoencoderCodec
from latentdiff.config import to_dict
from latentdiff.from_diffusers.address import is_address, parse_address
from latentdiff.from_diffusers.models import content_digest
from latentdiff.inference.engines.graphs import cache_folder
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.resources import resolve_checkpoint


def find_model(name: Path | str) -> Path:
    """Return the model file that ``name`` means: see :func:`~latentdiff.resources.resolve_checkpoint`.

    A model of diffusers, ``diffusers:PATH_OR_ID``, is read and written as a file of ours into the user's cache folder,
    by its content, so that it is known by a digest as any other.

    Raises :class:`~latentdiff.errors.LatentdiffError` where there is none, or where it cannot be read.
    """
    if not is_address(name):
        return resolve_checkpoint(name)
    model, source = load(name), Path(parse_address(name).source)
    path = cache_folder() / "diffusers" / _digest(model)[:16] / f"{source.resolve().name}.safetensors"
    if not path.is_file():
        model.save(path)
    return path


def _digest(model: DiffusionModel | AutoencoderCodec) -> str:
    """Of everything that the model's file holds."""
    if isinstance(model, AutoencoderCodec):
        said, state = model.header(), model.state()
    else:
        codec = model.codec if isinstance(model.codec, AutoencoderCodec) else None
        said = {
            "network": to_dict(model.network_config),
            "diffusion": to_dict(model.diffusion),
            "sampling": model.sampling,
            "class_names": model.class_names,
            "codec": codec.header() if codec else None,
        }
        state = {f"network.{key}": value for key, value in model.network.state_dict().items()}
        state |= {f"codec.{key}": value for key, value in codec.state().items()} if codec else {}
    return hashlib.sha256(f"{json.dumps(said, sort_keys=True)}{content_digest(state)}".encode()).hexdigest()
