"""Fine-tuning: a run that starts from the weights of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentdiff import run_checkpoint
from latentdiff.checkpoint import load_weights, read
from latentdiff.errors import CheckpointError
from latentdiff.files import file_sha256
from latentdiff.resources import resolve_checkpoint
from latentdiff.training.base_module import StageModule


def load_initial_weights(module: StageModule, source: str | Path, kind: str) -> None:
    """Load the weights of an earlier run into ``module``, and note in it what that run had cost.

    Args:
        module: The trainer to fill; its optimisers start afresh.
        source: A run's folder or its ``last.ckpt`` (everything: the running weights, their average, a discriminator),
            or a model file (the averaged network alone).
        kind: What a model file must hold, ``autoencoder`` or ``diffusion``.

    Raises :class:`~latentdiff.errors.CheckpointError` where there is none, or where it does not fit the network.
    """
    path = Path(source)
    path = path / run_checkpoint.LAST if path.is_dir() else resolve_checkpoint(path)
    if path.suffix == ".ckpt":
        spent = _from_run(module, path)
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
        for target in (module.network, module.ema.network):
            load_weights(target, _with_refinement(target, network), str(path))
        if kind == "autoencoder" and module.loss.frozen_encoder:
            module.kept_statistics = (state["latent_mean"], state["latent_std"])
        spent = header.get("provenance") or {}
    module.started_from = {
        "sha256": file_sha256(path),
        "images_seen": spent.get("images_seen", 0),
        "seconds": spent.get("seconds", 0.0),
        "command": spent.get("command"),
    }


def _keep_encoder(module: StageModule, path: Path) -> None:
    """Let the averaged encoder, the one that a run hands on, be the one that runs, with the statistics handed on."""
    module.network.encoder.load_state_dict(module.ema.network.encoder.state_dict())
    model = path.with_name("model.safetensors")
    if model.is_file():
        _, state = read(model, "autoencoder")
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


def _from_run(module: StageModule, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"there is no {path} to start from")
    checkpoint = run_checkpoint.read(path)
    state, own = checkpoint["state_dict"], checkpoint["latentdiff"]
    state = _with_refinement(module, _with_fitting_discriminators(module, state, path))
    load_weights(module, state, str(path))
    before = own.get("started_from") or {"images_seen": 0, "seconds": 0.0}
    spent = {key: own[key] + before[key] for key in ("images_seen", "seconds")}
    return {**spent, "command": next(iter(own.get("commands", [])), None)}
