"""The metrics against torch-fidelity's, with the same image files and Inception network, and against torchmetrics'."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from latentdiff.evaluation.feature_extraction import extract_features
from latentdiff.evaluation.feature_nets import InceptionFeatures
from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.evaluation.image_files import read_images
from latentdiff.evaluation.kid import kernel_distance
from latentdiff.evaluation.precision_recall import Manifold, precision_recall
from latentdiff.files import scratch_folder
from latentdiff.precision import disable_tf32
from latentdiff.report.grids import save_image
from latentdiff.verify.check import Check

SECTION = "metrics against torch-fidelity"
KID_SUBSETS = 10
FEATURES_LIMIT = 1e-4  # Relative to the largest: fp32 sums in another order differ by about 1e-6.
FIDELITY_NET, FIDELITY_BATCH = "inception-v3-compat", 64  # torch-fidelity's default batch


def check_metrics(weights: Path, first: Tensor, second: Tensor, layer: str = "2048") -> list[Check]:
    """Measure FID, KID, precision and recall by torch-fidelity and by us, from the same PNG files.

    torchmetrics measures FID and KID from the same features.

    Args:
        weights: The FID Inception's file.
        first, second: uint8 images [n, c, h, w] and [m, c, h, w]; grey or colour, of any size, of any number.
        layer: The pooled layer of the Inception network.

    Returns:
        The four metrics first, each with our value as its note.
    """
    size = min(len(first), len(second)) // 2
    # Our network first: it refuses a file that would run code. torch-fidelity would run the code.
    net = InceptionFeatures(weights, "cuda" if torch.cuda.is_available() else "cpu", layer)
    with scratch_folder() as folder:
        folders = [_write_images(folder / name, images) for name, images in (("first", first), ("second", second))]
        theirs = _torch_fidelity_metrics(weights, folders, size, layer)
        # Read as a user's folder is read.
        files = [
            read_images(own, tuple(images.shape[1:]))[0] for own, images in zip(folders, (first, second), strict=True)
        ]
    x, y = (extract_features(net, images, progress=False).pooled for images in files)
    start = time.perf_counter()
    fid = frechet_distance(moments(x), moments(y))
    frechet_seconds = time.perf_counter() - start
    kid = kernel_distance(x, y, subsets=KID_SUBSETS, subset_size=size)
    # torch-fidelity's first input are the generated images.
    shares = precision_recall(Manifold(x), Manifold(y))
    what = f"{len(first):,} images of {_size(first)} against {len(second):,} of {_size(second)}"
    found = [
        ("FID", fid, "frechet_inception_distance", 0.01),
        ("KID", kid.mean, "kernel_inception_distance_mean", 1e-4),
        ("precision", shares["precision"], "precision", 1e-3),
        ("recall", shares["recall"], "recall", 1e-3),
    ]
    from_torchmetrics = [
        (f"{name} by torchmetrics", value, limit) for name, value, limit in torchmetrics_differences(x, y, fid)
    ]
    return [
        *(
            Check(section=SECTION, name=f"{name}, {what}", value=abs(own - theirs[key]), limit=limit, note=f"{own:.6g}")
            for name, own, key, limit in found
        ),
        *(
            Check(section=SECTION, name=f"{name}, {what}", value=value, limit=limit)
            for name, value, limit in from_torchmetrics
        ),
        _remark(f"Fréchet distance of {net.dim:,} features", f"{frechet_seconds:.1f} s"),
        *(_remark("weights", caveat) for caveat in net.caveats),
    ]


def check_features(weights: Path, images: Tensor, layer: str = "2048") -> list[Check]:
    """Measure our features of ``images``, uint8 [n, c, h, w], against torch-fidelity's, and the speed of both.

    Both networks are built and warm, take the images from memory in their own batches, and work in true fp32.
    """
    net = InceptionFeatures(weights, "cuda" if torch.cuda.is_available() else "cpu", layer)
    peer = FeatureExtractorInceptionV3(FIDELITY_NET, [layer], feature_extractor_weights_path=str(weights))
    peer = peer.to(net.device)

    @torch.inference_mode()
    def their_features(batch: Tensor) -> Tensor:
        batches = batch.expand(-1, 3, -1, -1).split(FIDELITY_BATCH)
        with disable_tf32():
            return torch.cat([peer(few.to(net.device))[0].cpu() for few in batches])

    ours, our_seconds = _timed(lambda batch: extract_features(net, batch, progress=False).pooled, images)
    theirs, their_seconds = _timed(their_features, images)
    value = float((ours - theirs).abs().max() / theirs.abs().max())
    what, note = f"{len(images):,} images of {_size(images)}", "largest difference, of the largest feature"
    rates = f"{len(images) / our_seconds:.1f} images/s against {len(images) / their_seconds:.1f}"
    return [
        Check(section=SECTION, name=f"features, {what}", value=value, limit=FEATURES_LIMIT, note=note),
        # The speed has no limit.
        _remark(f"speed of the features, {what}", f"{rates}, nets built, one after the other in this run"),
    ]


def _torch_fidelity_metrics(
    weights: Path, folders: Sequence[Path], kid_subset_size: int, layer: str
) -> dict[str, float]:
    return torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        feature_extractor=FIDELITY_NET,
        feature_extractor_weights_path=str(weights),
        **{f"feature_layer_{metric}": layer for metric in ("fid", "kid", "prc")},
        **{"fid": True, "kid": True, "kid_subsets": KID_SUBSETS, "kid_subset_size": kid_subset_size, "rng_seed": 2020},
        **{"prc": True, "prc_neighborhood": 3},
        **{"cuda": torch.cuda.is_available(), "cache": False, "verbose": False, "save_cpu_ram": True},
    )


def _timed(features_of: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, float]:
    """Return the features of ``images``, on the CPU, and the seconds that they took after a first image."""
    features_of(images[:1])
    start = time.perf_counter()
    return features_of(images), time.perf_counter() - start


def torchmetrics_differences(x: Tensor, y: Tensor, fid: float) -> list[tuple[str, float, float]]:
    """Measure FID and KID of features x [n, d] and y [m, d] by torchmetrics.

    KID is of one subset with as many features of x as of y: torchmetrics draws subsets in another way.

    Returns:
        For each metric its name, the difference from ours and the limit of the difference.
    """
    size = min(len(x), len(y))
    with warnings.catch_warnings():  # of the memory that features take
        warnings.simplefilter("ignore")
        theirs = FrechetInceptionDistance(feature=_GivenFeatures(x.shape[1]), normalize=False)
        kid = KernelInceptionDistance(feature=_GivenFeatures(x.shape[1]), subsets=1, subset_size=size, normalize=False)
    for features, real in ((y, True), (x, False)):
        theirs.update(features, real=real)
        kid.update(features[:size], real=real)
    ours = kernel_distance(x[:size], y[:size], subset_size=size).mean
    return [
        ("FID", abs(fid - float(theirs.compute())), 0.01),
        ("KID", abs(ours - float(kid.compute()[0])), 1e-4),
    ]


class _GivenFeatures(torch.nn.Module):
    """Passes computed features to torchmetrics."""

    def __init__(self, dim: int):
        super().__init__()
        self.num_features = dim
        self.dummy = torch.nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return features.double()


def _write_images(folder: Path, images: Tensor) -> Path:
    for index, image in enumerate(images):
        save_image(image, folder / f"{index:06d}.png")
    return folder


def _remark(name: str, note: str) -> Check:
    """A remark without a measurement."""
    return Check(section=SECTION, name=name, value=None, limit=0.0, note=note)


def _size(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
