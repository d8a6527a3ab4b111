"""Fine-tuning: a run that starts from the weights of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentdiff import run_checkpoint
from latentdiff.checkpoint import load_weights, read, read_header
from latentdiff.config import NetworkConfig, to_dict
from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError
from latentdiff.files import file_sha256
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.network import has_attention
from latentdiff.resources import resolve_checkpoint
from latentdiff.training.base_module import StageModule
from latentdiff.training.class_embedding import fit_class_embedding
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.word_embedding import fit_word_embedding

# What a run keeps for post-hoc averages of its weights, by the beginning of their names.
AVERAGES = "averages."


def check_initial_weights(source: str | Path, kind: str, network: NetworkConfig | None = None) -> None:
    """Raise what :func:`load_initial_weights` would, as far as the file tells by itself: no weights are loaded.

    Args:
        source: A run's folder, its ``last.ckpt``, or a model file.
        kind: What it must hold, ``autoencoder`` or ``diffusion``.
        network: What the weights are for.
    """
    path = _find(source)
    if path.suffix == ".ckpt":
        own = run_checkpoint.read(path, kind, mapped=True)["latentdiff"].get("network")
    else:
        own = read_header(path, kind).get("network")
    if own and network is not None:
        _check_architecture(path, own, network)


def _check_architecture(path: Path, own: Mapping[str, Any], network: NetworkConfig) -> None:
    """Raise CheckpointError where a file holds another architecture, other patches, or weights that would fit and mean
    something else."""
    held, asked = ((each.get("architecture", "unet"), each.get("patch", 1)) for each in (own, to_dict(network)))
    if held != asked:
        raise CheckpointError(
            f"{path} holds the architecture {held[0]} with patches of {held[1]}, and the settings ask for {asked[0]} "
            f"with patches of {asked[1]}: set --network.architecture {held[0]} --network.patch {held[1]}"
        )
    heads = own.get("head_channels", network.head_channels)
    if has_attention(network) and heads != network.head_channels:
        raise CheckpointError(
            f"{path} was trained with network.head_channels {heads}, and the settings ask for "
            f"{network.head_channels}: set --network.head_channels {heads}"
        )


def _find(source: str | Path) -> Path:
    """The file that a run starts from: of a run's folder its ``last.ckpt``, else a model file."""
    path = Path(source).expanduser()
    if (path / run_checkpoint.LAST).is_file():
        return path / run_checkpoint.LAST
    if path.suffix == ".ckpt" and path.is_file():
        return path
    return resolve_checkpoint(path)


def load_initial_weights(module: StageModule, source: str | Path, kind: str, data: ImageDataset | None = None) -> None:
    """Load the weights of an earlier run into ``module``, and note in it what that run had cost.

    The classes may be other ones: those that both have are found by name, and a line says which are kept.

    Args:
        module: The trainer to fill; its optimisers start afresh.
        source: A run's folder or its ``last.ckpt`` (everything: the running weights, their average, a discriminator),
            or a model file (the averaged network alone).
        kind: What a model file must hold, ``autoencoder`` or ``diffusion``.
        data: What the run is to be trained on. Without it the classes are taken to be the same.

    Raises :class:`~latentdiff.errors.CheckpointError` where there is none, or where it does not fit the network.
    """
    path = _find(source)
    if path.suffix == ".ckpt":
        spent = _from_run(module, path, kind, data)
        if kind == "autoencoder" and module.loss.frozen_encoder:
            _keep_encoder(module, path)
    else:
        header, state = read(path, kind)
        # A diffusion model's file also holds its codec, an autoencoder's the statistics of its latents.
        prefix = "network." if kind == "diffusion" else ""
        network = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix) and name not in ("latent_mean", "latent_std")
        }
        origin = _Origin(
            tuple(header.get("class_names") or ()),
            header.get("image_shape") or (header.get("codec") or {}).get("image_shape"),
            (header.get("provenance") or {}).get("codec_fingerprint"),
            header.get("diffusion"),
            header.get("text"),
        )
        _check_origin(module, origin, data, path)
        if data is not None and isinstance(module.network, ConditionedNetwork):
            network = fit_class_embedding(network, module.network, origin.class_names, data.class_names, str(path))
            network = fit_word_embedding(network, module.network, origin.text)
        with _shapes_in_error(origin, data):
            for target in (module.network, module.ema.network):
                load_weights(target, _with_refinement(target, network), str(path))
        if kind == "autoencoder" and module.loss.frozen_encoder:
            module.kept_statistics = (state["latent_mean"], state["latent_std"])
        spent = header.get("provenance") or {}
    module.started_from = {
        "sha256": file_sha256(path),
        "images_seen": spent.get("images_seen", 0),
        "seconds": spent.get("seconds", 0.0),
        "flops": spent.get("flops"),
        "command": spent.get("command"),
    }


@dataclass(frozen=True)
class _Origin:
    """What weights were trained on, as far as it is known.

    Attributes:
        class_names: The classes, in order.
        image_shape: (c, h, w) of the images.
        codec: The fingerprint of the autoencoder of their latents.
        diffusion: The settings of the noising process and its target.
        text: What reads captions, as in a model file's header; None where nothing does.
    """

    class_names: tuple[str, ...] | None
    image_shape: Sequence[int] | None
    codec: str | None
    diffusion: dict[str, Any] | None = None
    text: dict[str, Any] | None = None


def _check_origin(module: StageModule, origin: _Origin, data: ImageDataset | None, path: Path) -> None:
    """Raise CheckpointError for images of another colour; say in a line where the latents or the process are others."""
    if isinstance(module, DiffusionModule) and origin.diffusion:
        before, now = origin.diffusion, to_dict(module.diffusion)
        keys = ("schedule", "target", "num_train_steps", "beta_range", "zero_terminal_snr")
        changed = [f"{key} {before[key]}" for key in keys if before.get(key, now[key]) != now[key]]
        if changed:
            print(
                f"the weights in {path} were trained with {' and '.join(changed)}: they must first learn the new "
                "settings"
            )
    if data is None:
        return
    if origin.image_shape is not None and origin.image_shape[0] != data.image_shape[0]:
        colour = "grey" if origin.image_shape[0] == 1 else "rgb"
        raise CheckpointError(
            f"{path} was trained on images of {_shape(origin.image_shape)}, and these are of "
            f"{_shape(data.image_shape)}: train on its colours with --data.colour {colour}, or leave out --init "
            "(init=)"
        )
    own = module.codec.fingerprint if isinstance(module, DiffusionModule) else None
    if origin.codec and own and origin.codec != own:
        print(
            f"the weights in {path} were trained on the latents of another autoencoder: they must first learn the new "
            "ones"
        )


@contextmanager
def _shapes_in_error(origin: _Origin, data: ImageDataset | None) -> Iterator[None]:
    """Weights that do not fit, with the sizes of the images where these are others."""
    try:
        yield
    except CheckpointError as error:
        if data is None or origin.image_shape is None or tuple(origin.image_shape) == data.image_shape:
            raise
        sizes = f"they are of images of {_shape(origin.image_shape)}, these are of {_shape(data.image_shape)}"
        raise CheckpointError(f"{error} ({sizes})") from error


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _keep_encoder(module: StageModule, path: Path) -> None:
    """Replace the encoder's weights by their average, which is what a run saves, with the saved latent statistics.

    Raises CheckpointError where the run has saved a model and then trained the encoder further: models are trained on
    the latents of that one.
    """
    averaged = module.ema.network.encoder.state_dict()
    module.network.encoder.load_state_dict(averaged)
    module.kept_statistics = run_checkpoint.read(path, "autoencoder", mapped=True)["latentdiff"].get("kept_statistics")
    model = path.with_name("model.safetensors")
    if module.kept_statistics is not None or not model.is_file():
        return
    _, state = read(model, "autoencoder")
    if not all(state[f"encoder.{name}"].equal(tensor.cpu()) for name, tensor in averaged.items()):
        raise CheckpointError(
            f"{path} has trained the encoder further than {model}, which other models may be trained on: name the one "
            f"that is meant, --init {model}, or finish the run first"
        )
    module.kept_statistics = (state["latent_mean"], state["latent_std"])


def _with_fitting_discriminators(module: StageModule, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights with the module's own discriminators, untrained, where the run had none or ones of another kind."""
    for kind in ("discriminator.", "feature_discriminator."):
        theirs, ours = (
            {name: tensor for name, tensor in weights.items() if name.startswith(kind)}
            for weights in (state, module.state_dict())
        )
        if {name: x.shape for name, x in theirs.items()} == {name: x.shape for name, x in ours.items()}:
            continue
        if ours:
            print(f"the {kind[:-1].replace('_', ' ')} begins untrained: {path} has none of this kind")
        state = {name: tensor for name, tensor in state.items() if name not in theirs} | ours
    return state


def _with_refinement(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the module's own untrained refinement, which adds nothing yet, where they have none."""
    ours = {name: tensor for name, tensor in module.state_dict().items() if "decoder.refine." in name}
    return state if ours.keys() & state.keys() else state | ours


def _origin_of_run(own: dict[str, Any], path: Path) -> _Origin:
    """What a run's checkpoint records about its data. For checkpoints of older versions, the model next to it may say
    more."""
    data, model = own.get("data"), path.with_name("model.safetensors")
    if data is not None:
        names, shape = tuple(data["class_names"]), data["image_shape"]
        return _Origin(names, shape, own.get("codec"), own.get("diffusion"), own.get("text"))
    if model.is_file():
        header = read_header(model)
        names = header.get("class_names")
        shape = header.get("image_shape")
        return _Origin(None if names is None else tuple(names), shape, own.get("codec"), own.get("diffusion"))
    return _Origin(None, None, own.get("codec"), own.get("diffusion"))


def _from_run(module: StageModule, path: Path, kind: str, data: ImageDataset | None) -> dict[str, Any]:
    checkpoint = run_checkpoint.read(path, kind)
    state, own = checkpoint["state_dict"], checkpoint["latentdiff"]
    state = _with_refinement(module, _with_fitting_discriminators(module, state, path))
    # The averages that snapshots are taken of begin anew, with this run.
    state = {name: tensor for name, tensor in state.items() if not name.startswith(AVERAGES)}
    state |= {name: tensor for name, tensor in module.state_dict().items() if name.startswith(AVERAGES)}
    origin = _origin_of_run(own, path)
    _check_origin(module, origin, data, path)
    if data is not None and isinstance(module.network, ConditionedNetwork):
        prefixes = ("network.", "ema.network.")
        state = fit_class_embedding(state, module.network, origin.class_names, data.class_names, str(path), prefixes)
        state = fit_word_embedding(state, module.network, origin.text, prefixes)
    with _shapes_in_error(origin, data):
        load_weights(module, state, str(path))
    before = own.get("started_from") or {"images_seen": 0, "seconds": 0.0, "flops": 0.0}
    spent = {key: own[key] + before[key] for key in ("images_seen", "seconds")}
    flops = (before.get("flops"), own.get("flops"))
    spent["flops"] = None if None in flops else sum(flops)
    return {**spent, "command": next(iter(own.get("commands", [])), None)}
