"""LPIPS (Zhang et al. 2018) as a loss and as a metric, with a trunk from a file or from torchvision."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import lpips
import torch
import torch.nn.functional as F
import torchvision
from lpips import normalize_tensor
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, VGG16_Weights

from latentdiff.checkpoint import load_weights
from latentdiff.data.download import server_answers
from latentdiff.errors import CheckpointError
from latentdiff.files import file_sha256

LPIPS_NAMES = {"vgg16": "vgg", "alexnet": "alex"}


class LPIPS(nn.Module):
    """LPIPS distance between images in [-1, 1].

    Args:
        trunk: The convolutions of the trunk in torchvision's names (``features.N.weight``).
        net: ``vgg16`` or ``alexnet``.
        min_side: Smallest side in pixels. Smaller images are enlarged by a whole factor to at least this side.

    Attributes:
        name: The network and the rule for resizing; a published value must state both.
        weights_sha256: SHA-256 over the trunk's names and fp32 weights.
    """

    def __init__(self, trunk: dict[str, Tensor], net: str, min_side: int):
        super().__init__()
        with warnings.catch_warnings():
            # lpips 0.1.4 asks torchvision for weights by its old argument.
            warnings.simplefilter("ignore", UserWarning)
            self.distance = lpips.LPIPS(net=LPIPS_NAMES[net], pnet_rand=True, verbose=False)
        model = getattr(torchvision.models, net)(weights=None).features
        weights = {name.removeprefix("features."): tensor.float() for name, tensor in trunk.items()}
        load_weights(model, weights, f"the LPIPS trunk for {net}")
        # lpips cuts the trunk into slices but keeps the layers' own numbers within them.
        for piece in (getattr(self.distance.net, f"slice{i}") for i in range(1, 6)):
            for name, layer in piece.named_children():
                layer.load_state_dict(model[int(name)].state_dict())
        self.min_side = min_side
        self.name = f"LPIPS, {net}, images of {min_side} pixels at least"
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(name.encode())
            digest.update(weights[name].contiguous().numpy().data)
        self.weights_sha256 = digest.hexdigest()
        # Channels last: a sixth faster on a CPU.
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> LPIPS:
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean LPIPS of pairs of images [b, 1 or 3, h, w] in [-1, 1]."""
        return self.per_image(x, y).mean()

    def per_image(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the LPIPS of each pair of images [b, 1 or 3, h, w] in [-1, 1]: fp32 [b]."""
        return self.distance_of_features(self.features(x), self.features(y))

    @property
    def widths(self) -> list[int]:
        """Number of channels of each layer of :meth:`features`."""
        return list(self.distance.chns)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the trunk's activations [b, c_l, h_l, w_l] by layer, of images [b, 1 or 3, h, w] in [-1, 1]."""
        return list(self.distance.net(self.distance.scaling_layer(self._preprocess(x))))

    def distance_of_features(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Return the LPIPS of each pair of images, from their :meth:`features`: fp32 [b]."""
        layers: list[Tensor] = []
        for x, y, weighted_sum in zip(ours, theirs, self.distance.lins, strict=True):
            # Features are divided by their norm over the channels.
            squares = (normalize_tensor(x) - normalize_tensor(y)).square()
            layers.append(weighted_sum(squares).mean(dim=(2, 3)))
        return sum(layers[1:], layers[0]).float().flatten()

    def _preprocess(self, x: Tensor) -> Tensor:
        factor = -(-self.min_side // min(x.shape[-2:]))
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False) if factor > 1 else x
        return x.expand(-1, 3, -1, -1)


def load_trunk_weights(net: str, weights: str | None) -> dict[str, Tensor] | None:
    """Return the trunk's convolutions in torchvision's names, or None where they are nowhere.

    Args:
        net: ``vgg16`` or ``alexnet``.
        weights: File of the weights. Default: the file in the folder LATENTDIFF_LPIPS (an environment variable), else
            torchvision's download.

    Raises:
        CheckpointError: A named file is missing, damaged or of another network.
    """
    folder = os.environ.get("LATENTDIFF_LPIPS")
    path = Path(weights) if weights else Path(folder) / f"{net}_features.safetensors" if folder else None
    if path is not None:
        return _read_trunk_weights(path.expanduser(), net)
    try:
        choice = {"vgg16": VGG16_Weights, "alexnet": AlexNet_Weights}[net].IMAGENET1K_V1
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(choice.url).name
        if not file.is_file() and not server_answers(choice.url):
            return None
        return _only_convolutions(choice.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError):
        return None


def _read_trunk_weights(path: Path, net: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"there is no LPIPS trunk {path}, which --loss.perceptual_weights or LATENTDIFF_LPIPS names: name another, "
            "name none, or do without (--loss.perceptual_weight 0 in training, --lpips off in measuring)"
        )
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        # The first line says what is wrong; torch's further ones advise to read an unsafe file in spite of it.
        reason = str(error).strip().splitlines()[0].split(". ")[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{_path_and_digest(path)} cannot be read as the weights of {net}: {reason}") from error
    state = _only_convolutions(state) if isinstance(state, dict) else {}
    if not state:
        raise CheckpointError(
            f"{_path_and_digest(path)} has no tensors named features.N.weight as torchvision's {net} has"
        )
    if mismatch := _first_mismatch(state, net):
        raise CheckpointError(f"the weights in {_path_and_digest(path)} do not fit {net}: {mismatch}")
    return state


def _first_mismatch(state: dict[str, Tensor], net: str) -> str:
    """Describe the first tensor whose name or shape differs from torchvision's ``net``; empty if there is none."""
    with torch.device("meta"):  # shapes alone: VGG's own random weights would take seconds
        own = getattr(torchvision.models, net)(weights=None).features.state_dict(prefix="features.")
    for name in [*own, *state]:
        given, needed = (_shape(tensors.get(name)) for tensors in (state, own))
        if given != needed:
            return f"{name} is {given}, and should be {needed}"
    return ""


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape))


def _path_and_digest(path: Path) -> str:
    return f"{path} (SHA-256 {file_sha256(path)[:12]})"


def _only_convolutions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value for name, value in state.items() if str(name).startswith("features.") and torch.is_tensor(value)
    }
