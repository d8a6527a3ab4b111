"""The models that the page offers, and the VAE baseline beside each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from latentdiff.codec import AutoencoderCodec
from latentdiff.config import EngineName
from latentdiff.errors import ConfigError
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.inference.model_file import find_model
from latentdiff.resources import PACKAGE
from latentdiff.runs.run_folder import folder_name

# The released diffusion models, by the names of their files, in the order of the list.
RELEASED = ("latent", "pixel")
BASELINE = "vae_baseline"
FIRST = "fashion-mnist"
TITLES = {
    "fashion-mnist": "Fashion-MNIST",
    "fashion-mnist-coloured": "Coloured Fashion-MNIST",
    "flowers-102": "Flowers-102",
    "celeba": "CelebA",
    "mnist": "MNIST",
    "cifar-10": "CIFAR-10",
    "oxford-iiit-pet": "Oxford-IIIT Pets",
}


@dataclass(frozen=True)
class Entry:
    """A model of the list.

    Attributes:
        name: What the list calls it.
        model: The model, ready to sample.
        baseline: An autoencoder whose decoded noise is shown beside the samples; None where there is none.
        baseline_kind: ``trained`` for an autoencoder that was trained as a baseline, ``own`` for the model's own, which
            was not.
    """

    name: str
    model: DiffusionModel
    baseline: AutoencoderCodec | None = None
    baseline_kind: Literal["trained", "own"] = "trained"

    @property
    def data_title(self) -> str:
        """The name of the data set that the model was trained on, as a person writes it; empty where not known."""
        name = _data_of(self.model)
        return TITLES.get(name, name)

    @property
    def classes(self) -> list[str]:
        """The names of the classes; their numbers where they have no names; none of an unconditional model."""
        if self.model.class_names:
            return list(self.model.class_names)
        return [str(index) for index in range(self.model.network.null_label or 0)]

    @property
    def reads(self) -> bool:
        """Whether the model takes prompts."""
        return self.model.network.tokenizer is not None

    @property
    def can_guide(self) -> bool:
        """Whether guidance has an effect: the model has classes or captions, and was trained with class dropout."""
        return self.model.conditional and self.model.diffusion.class_dropout > 0

    @property
    def facts(self) -> str:
        """What the model is, in a line."""
        codec = self.model.codec
        image, latent = ("×".join(map(str, shape)) for shape in (codec.image_shape, codec.latent_shape))
        space = "on the pixels themselves"
        if isinstance(codec, AutoencoderCodec):
            space = f"in a latent space of {latent}, {codec.compression:.0f} times fewer numbers"
        count = sum(parameter.numel() for parameter in self.model.network.parameters())
        classes = f"{len(self.classes)} classes" if self.classes else "no classes"
        if (tokenizer := self.model.network.tokenizer) is not None:
            classes = f"it reads {tokenizer.describe()}"
        return f"Images of {image} drawn {space}. {classes[0].upper()}{classes[1:]}, {count / 1e6:.1f} million weights."


class Catalogue:
    """The models by name. All are loaded at the start, so an unusable file is reported before the page is served.

    Args:
        paths: Model files, runs or released models; none takes all that are released.
        engine: What runs the networks.
        device: Where.

    Raises :class:`~latentdiff.errors.CheckpointError` for a file that is missing, damaged or of another kind, and
    :class:`~latentdiff.errors.ConfigError` for an engine that is not installed, or if none of them is a diffusion
    model.
    """

    def __init__(self, paths: Sequence[str] = (), engine: EngineName = "auto", device: torch.device | str = "cpu"):
        found = [Path(path) for path in paths] or released_models()
        loaded = [(path, load(path, device=device, engine=engine)) for path in map(find_model, found)]
        baselines = [model for _, model in loaded if isinstance(model, AutoencoderCodec)]
        models = [(path, model) for path, model in loaded if isinstance(model, DiffusionModel)]
        if not models:
            what = "only autoencoders were named" if baselines else "there is no released model here"
            raise ConfigError(f"the app needs a diffusion model, but {what}: name the file of one")
        names = _unique([_name(path, model) for path, model in models])
        self.entries = {
            name: _entry(name, path, model, baselines, engine)
            for name, (path, model) in zip(names, models, strict=True)
        }

    @property
    def names(self) -> list[str]:
        """The names in the order of the list."""
        return list(self.entries)

    def get(self, name: object) -> Entry:
        """The entry of a name. Raises :class:`~latentdiff.errors.ConfigError` for another."""
        if not isinstance(name, str) or name not in self.entries:
            raise ConfigError(f"there is no model of that name: choose one of {', '.join(self.names)}")
        return self.entries[name]


def released_models() -> list[Path]:
    """The files of the released diffusion models, those of Fashion-MNIST first."""
    roots = [root for root in (PACKAGE.parent / "checkpoints", PACKAGE / "checkpoints") if root.is_dir()]
    folders = sorted(
        (path for root in roots[:1] for path in root.iterdir() if path.is_dir()),
        key=lambda path: (path.name != FIRST, path.name),
    )
    files = (folder / f"{name}.safetensors" for folder in folders for name in RELEASED)
    return [path for path in files if path.is_file()]


def _data_of(model: DiffusionModel | AutoencoderCodec) -> str:
    """The name of the data set that a model was trained on; empty where it is not known."""
    return str(((model.settings or {}).get("data") or {}).get("name") or "")


def _name(path: Path, model: DiffusionModel) -> str:
    data = _data_of(model)
    for kind in RELEASED:
        # Where it lies among the released models, and as the file of a Space is called.
        if (path.parent.name, path.stem) == (data, kind) or path.stem == f"{data}-{kind}":
            return f"{TITLES.get(data, data)}, {kind}"
    return folder_name(path)


def _unique(names: Iterable[str]) -> list[str]:
    """The names, a number behind each that was there before."""
    found: list[str] = []
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name} ({number})"
        found.append(own)
    return found


def _entry(
    name: str, path: Path, model: DiffusionModel, given: Sequence[AutoencoderCodec], engine: EngineName
) -> Entry:
    """An entry with the first baseline of: the given one, the one in the file's folder, the model's own autoencoder."""
    shape, data = model.codec.image_shape, _data_of(model)
    if fitting := [codec for codec in given if codec.image_shape == shape and _data_of(codec) == data]:
        return Entry(name, model, fitting[0])
    beside = path.parent / f"{BASELINE}.safetensors"
    if beside.is_file():
        codec = load(beside, device=model.device, engine=engine)
        if isinstance(codec, AutoencoderCodec) and codec.image_shape == shape:
            return Entry(name, model, codec)
    own = model.codec if isinstance(model.codec, AutoencoderCodec) else None
    return Entry(name, model, own, "own")
