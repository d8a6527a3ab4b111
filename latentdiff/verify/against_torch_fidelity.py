"""The metrics against torch-fidelity's, on the same image files, with the same Inception, and against torchmetrics'."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from latentdiff.evaluation.extract import extract
from latentdiff.evaluation.feature_nets import InceptionFeatures
from latentdiff.evaluation.frechet import frechet_distance, moments
from latentdiff.evaluation.given_images import read_images
from latentdiff.evaluation.kernel import kernel_distance
from latentdiff.evaluation.manifold import Manifold, precision_recall
from latentdiff.report.grids import save_image
from latentdiff.verify import Check

SECTION = "metrics against torch-fidelity, real weights"
KID_SUBSETS = 10


def check_metrics(weights: Path, first: Tensor, second: Tensor) -> list[Check]:
    """FID, KID, precision and recall of two sets of images, as torch-fidelity finds them in PNG files and as we do;
    FID and KID of the same features by torchmetrics; and how fast each is.

    Args:
        weights: The FID Inception's file.
        first, second: uint8 images [n, c, h, w] and [m, c, h, w]; grey or colour, of any size, of any number.
    """
    import torch_fidelity

    size = min(len(first), len(second)) // 2
    with tempfile.TemporaryDirectory() as folder:
        folders = [_written(Path(folder) / name, images) for name, images in (("first", first), ("second", second))]
        start = time.perf_counter()
        theirs = torch_fidelity.calculate_metrics(
            input1=str(folders[0]),
            input2=str(folders[1]),
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=str(weights),
            **{"fid": True, "kid": True, "kid_subsets": KID_SUBSETS, "kid_subset_size": size, "rng_seed": 2020},
            **{"prc": True, "prc_neighborhood": 3, "feature_layer_prc": "2048"},
            **{"cuda": torch.cuda.is_available(), "cache": False, "verbose": False, "save_cpu_ram": True},
        )
        their_seconds = time.perf_counter() - start
        files = [
            read_images(own, tuple(images.shape[1:]))[0] for own, images in zip(folders, (first, second), strict=True)
        ]
    net = InceptionFeatures(weights, "cuda" if torch.cuda.is_available() else "cpu")
    start = time.perf_counter()
    x, y = (extract(net, images, progress=False).pooled for images in files)
    between = time.perf_counter()
    fid = frechet_distance(moments(x), moments(y))
    frechet_seconds = time.perf_counter() - between
    kid = kernel_distance(x, y, subsets=KID_SUBSETS, subset_size=size)
    # torch-fidelity takes its first input for the generated images.
    shares = precision_recall(Manifold(x), Manifold(y))
    our_seconds = time.perf_counter() - start
    total = len(first) + len(second)
    what = f"{len(first):,} images of {_by(first)} against {len(second):,} of {_by(second)}"
    frechet_time = f"{frechet_seconds:.1f} s"
    rates = f"{total / our_seconds:.1f} images/s against {total / their_seconds:.1f}, one after the other in this run"
    return (
        [
            Check(
                section=SECTION, name=f"{name}, {what}", value=abs(ours - theirs[key]), limit=limit, note=f"{ours:.6g}"
            )
            for name, ours, key, limit in (
                ("FID", fid, "frechet_inception_distance", 0.01),
                ("KID", kid.mean, "kernel_inception_distance_mean", 1e-4),
                ("precision", shares["precision"], "precision", 1e-3),
                ("recall", shares["recall"], "recall", 1e-3),
            )
        ]
        + [
            Check(section=SECTION, name=f"{name} by torchmetrics, {what}", value=value, limit=limit)
            for name, value, limit in against_torchmetrics(x, y, fid)
        ]
        + [
            # Times are told, not judged.
            Check(section=SECTION, name=f"speed, {what}", value=None, limit=0.0, note=rates),
            Check(
                section=SECTION,
                name="Fréchet distance of 2,048 features",
                value=None,
                limit=0.0,
                note=frechet_time,
            ),
        ]
    )


def against_torchmetrics(x: Tensor, y: Tensor, fid: float) -> list[tuple[str, float, float]]:
    """How far torchmetrics is from us on features x [n, d] and y [m, d], by name, and how far it may be.

    The KID is that of one subset of equally many on both sides: torchmetrics draws its subsets otherwise.
    """
    size = min(len(x), len(y))
    with warnings.catch_warnings():  # of the memory that features take
        warnings.simplefilter("ignore")
        theirs = FrechetInceptionDistance(feature=_Given(x.shape[1]), normalize=False)
        kid = KernelInceptionDistance(feature=_Given(x.shape[1]), subsets=1, subset_size=size, normalize=False)
    for features, real in ((y, True), (x, False)):
        theirs.update(features, real=real)
        kid.update(features[:size], real=real)
    ours = kernel_distance(x[:size], y[:size], subset_size=size).mean
    return [
        ("FID", abs(fid - float(theirs.compute())), 0.01),
        ("KID", abs(ours - float(kid.compute()[0])), 1e-4),
    ]


class _Given(torch.nn.Module):
    """Hands torchmetrics features that are there already."""

    def __init__(self, dim: int):
        super().__init__()
        self.num_features = dim
        self.dummy = torch.nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return features.double()


def _written(folder: Path, images: Tensor) -> Path:
    for index, image in enumerate(images):
        save_image(image, folder / f"{index:06d}.png")
    return folder


def _by(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
