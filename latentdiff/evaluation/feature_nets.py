"""The networks that turn images into features: the FID Inception, and a data set's own classifier."""

from __future__ import annotations

import io
import os
import pickle
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from latentdiff import checkpoint
from latentdiff.data import ImageDataset
from latentdiff.data.download import server_answers
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.files import file_sha256
from latentdiff.models.classifier import Classifier
from latentdiff.precision import disable_tf32
from latentdiff.report.verdict import is_near_chance


@dataclass(frozen=True, eq=False)
class Features:
    """What a net sees in n images.

    Attributes:
        pooled: fp32 [n, d].
        logits: fp32 [n, k], or none where the net has no classification head.
    """

    pooled: Tensor
    logits: Tensor | None

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index: Tensor | slice) -> Features:
        return Features(self.pooled[index], None if self.logits is None else self.logits[index])


class FeatureNet(Protocol):
    """A function from images to features, with what a result must state about it.

    Attributes:
        name: What the net is.
        metric: What the Fréchet distance of its features is called: ``fid`` for Inception's alone, else ``distance``.
        dim: Number of pooled features.
        weights_sha256: SHA-256 of its weights file.
        resize: How images are brought to the net's input, in a line.
        device: Where it runs.
        batch_size: Images at a time that are fastest there.
        class_names: Classes of the logits, empty where they are not the data set's.
        caveats: What a reader must know of it before comparing its numbers with others, a sentence each.
    """

    name: str
    metric: str
    dim: int
    weights_sha256: str
    resize: str
    device: torch.device
    batch_size: int
    class_names: tuple[str, ...]
    caveats: tuple[str, ...]

    def __call__(self, images: Tensor) -> Features:
        """Images uint8 [b, c, h, w] on any device -> features on the CPU."""


class InceptionFeatures:
    """The Inception-v3 of FID (Heusel et al. 2017), as torch-fidelity ports it from TensorFlow.

    Args:
        weights: File in torch-fidelity's names; none asks :func:`find_inception`.
        device: Where to run.
        layer: Which of its pooled layers; published numbers take 2048.

    Raises:
        CheckpointError: There is no such file, or it holds no such network.
    """

    metric, class_names = "fid", ()
    resize = "bilinear to 299x299 as TensorFlow 1 does it, no antialiasing; greyscale repeated to RGB"

    def __init__(self, weights: Path | str | None = None, device: torch.device | str = "cpu", layer: str = "2048"):
        path = find_inception(weights)
        if path is None:
            raise CheckpointError(
                "the FID Inception's weights could not be downloaded. Name a file with --inception_weights or "
                f"{ENVIRONMENT} (torch-fidelity's {DOWNLOAD.rsplit('/', 1)[1]}), or evaluate with the classifier alone."
            )
        net = _fold_norms(_build_inception(path, layer))
        # A file without its classification head has zeros there: logits of it would give an Inception Score of 1.
        self._has_head = layer == "2048" and bool(net.fc.weight.any())
        net.features_list = [layer, "logits_unbiased"] if self._has_head else [layer]
        self.name = "inception-v3" if layer == "2048" else f"inception-v3 layer {layer}"
        self.dim, self.device = int(layer), torch.device(device)
        # Eight images' feature maps stay in a CPU's cache: 30 images/s against 22 with 32 (two cores, folded norm).
        self.batch_size = 8 if self.device.type == "cpu" else 64
        self.weights_sha256 = file_sha256(path)
        # Half as fast again as contiguous on a CPU (22 against 14 images/s on two cores), with the same features.
        self._net = net.to(device=self.device, memory_format=torch.channels_last)

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Said of other weights than published FIDs use, which fit as well; to know it takes one small image."""
        if _is_published(self._net):
            return ()
        return (
            f"these Inception weights (SHA-256 {self.weights_sha256[:12]}) are not those that published FIDs use: "
            "distances and scores in their features compare only with others of the same weights.",
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ConfigError(
                f"Inception takes uint8 images [b, 1 or 3, h, w], not {images.dtype} {list(images.shape)}"
            )
        rgb = images.to(self.device).expand(-1, 3, -1, -1)
        with disable_tf32():
            outputs = self._net(rgb.contiguous(memory_format=torch.channels_last))
        return Features(outputs[0].cpu(), outputs[1].cpu() if self._has_head else None)


class ClassifierFeatures:
    """A released classifier's pooled features and logits; for images of the one shape it was trained on.

    Args:
        path: File of kind ``classifier``.
        device: Where to run.

    Raises:
        CheckpointError: There is no such file, or it holds no classifier.
    """

    metric = "distance"

    def __init__(self, path: Path | str, device: torch.device | str = "cpu"):
        header, tensors = checkpoint.read(path, "classifier")
        net = checkpoint.build_with_weights(lambda: Classifier(**header["network"]), tensors, str(path))
        self.image_shape, self.class_names = net.image_shape, tuple(header["class_names"])
        shape = "x".join(map(str, self.image_shape))
        self.wants = f"the classifier is for images of {shape} and the classes {', '.join(self.class_names)}"
        self.name = f"{header['data']['name']} classifier"
        self.accuracy: float = header["test_accuracy"]
        self.caveats: tuple[str, ...] = ()
        if is_near_chance(self.accuracy, len(self.class_names)):
            self.caveats = (
                f"the {self.name} recognises only {self.accuracy:.0%} of its test images (chance is "
                f"{1 / len(self.class_names):.0%}): distances in its features say little. Train it for longer.",
            )
        self.dim, self.device, self.batch_size = net.feature_dim, torch.device(device), 64
        self.weights_sha256 = file_sha256(path)
        self.resize = f"none: images of {'x'.join(map(str, net.image_shape))} as they are"
        self._net = net.eval().requires_grad_(False).to(device=self.device, memory_format=torch.channels_last)

    def fits(self, data: ImageDataset) -> bool:
        """Whether it knows images and classes like these; if not, ``wants`` says which it does."""
        return data.image_shape == self.image_shape and tuple(data.class_names) == self.class_names

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            expected = "x".join(map(str, self.image_shape))
            raise ConfigError(
                f"the {self.name} takes uint8 images of {expected}, not {images.dtype} {list(images.shape)}; images of "
                "another kind can be measured with Inception, or with a classifier trained on them"
            )
        x = images.to(self.device).float() / 127.5 - 1
        with disable_tf32():
            pooled, logits = self._net.features(x.contiguous(memory_format=torch.channels_last))
        return Features(pooled.cpu(), logits.cpu())


ENVIRONMENT = "LATENTDIFF_INCEPTION"
# What the weights of published FIDs see in :func:`_pattern`: every 256th of the 2,048 features.
PUBLISHED = (0.49252, 0.23986, 0.22586, 0.22293, 0.03664, 0.13906, 0.47257, 0.32143)
# Of the largest of them. In fp32 the features are within 1e-5 of fp64's; a copy rounded to fp16 is 3e-3 away.
TOLERANCE = 1e-3
MOST_REASON = 160  # Letters of an error that lists every layer.
DOWNLOAD = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


def find_inception(weights: Path | str | None = None) -> Path | None:
    """The Inception's weights: the given file, else LATENTDIFF_INCEPTION's, else torch-fidelity's download, else none.

    Silent networks cost a few seconds. Raises :class:`CheckpointError` where a file was named but is not there.
    """
    for named, by in ((weights, "the setting"), (os.environ.get(ENVIRONMENT), ENVIRONMENT)):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                raise CheckpointError(f"there is no file {path}, which {by} names as the FID Inception's weights")
            return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / DOWNLOAD.rsplit("/", 1)[1]
    if path.is_file():
        return path
    return path if server_answers(DOWNLOAD) and _download(path) else None


def check_inception_file(weights: Path | str | None) -> None:
    """Raise :class:`CheckpointError` where the file that is named is missing, or is none of PyTorch by its first bytes.

    Args:
        weights: The setting. Without one the file that LATENTDIFF_INCEPTION names is looked at; nothing is downloaded.
    """
    if weights is None and not os.environ.get(ENVIRONMENT):
        return
    path = find_inception(weights)
    assert path is not None  # a file was named
    with open(path, "rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of older versions
            raise CheckpointError(f"{path} is no file of PyTorch: name the FID Inception's weights ({DOWNLOAD})")


def _download(path: Path) -> bool:
    """Fetch the weights to ``path``, checked against the hash in their name, whole or not at all."""
    print(f"downloading the FID Inception (95 MB) to {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(20.0)
        torch.hub.download_url_to_file(DOWNLOAD, str(path), hash_prefix=path.stem.rsplit("-", 1)[1], progress=False)
    except (OSError, RuntimeError) as error:
        print(f"the download failed: {error}", flush=True)
        return False
    finally:
        socket.setdefaulttimeout(previous)
    return True


def _build_inception(path: Path, layer: str):
    """torch-fidelity's network with the weights of ``path``.

    Its constructor unpickles whatever the file holds; ours is read as plain tensors first, and handed on in memory.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", [layer], feature_extractor_weights_path=buffer)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, AttributeError, TypeError) as error:
        # torch's advice there, to read the file in spite of it, would run whatever code it holds.
        unsafe = isinstance(error, pickle.UnpicklingError)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = "it does not hold tensors alone" if unsafe else " ".join(lines[:2])[:MOST_REASON]
        raise CheckpointError(
            f"{path} (SHA-256 {file_sha256(path)[:12]}) is damaged or not the FID Inception in "
            f"torch-fidelity's names: {reason}"
        ) from error


def _fold_norms(net: nn.Module) -> nn.Module:
    """``net`` with each batch norm in the weights of the convolution before it: a pass over every feature map less.

    Features differ by rounding, 1e-6 of the largest.
    """
    for module in net.modules():
        convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return net


def _pattern() -> Tensor:
    """An image of arithmetic alone, so that it is the same everywhere: uint8 [1, 3, 32, 32]."""
    y, x = torch.arange(32)[:, None], torch.arange(32)[None]
    channels = [7 * x + 3 * y, x * y, x * x + 5 * y]
    return torch.stack([channel % 256 for channel in channels]).to(torch.uint8)[None]


@torch.inference_mode()
def _is_published(net: Any) -> bool:
    """Whether torch-fidelity's network, whatever layers are asked of it, has the weights that published FIDs use.

    They are known by what they compute: a hash would tell apart files of the same weights, with and without a head.
    """
    asked, net.features_list = net.features_list, ["2048"]
    try:
        with disable_tf32():
            seen = net(_pattern().to(net.fc.weight.device))[0][0, ::256].cpu()
    finally:
        net.features_list = asked
    expected = torch.tensor(PUBLISHED)
    return bool((seen - expected).abs().max() <= TOLERANCE * expected.max())
