"""Everything that is measured of one set of images, by every net that there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from latentdiff import distributed
from latentdiff.data import ImageDataset
from latentdiff.evaluation.feature_extraction import extract_features_in_shares
from latentdiff.evaluation.feature_metrics import ReferenceFeatures, feature_metrics, reliability_warnings
from latentdiff.evaluation.feature_nets import FeatureNet, Features, InceptionFeatures
from latentdiff.evaluation.fid import frechet_distance, moments
from latentdiff.evaluation.fid_infinity import MIN_SAMPLES, extrapolate_fid, min_trusted_samples
from latentdiff.evaluation.image_sources import ImageSource
from latentdiff.evaluation.kid import SUBSETS, Subsets
from latentdiff.evaluation.lpips_scores import diversity, lpips_between
from latentdiff.evaluation.precision_recall import pixel_memorisation
from latentdiff.evaluation.psnr_ssim import psnr_and_ssim
from latentdiff.evaluation.reference_subset import choose_subset
from latentdiff.models.lpips import LPIPS

# What may repeat its training images.
GENERATED_KINDS = ("diffusion", "images", "prior")
# Raised whenever the same command measures something else than before: older evaluations are then made anew.
METHOD_VERSION = 3
MAX_SHARE_COPIED = 0.01  # A share of copies, pixel by pixel, above which a reader is warned.


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """What images are measured against.

    Attributes:
        train: Training images.
        test: Test images.
        real_images: At most this many of each.
        features_folder: Where their features are cached, or None.
        seed: Of draws and subsets.
        subsets: What a kernel distance is averaged over.
        mirrored: Whether the model was trained on mirror images too, whose copies are then looked for.
    """

    train: ImageDataset
    test: ImageDataset
    real_images: int
    features_folder: Path | None
    seed: int
    subsets: Subsets = SUBSETS
    mirrored: bool = False

    def reference(self, net: FeatureNet) -> ReferenceFeatures:
        """The real images' features by ``net``; taken by the first process, then read by the others."""
        with distributed.main_process_first():
            return ReferenceFeatures.build(
                net, self.train, self.test, self.features_folder, max_real_images=self.real_images
            )


@dataclass
class Measurements:
    """What was found, as an ``evaluation.json`` holds it.

    Attributes:
        metrics: By net, ``pixels``, ``reconstruction`` and ``diversity``; None where it was not measured.
        floors: The same of real training images.
        features: What each net is.
        notes: What a reader must know before comparing.
        last_features: The features of the images and of the real images, by Inception where it is there, else by the
            classifier.
        nearest_by_pixels: The difference of each image from its nearest training image by pixels, fp32 [n] in grey
            levels, and the index of that training image, int64 [n].
    """

    metrics: dict[str, Any] = field(
        default_factory=lambda: {"inception": None, "classifier": None, "reconstruction": None, "diversity": None}
    )
    floors: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=lambda: {"inception": None, "classifier": None})
    notes: list[str] = field(default_factory=list)
    last_features: tuple[Features, ReferenceFeatures] | None = None
    nearest_by_pixels: tuple[Tensor, Tensor] | None = None


def measure_images(
    images: Tensor,
    source: ImageSource,
    against: RealImages,
    nets: dict[str, FeatureNet],
    lpips: LPIPS | None,
    infinity: bool | None,
    taps: Sequence[InceptionFeatures] = (),
) -> Measurements | None:
    """Measure ``images``, uint8 [n, c, h, w], of ``source``; all processes together, None for all but the first.

    Args:
        images: All of them.
        source: Where they come from.
        against: The real images.
        nets: By their keys; the order of :func:`~latentdiff.evaluation.available_nets.find_feature_nets`.
        lpips: Or none.
        infinity: Extrapolate the FID; None does where there are images enough for the result to be trusted.
        taps: Earlier layers of Inception to take further FIDs in.
    """
    found = Measurements()
    for key, net in nets.items():
        print(f"features: {net.name}")
        ours = extract_features_in_shares(net, images)
        reference = against.reference(net)
        if distributed.is_main_process():
            found.notes += net.caveats
            _add_feature_metrics(found, key, ours, reference, source, against, infinity)
    measured = {str(net.dim): _measure_tap(net, images, against) for net in taps}
    if not distributed.is_main_process():
        return None
    if measured:
        found.metrics["inception"]["taps"] = measured
        found.floors["inception"]["taps"] = {layer: {"fid_test": tap["floor"]} for layer, tap in measured.items()}
    if source.kind in GENERATED_KINDS:
        print("nearest training images, by pixels")
        few = choose_subset(against.test.labels, len(against.test), max(len(images), 2), against.seed)
        real = against.test.images[few]
        found.metrics["pixels"], *found.nearest_by_pixels = pixel_memorisation(
            images, against.train.images, real, source.reconstruct, against.mirrored
        )
        if (copied := found.metrics["pixels"]["copied"]) > MAX_SHARE_COPIED:
            through = " as the autoencoder gives them" if source.reconstruct else ""
            found.notes.append(f"{copied:.0%} of the images are copies of training images{through}, pixel by pixel.")
    if source.originals is not None:
        found.metrics["reconstruction"] = psnr_and_ssim(images, source.originals)
        if source.originals_split == "train":
            found.notes.append(
                f"these are {len(images):,} training images' reconstructions: their distances to train are those to "
                "their originals."
            )
    if lpips is not None:
        print("LPIPS")
        _add_lpips(found, lpips, images, source, against)
    return found


def _add_feature_metrics(
    found: Measurements,
    key: str,
    ours: Features,
    reference: ReferenceFeatures,
    source: ImageSource,
    against: RealImages,
    infinity: bool | None,
) -> None:
    paired, seed, subsets = source.originals is not None, against.seed, against.subsets
    learned = source.originals_split == "train"
    own = feature_metrics(ours, source.labels, reference, seed, paired and not learned, subsets)
    floor = reference.floor(len(ours), seed, subsets)
    if key == "inception" and infinity is not False:
        least = MIN_SAMPLES if infinity else min_trusted_samples(reference.net["dim"])
        # Reconstructions of the reference itself are no draw that more images would continue.
        for values, features in ((own, None if paired else ours), (floor, reference.train)):
            if features is not None and len(features) >= least:
                values["fid_infinity"] = extrapolate_fid(features.pooled, reference.test_moments, seed=seed)
    if key == "inception" and ours.logits is None:
        print("no Inception Score: these weights have no classification head, and zeros in its place would score 1.0")
    if learned:
        # All of them are near to a training image, and should be; the classifier has learned the classes of all.
        own.pop("memorisation", None)
        own.pop("class_accuracy", None)
    found.metrics[key] = own
    found.features[key] = {
        **reference.net,
        "train_images": len(reference.train),
        "test_images": len(reference.test),
    }
    found.floors[key] = floor
    found.notes += reliability_warnings(ours, source.labels, reference, own)
    found.last_features = ours, reference


def _measure_tap(net: InceptionFeatures, images: Tensor, against: RealImages) -> dict[str, float]:
    """``fid_test`` and ``fid_train`` in an earlier layer, and ``floor``, that of as many real training images; empty in
    all processes but the first."""
    print(f"features: {net.name}")
    ours = extract_features_in_shares(net, images)
    reference = against.reference(net)
    if not distributed.is_main_process():
        return {}
    own = moments(ours.pooled)
    return {
        "fid_test": frechet_distance(own, reference.test_moments),
        "fid_train": frechet_distance(own, reference.train_moments),
        "floor": reference.floor(len(images), against.seed)["fid_test"],
    }


def _add_lpips(found: Measurements, lpips: LPIPS, images: Tensor, source: ImageSource, against: RealImages) -> None:
    test, seed = against.test, against.seed
    found.features["lpips"] = {"name": lpips.name, "weights_sha256": lpips.weights_sha256}
    # Within classes where there are any; pairs across them would be another measure.
    if test.num_classes == 0 or source.labels is not None:
        found.metrics["diversity"] = diversity(lpips, images, source.labels, seed)
    found.floors["diversity"] = diversity(lpips, test.images, test.labels if test.num_classes else None, seed)
    if source.originals is not None:
        found.metrics["reconstruction"]["lpips"] = float(lpips_between(lpips, images, source.originals).mean())


def collect_images(source: ImageSource, count: int, shape: tuple[int, int, int]) -> Tensor:
    """The images of ``source``, uint8 [count, *shape], under a progress bar; of several processes, everyone's."""
    chunks = [torch.empty(0, *shape, dtype=torch.uint8)]  # Of a process that has no share.
    mine = len(distributed.shard_range(count)) if source.shared else count
    with tqdm(total=mine, desc="images", unit="images", disable=None if distributed.is_main_process() else True) as bar:
        for chunk in source.batches:
            chunks.append(chunk.cpu())
            bar.update(len(chunk))
    images = torch.cat(chunks)
    return distributed.gather(images) if source.shared else images
