"""``diffusers:PATH_OR_ID``: where a model of diffusers is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff.errors import CheckpointError

PREFIX = "diffusers:"
OPTIONS = ("variant", "subfolder", "revision")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Address:
    """Where a pipeline or a model of diffusers is.

    Attributes:
        source: A folder, or the ID of a repository of the Hugging Face Hub, ``USER/NAME``.
        variant: Which of several files of weights: ``ema`` stands for ``diffusion_pytorch_model.ema.safetensors``.
        subfolder: The folder of the network in it, such as ``unet_ema``. Default: the one that diffusers takes.
        revision: Branch, tag or commit of a repository.
    """

    source: str
    variant: str | None = None
    subfolder: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        options = [f",{name}={getattr(self, name)}" for name in OPTIONS if getattr(self, name)]
        return f"{PREFIX}{self.source}{''.join(options)}"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return Path(self.source).is_dir()


def is_address(value: Any) -> bool:
    """Whether a setting names a model of diffusers."""
    return isinstance(value, str | os.PathLike) and str(value).startswith(PREFIX)


def parse_address(value: Any) -> Address:
    """The address in ``diffusers:PATH_OR_ID[,variant=NAME][,subfolder=NAME][,revision=NAME]``.

    Raises :class:`~latentdiff.errors.CheckpointError` for another text, and for a folder that is not there.
    """
    source, *rest = re.split(rf",(?=(?:{'|'.join(OPTIONS)})=)", str(value).removeprefix(PREFIX))
    options = dict(part.split("=", 1) for part in rest)
    if len(options) != len(rest) or not source or not all(options.values()):
        raise CheckpointError(
            f"{value} is no address of a model of diffusers: write {PREFIX}PATH_OR_ID, followed by "
            + ", ".join(f",{name}=…" for name in OPTIONS)
            + " where they are needed"
        )
    if (subfolder := options.get("subfolder")) and (Path(subfolder).is_absolute() or ".." in Path(subfolder).parts):
        raise CheckpointError(f"{value}: the subfolder is one of the model's own, not {subfolder}")
    address = Address(str(Path(source).expanduser()), **options)
    if not address.is_folder and not HUB_ID.fullmatch(address.source):
        if unknown := re.search(r",(\w+)=[^,/]*$", source):
            raise CheckpointError(f"{value}: there is no option {unknown[1]}, only {', '.join(OPTIONS)}")
        raise CheckpointError(f"there is no folder {address.source}, and it is no ID of the Hub, USER/NAME")
    return address
