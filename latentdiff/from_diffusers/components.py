"""The parts of a pipeline of diffusers, each read by diffusers itself and checked: no pickle, no code of others."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from latentdiff.config import Settings
from latentdiff.config.diffusers_models import VAE_CONFIGS, AutoencoderKLConfig, AutoencoderTinyConfig, UNet2DConfig
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.extras import import_extra
from latentdiff.from_diffusers.address import Address

# What a pipeline calls its autoencoder.
AUTOENCODERS = ("vae", "vqvae")
# Folders of a component that pipelines of old have at the root.
ROOT = None


class ReadUNet(NamedTuple):
    """A UNet2DModel: its arguments, and its weights in fp32."""

    config: UNet2DConfig
    state: dict[str, Tensor]


class ReadVae(NamedTuple):
    """An autoencoder: its class, its arguments, and its weights in fp32."""

    kind: str
    config: AutoencoderKLConfig | AutoencoderTinyConfig
    state: dict[str, Tensor]


class Components:
    """What is at an address.

    Args:
        address: A pipeline, or one model.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``diffusers``, and
    :class:`~latentdiff.errors.CheckpointError` where diffusers cannot read what is there.
    """

    def __init__(self, address: Address):
        self.address = address
        self._diffusers: Any = import_extra("diffusers", "diffusers")

    @cached_property
    def index(self) -> dict[str, Any] | None:
        """``model_index.json`` of a pipeline: its class, and those of its parts. None for a model alone."""
        return self._json(self._diffusers.DiffusionPipeline, ROOT)

    @cached_property
    def own_class(self) -> str | None:
        """The class of a model alone, from its ``config.json``; None for a pipeline."""
        if self.index is not None:
            return None
        found = self._json(self._diffusers.UNet2DModel, self.address.subfolder)
        if found is None:
            raise CheckpointError(
                f"{self.address} holds neither model_index.json nor config.json of diffusers"
                + ("" if self.address.is_folder else ", or the Hub cannot be reached")
            )
        return str(found.get("_class_name"))

    def class_of(self, component: str) -> str | None:
        """The class of a part; None where the pipeline has no such part."""
        if self.index is None:
            return self.own_class if component in ("unet", *AUTOENCODERS) else None
        named = self.index.get(component)
        return named[1] if isinstance(named, list) and len(named) == 2 else None

    def unet(self) -> ReadUNet:
        """The UNet2DModel.

        Raises :class:`~latentdiff.errors.CheckpointError` where there is another network than that, or none.
        """
        kind = self.class_of("unet") or self.class_of("transformer") or self.class_of("prior")
        if kind != "UNet2DModel":
            what = {
                "UNet2DConditionModel": "a UNet2DConditionModel, which draws from a text",
                None: f"no network, but {(self.index or {}).get('_class_name')}",
            }
            raise CheckpointError(
                f"{self.address} holds {what.get(kind, kind)}: latentdiff takes pipelines of a UNet2DModel"
            )
        config, state = self._read("UNet2DModel", "unet", UNet2DConfig, self.address.subfolder)
        return ReadUNet(config, state)

    def has_autoencoder(self) -> bool:
        """Whether there is an autoencoder of any kind."""
        return self._autoencoder() is not None

    def autoencoder_class(self) -> tuple[str, str]:
        """The name of the part that is the autoencoder, and its class: AutoencoderKL or AutoencoderTiny.

        Raises :class:`~latentdiff.errors.CheckpointError` for another class, such as VQModel, or none.
        """
        name = self._autoencoder()
        kind = self.class_of(name) if name else None
        if kind == "VQModel":
            raise CheckpointError(
                f"{self.address} has a VQModel, which picks its latents from a codebook. A codec of latentdiff draws "
                "them from a Gaussian: take a pipeline with an AutoencoderKL or AutoencoderTiny"
            )
        if name is None or kind not in VAE_CONFIGS:
            raise CheckpointError(
                f"{self.address} holds {kind or self.own_class or 'no autoencoder'} where an AutoencoderKL or "
                "AutoencoderTiny is needed"
            )
        return name, kind

    def autoencoder(self) -> ReadVae:
        """The AutoencoderKL or AutoencoderTiny. Raises as :meth:`autoencoder_class` does."""
        name, kind = self.autoencoder_class()
        config, state = self._read(kind, name, VAE_CONFIGS[kind], None if self.index else self.address.subfolder)
        return ReadVae(kind, config, state)

    def scheduler(self) -> tuple[str, dict[str, Any]] | None:
        """The class of the scheduler, and its settings with their defaults; None where there is none."""
        kind = self.class_of("scheduler")
        if kind is None:
            return None
        cls = getattr(self._diffusers, kind, None)
        if cls is None or not hasattr(cls, "from_config"):
            return kind, {}
        values = self._json(cls, "scheduler") or self._json(cls, ROOT)
        if values is None:
            raise CheckpointError(f"{self.address} has no scheduler_config.json")
        with self._errors():
            return kind, dict(cls.from_config(values).config)

    def _autoencoder(self) -> str | None:
        """The name of the part that is the autoencoder."""
        if self.index is None:
            return None if self.own_class == "UNet2DModel" else "vae"
        return next((name for name in AUTOENCODERS if self.class_of(name)), None)

    def _has_folder(self, cls: Any, component: str) -> bool:
        """Whether a part has a folder of its own. Of a local one, diffusers would take the root's configuration."""
        if self.address.is_folder:
            return (Path(self.address.source) / component).is_dir()
        return self._json(cls, component) is not None

    def _json(self, cls: Any, subfolder: str | None) -> dict[str, Any] | None:
        """The configuration of a class in a folder of the address; None where there is no such file."""
        with quiet():
            try:
                found = cls.load_config(self.address.source, subfolder=subfolder, revision=self.address.revision)
            except (OSError, ValueError) as error:
                if self.address.is_folder and not _is_broken(error):
                    return None
                if not self.address.is_folder and "does not appear to have a file" in str(error):
                    return None
                raise self._error(error) from error
        return dict(found)

    def _read(
        self, kind: str, component: str, settings: type[Settings], subfolder: str | None
    ) -> tuple[Any, dict[str, Tensor]]:
        """Settings and weights of a model, from a folder of its own, or from the root as in pipelines of old."""
        cls = getattr(self._diffusers, kind)
        if subfolder is None and self.index is not None:
            subfolder = component if self._has_folder(cls, component) else ROOT
        with self._errors(), quiet():
            values = cls.load_config(self.address.source, subfolder=subfolder, revision=self.address.revision)
        # Before a network is built: the numbers are anybody's.
        config = self._settings(settings, values, kind)
        with self._errors(), quiet():
            model, info = cls.from_pretrained(
                self.address.source,
                subfolder=subfolder,
                revision=self.address.revision,
                variant=self.address.variant,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
        if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
            raise CheckpointError(f"the weights of the {kind} in {self.address} do not fit it: {str(wrong[0])[:80]}")
        return config, {name: tensor.float() for name, tensor in model.state_dict().items()}

    def _settings(self, settings: type[Settings], values: dict[str, Any], kind: str) -> Any:
        known = {field.name for field in dataclasses.fields(settings)}
        own = {name: value for name, value in values.items() if not name.startswith("_")}
        if unknown := sorted(own.keys() - known):
            raise CheckpointError(f"the {kind} in {self.address} has settings that are unknown here: {unknown}")
        try:
            return settings(**own)
        except ConfigError as error:
            raise CheckpointError(f"the {kind} in {self.address} is not one that latentdiff takes: {error}") from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What diffusers and its libraries raise for a model that cannot be read, in a line."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # of five libraries, by whatever is wrong with a file
            raise self._error(error) from error

    def _error(self, error: Exception) -> CheckpointError:
        lines = " ".join(str(error).split())[:300] or type(error).__name__
        return CheckpointError(f"diffusers cannot read {self.address}: {lines}")


def _is_broken(error: Exception) -> bool:
    """Whether a configuration is there and cannot be read."""
    return "not a valid JSON" in str(error)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep diffusers' warnings, which are for those who train with it, from the screen."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
