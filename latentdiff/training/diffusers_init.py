"""Fine-tuning a U-Net of diffusers: its network is kept, and fitted to other images, colours and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.checkpoint import load_weights, read, read_header
from latentdiff.config import DiffusionConfig, NetworkConfig, from_dict, to_dict
from latentdiff.config.diffusers_models import DiffusersNetworkConfig, network_config_class
from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.files import file_sha256
from latentdiff.from_diffusers.address import is_address, parse_address
from latentdiff.from_diffusers.components import Components
from latentdiff.from_diffusers.models import class_names, content_digest, learns_variance
from latentdiff.from_diffusers.scheduler import process_of
from latentdiff.models.diffusers_networks import check_sides
from latentdiff.resources import resolve_checkpoint
from latentdiff.training.diffusion_module import DiffusionModule

INPUT, OUTPUT = ("conv_in.weight",), ("conv_out.weight", "conv_out.bias")
CLASSES, TIME_BIAS = "class_embedding.weight", "time_embedding.linear_2.bias"
# What a run may say of the network although the weights bring it.
MAY_BE_GIVEN = ("class_conditional", "dropout")


@dataclass(frozen=True)
class DiffusersOrigin:
    """A U-Net of diffusers that a run starts from.

    Attributes:
        named: What messages call it.
        config: Its arguments.
        state: Its weights, with diffusers' names.
        class_names: Of its classes, in order.
        has_null_row: Whether its table of classes has a last row for "no class".
        process: How it was trained; None where that is not known.
        spent: What its record says of its training.
    """

    named: str
    config: DiffusersNetworkConfig
    state: dict[str, Tensor]
    class_names: tuple[str, ...]
    has_null_row: bool
    process: DiffusionConfig | None
    spent: dict[str, Any]

    def network_for(
        self, shape: tuple[int, int, int], num_classes: int, given: NetworkConfig, diffusion: DiffusionConfig
    ) -> DiffusersNetworkConfig:
        """The settings of the network that these weights become.

        Args:
            shape: (c, h, w) of the pixels or latents that it is trained on.
            num_classes: Classes of the data set.
            given: The run's own settings of its network. Only ``class_conditional`` and ``dropout`` are used.
            diffusion: The run's process.

        Raises :class:`~latentdiff.errors.ConfigError` for other settings of the network, and for sides that it cannot
        halve.
        """
        usual = to_dict(NetworkConfig())
        changed = [k for k, value in to_dict(given).items() if usual.get(k) != value and k not in MAY_BE_GIVEN]
        if changed:
            raise ConfigError(
                f"the network is that of {self.named}: leave out {', '.join(f'--network.{name}' for name in changed)}"
            )
        unet = replace(
            self.config.unet,
            sample_size=shape[1] if shape[1] == shape[2] else shape[1:],
            in_channels=shape[0],
            out_channels=shape[0] * (2 if diffusion.learn_variance else 1),
            num_class_embeds=num_classes + 1 if given.class_conditional and num_classes else None,
            dropout=given.dropout or self.config.unet.dropout,
        )
        config = DiffusersNetworkConfig(unet=unet)
        check_sides(config, shape)
        return config

    def load_into(self, module: DiffusionModule, data: ImageDataset) -> None:
        """Fill a trainer's network with the weights, fitted to it, and say in lines what was changed."""
        state = self._fitted(module, data)
        for target in (module.network, module.ema.network):
            load_weights(target, {f"unet.{name}": tensor for name, tensor in state.items()}, self.named)
        self._say_process(module.diffusion)
        module.started_from = {
            "sha256": self.spent.get("sha256"),
            "images_seen": self.spent.get("images_seen", 0),
            "seconds": self.spent.get("seconds", 0.0),
            "flops": self.spent.get("flops"),
            "command": self.spent.get("command"),
        }

    def _fitted(self, module: DiffusionModule, data: ImageDataset) -> dict[str, Tensor]:
        ours: dict[str, Tensor] = {
            name.removeprefix("unet."): tensor for name, tensor in module.network.state_dict().items()
        }
        state = dict(self.state)
        self._fit_input(state, ours)
        self._fit_output(state, ours)
        names = data.class_names if CLASSES in ours else ()
        _fit_classes(state, ours, self.class_names, names, self.has_null_row)
        return state

    def _fit_input(self, state: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
        """Let the first convolution take other colours, in place."""
        (name,) = INPUT
        before, now = state[name].shape[1], ours[name].shape[1]
        if before == now:
            return
        if now == 1:
            state[name] = state[name].sum(dim=1, keepdim=True)
            print("first convolution: its kernels are summed over the colours, as for an image with equal channels")
        elif before == 1:
            state[name] = state[name].expand(-1, now, -1, -1) / now
            print(
                f"first convolution: its kernels are copied to {now} channels and divided by {now}; a grey image "
                "gives the same output"
            )
        else:
            state[name] = ours[name].clone()
            print(f"first convolution: untrained, since it had {before} channels and the images have {now}")

    def _fit_output(self, state: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
        """Let the last convolution give other colours, and a variance where one is learned, in place."""
        halves = 2 if learns_variance(self.config.unet) else 1
        wanted = ours["conv_in.weight"].shape[1]
        halves_now = ours["conv_out.weight"].shape[0] // wanted
        before = state["conv_out.weight"].shape[0] // halves
        if (before, halves) == (wanted, halves_now):
            return
        words = ""
        for name in OUTPUT:
            parts = list(state[name].split(before))
            if wanted == 1 != before:
                parts, words = (
                    [part.mean(dim=0, keepdim=True) for part in parts],
                    "its kernels are averaged over the colours",
                )
            elif before == 1 != wanted:
                parts, words = (
                    [part.expand(wanted, *part.shape[1:]) for part in parts],
                    "its kernels are copied for each colour",
                )
            elif before != wanted:
                parts, words = (
                    list(ours[name].split(wanted)),
                    f"untrained, since it had {before} channels and the images have {wanted}",
                )
            if halves_now > len(parts):
                parts.append(torch.zeros_like(parts[0]))  # between beta-tilde and beta
                words = " and ".join(filter(None, [words, "its new outputs for the variance are zeros"]))
            elif halves_now < len(parts):
                parts = parts[:1]
                words = " and ".join(filter(None, [words, "its outputs for the variance are dropped"]))
            state[name] = torch.cat(parts).clone()
        print(f"last convolution: {words}")

    def _say_process(self, now: DiffusionConfig) -> None:
        """Say how the weights were trained where this run trains otherwise, and the flags that keep it."""
        if self.process is None:
            return
        keys = ("schedule", "target", "num_train_steps", "beta_range", "zero_terminal_snr")
        before, here = to_dict(self.process), to_dict(now)
        changed = [key for key in keys if before[key] != here[key]]
        if self.process.trained_betas is not None and self.process.trained_betas != now.trained_betas:
            print(f"the weights of {self.named} were trained with their own betas: they must first learn the new ones")
        elif {"schedule", "target", "num_train_steps", "zero_terminal_snr"} & set(changed):
            flags = " ".join(f"--diffusion.{key} {_flag(before[key])}" for key in changed)
            print(
                f"the weights of {self.named} were trained with another noising process: they must first learn the "
                f"new one. {flags} keeps theirs"
            )


def _fit_classes(
    state: dict[str, Tensor], ours: dict[str, Tensor], before: Sequence[str], now: Sequence[str], has_null_row: bool
) -> None:
    """Let the table of classes have a row for each class of ``now``, and a last one for "no class", in place.

    A class that is in both keeps its row. A new class starts with the row of "no class", or with the mean of all rows
    if there was no such row. If a U-Net had no classes, their new rows are zeros, so it draws as before. If all classes
    are dropped, the U-Net draws as it drew without a class.
    """
    rows = state.pop(CLASSES, None)
    if rows is None:
        if CLASSES in ours:
            state[CLASSES] = torch.zeros_like(ours[CLASSES])
            print(f"classes: all {len(now)} are new to these weights, which had none")
        return
    null = rows[-1] if has_null_row else rows.mean(dim=0)
    if CLASSES not in ours:
        state[TIME_BIAS] = state[TIME_BIAS] + null
        print("classes: all are dropped, and the model draws as it drew without a class")
        return
    known = dict(zip(before, rows, strict=False))
    state[CLASSES] = torch.stack([*(known.get(name, null) for name in now), null])
    kept = [name for name in now if name in known]
    if list(before) != list(now) or not has_null_row:
        print(f"classes: {len(kept)} of {len(now)} keep their rows, matched by name; the others start as no class")


def _flag(value: Any) -> str:
    """A setting as the shell takes it."""
    if isinstance(value, list):
        return "[" + ",".join(f"{item:g}" for item in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def read_origin(init: str | Path | None) -> DiffusersOrigin | None:
    """The U-Net of diffusers that ``init`` names: at an address, or in a model file of ours. None for anything else.

    Raises :class:`~latentdiff.errors.CheckpointError` where it cannot be read, and
    :class:`~latentdiff.errors.ConfigError` without the extra ``diffusers``.
    """
    if init is None:
        return None
    if is_address(init):
        return _at_address(str(init))
    try:
        path = resolve_checkpoint(init)
        if path.suffix != ".safetensors":
            return None
        if network_config_class(read_header(path).get("network")) is not DiffusersNetworkConfig:
            return None
    except CheckpointError:  # which the usual way says, or knows better
        return None
    header, state = read(path)
    config = from_dict(DiffusersNetworkConfig, header["network"])
    names = tuple(header["class_names"])
    return DiffusersOrigin(
        named=str(path),
        config=config,
        state={name.removeprefix("network.unet."): x for name, x in state.items() if name.startswith("network.")},
        class_names=names,
        has_null_row=config.unet.num_class_embeds == len(names) + 1,
        process=from_dict(DiffusionConfig, header["diffusion"]),
        spent=(header.get("provenance") or {}) | {"sha256": file_sha256(path)},
    )


def _at_address(value: str) -> DiffusersOrigin:
    components = Components(parse_address(value))
    named = str(components.address)
    read_unet = components.unet()
    unet, process, scheduler = read_unet.config, None, components.scheduler()
    if scheduler is not None:
        try:
            process, _ = process_of(*scheduler, learns_variance(unet), components.has_autoencoder(), named)
        except CheckpointError as error:  # its weights can be used whatever its sampling was
            print(f"{error}; its weights are used nevertheless")
    return DiffusersOrigin(
        named=named,
        config=DiffusersNetworkConfig(unet=unet),
        state=read_unet.state,
        class_names=class_names(unet, (components.index or {}).get("id2label")),
        has_null_row=False,
        process=process,
        spent={"sha256": content_digest(read_unet.state)},
    )
