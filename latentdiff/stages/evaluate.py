"""Measure a model: distances to real images, floors, speed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentdiff.config import DataConfig, RunConfig, SamplingConfig

if TYPE_CHECKING:
    import torch

    from latentdiff.data import ImageSet
    from latentdiff.evaluation.feature_nets import Features
    from latentdiff.evaluation.measure import Reference
    from latentdiff.evaluation.subjects import Subject
    from latentdiff.perceptual import Perceptual

GRID = 100
# Samples nearest to a training image, and how many training images of each are shown.
CLOSEST, NEIGHBOURS = 10, 3

# What may repeat its training images.
GENERATED = ("diffusion", "images", "prior")
# What can be measured without a file.
RANDOM = ("noise", "gaussian")


@dataclass(frozen=True, kw_only=True)
class EvaluateStage(SamplingConfig):
    """Measure a model's images against the real test and training images; write evaluation.json and a grid.

    Args:
        checkpoint: A model file (diffusion model or autoencoder); ``noise`` for uniform random pixels or ``gaussian``
            for random pixels with the training images' mean and covariance; or images that any model made: a directory
            or zip of files, an .npz (``images`` uint8 [n, h, w, c], perhaps ``labels``), or a .safetensors with
            ``images`` uint8 [n, c, h, w].
        name: Name of the row in a comparison. Default: the file's own name.
        mode: What an autoencoder is asked for: ``reconstruction`` of the test images, which bounds any model on its
            latents, or ``prior``, decoded N(0, I), which is the VAE baseline.
        data: The real images.
        num_images: How many images; none takes 10,000, or as many as the test split has.
        real_images: At most this many real images of each split to measure against. Default: as many as the test split
            has, or ``num_images`` where that is more.
        inception: ``auto`` measures FID and KID where the FID Inception's weights are here or can be downloaded,
            ``require`` ends with an error where they are not, ``off`` measures with the classifier alone.
        inception_weights: The weights' file, else the environment variable LATENTDIFF_INCEPTION, else the download.
        fid_infinity: Also extrapolate the FID to infinitely many images (Chong and Forsyth 2020), which takes eight
            more distances of several seconds each.
        inception_taps: Earlier layers of Inception, of 64, 192 and 768 features, to take further FIDs in. They see
            less, are far smaller numbers, and compare only with others of the same layer.
        lpips: ``auto`` measures LPIPS (of reconstructions, and of pairs of one class's images, their diversity) where
            AlexNet's convolutions are here (``LATENTDIFF_LPIPS``) or can be downloaded.
        device: ``auto`` takes a GPU where there is one.
        devices: GPUs, or processes on a CPU, that share the images to be sampled and measured.
        features_folder: Where the features of real images are cached.
        run: Where the files go.
    """

    checkpoint: str = "checkpoints/fashion-mnist/latent.safetensors"
    name: str | None = None
    mode: Literal["reconstruction", "prior"] = "reconstruction"
    data: DataConfig = field(default_factory=DataConfig)
    num_images: int | None = None
    real_images: int | None = None
    batch_size: int = 100
    inception: Literal["auto", "require", "off"] = "auto"
    inception_weights: str | None = None
    fid_infinity: bool = False
    inception_taps: tuple[Literal[64, 192, 768], ...] = ()
    lpips: Literal["auto", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    features_folder: str = "stages/features"
    run: RunConfig = field(default_factory=RunConfig)


def run(config: EvaluateStage, command: str = "") -> Path:
    """Measure as ``config`` says and return the folder that holds ``evaluation.json``."""
    import json
    import time

    import torch
    from tqdm import tqdm

    from latentdiff import processes
    from latentdiff.checkpoint import device_name, environment, file_sha256, write_atomically
    from latentdiff.data import load_data
    from latentdiff.evaluation.extract import extract_together
    from latentdiff.evaluation.fidelity import fidelity
    from latentdiff.evaluation.infinity import distance_at_infinity
    from latentdiff.evaluation.lpips_scores import diversity, lpips_between
    from latentdiff.evaluation.manifold import pixel_memorisation
    from latentdiff.evaluation.measure import Reference, measure, warnings
    from latentdiff.pipeline import locate
    from latentdiff.precision import resolve_device
    from latentdiff.report.grids import save_grid
    from latentdiff.report.pixel_density import pixel_density
    from latentdiff.stages import folders
    from latentdiff.training.provenance import several

    device = resolve_device(config.device)
    with processes.first_before_others():
        train, test = load_data(config.data, "train"), load_data(config.data, "test")
    path = None if config.checkpoint in RANDOM else locate(config.checkpoint)
    subject, n = build_subject(config, path, train, test, device)
    name = config.name or (folders.model_name(path) if path else config.checkpoint)
    with processes.first_before_others():
        nets = feature_nets(config, test, device)
    processes.agree("the images or the nets to measure with", [test.fingerprint, *nets])
    lpips = lpips_net(device) if config.lpips == "auto" and processes.first() else None
    check_extras(config, nets, n)
    if processes.first():
        folder = folders.prepare(config.run, "evaluate", name)
        folders.record_config(config, folder)
    print(f"{test.describe()}\nmeasuring {n:,} images of {name}: {subject.kind}")

    start, chunks = time.perf_counter(), [torch.empty(0, *test.image_shape, dtype=torch.uint8)]
    quiet = None if processes.first() else True
    with tqdm(
        total=len(processes.share(n)) if subject.shared else n, desc="images", unit="images", disable=quiet
    ) as bar:
        for chunk in subject.batches:
            chunks.append(chunk.cpu())
            bar.update(len(chunk))
    images = torch.cat(chunks)
    images = processes.everyone(images) if subject.shared else images
    seconds = time.perf_counter() - start
    metrics: dict[str, Any] = {"inception": None, "classifier": None, "reconstruction": None, "diversity": None}
    # As many real training as test images, since a Fréchet distance falls with the number on either side.
    reals = config.real_images or max(n, len(test))
    floors, features = {}, {"inception": None, "classifier": None}
    notes = other_split(subject.provenance, train, test)
    for key, net in nets.items():
        print(f"features: {net.name}")
        ours = extract_together(net, images)
        with processes.first_before_others():
            reference = Reference.build(net, train, test, Path(config.features_folder), max_images=reals)
        if not processes.first():
            continue
        features[key] = {
            **reference.net,
            "train_images": len(reference.train),
            "test_images": len(reference.test),
        }
        metrics[key] = measure(ours, subject.labels, reference, config.seed, paired=subject.kind == "reconstruction")
        if key == "inception" and config.fid_infinity:
            metrics[key]["fid_infinity"] = distance_at_infinity(ours.pooled, reference.test_moments, seed=config.seed)
        floors[key] = reference.floor(n, config.seed)
        notes += warnings(ours, subject.labels, reference, metrics[key])
    if not processes.first():
        return folders.path_of(config.run, "evaluate", name)
    if "inception" in nets and config.inception_taps:
        metrics["inception"]["taps"] = taps(config, images, train, test, reals, device)
    if subject.kind in GENERATED:
        print("nearest training images, by pixels")
        metrics["pixels"] = pixel_memorisation(images, train.images, test.images[: max(n, 2)])
        if (copied := metrics["pixels"]["copied"]) > 0.01:
            notes.append(f"{copied:.0%} of the images are copies of training images, pixel by pixel.")
    originals = test.images[:n] if subject.kind == "reconstruction" else None
    if originals is not None:
        metrics["reconstruction"] = fidelity(images, originals)
    if lpips is not None:
        print("LPIPS")
        features["lpips"] = {"name": lpips.name, "weights_sha256": lpips.weights_sha256}
        # Within classes where there are any; pairs across them would be another measure.
        if test.num_classes == 0 or subject.labels is not None:
            metrics["diversity"] = diversity(lpips, images, subject.labels, config.seed)
        floors["diversity"] = diversity(lpips, test.images, test.labels if test.num_classes else None, config.seed)
        if originals is not None:
            metrics["reconstruction"]["lpips"] = float(lpips_between(lpips, images, originals).mean())
    columns = 10 if subject.labels is None else min(10, test.num_classes)
    save_grid(images[:GRID], folder / "grid.png", columns)
    # The last net is Inception where it is there.
    pictures = draw(folder, subject, images, originals, test.class_names, ours, reference, train)
    values = {
        "schema": 1,
        "name": name,
        "kind": subject.kind,
        "data": {
            "name": test.name,
            "source": test.source,
            "train_images": len(train),
            "test_images": len(test),
            "image_shape": list(test.image_shape),
            "class_names": list(test.class_names),
            "train_split": train.parts,
            "test_split": test.parts,
            "train_fingerprint": train.fingerprint,
            "test_fingerprint": test.fingerprint,
        },
        "num_images": n,
        "density": {
            key: pixel_density(own).round(7).tolist() for key, own in (("images", images), ("test", test.images))
        },
        "sampling": subject.sampling
        and {
            **subject.sampling,
            "seconds": seconds,
            "images_per_second": n / seconds,
            "device": several(device_name(device)),
        },
        "model": path and {"path": path.name, "sha256": file_sha256(path) if path.is_file() else None, **subject.model},
        "training": subject.provenance and training_record(subject.provenance),
        "features": features,
        "metrics": metrics,
        "floors": floors,
        "warnings": notes,
        "grid": "grid.png",
        "pictures": pictures,
        "environment": environment(),
        "command": command,
    }
    text = json.dumps(values, indent=1, allow_nan=False)
    write_atomically(folder / "evaluation.json", lambda file: file.write_text(text))
    for line in summary(values):
        print(line)
    print(folder)
    return folder


def build_subject(
    config: EvaluateStage, path: Path | None, train: ImageSet, test: ImageSet, device: torch.device
) -> tuple[Subject, int]:
    """What ``config`` asks to be measured, and how many images.

    Raises ValueError, CheckpointError or DataError before any long work.
    """
    from latentdiff import checkpoint
    from latentdiff.evaluation import subjects
    from latentdiff.evaluation.given_images import is_images
    from latentdiff.pipeline import Request

    if config.num_images is not None and config.num_images < 2:
        raise ValueError(f"a distance needs at least 2 images, not {config.num_images}")
    if config.real_images is not None and config.real_images < 2:
        raise ValueError(f"a distance needs at least 2 real images, not {config.real_images}")
    if path is not None and is_images(path):
        return subjects.images(path, test, config.num_images, config.batch_size)
    n = config.num_images or min(10_000, len(test))
    if path is None:
        random = {"noise": (subjects.noise, test), "gaussian": (subjects.gaussian, train)}
        make, data = random[config.checkpoint]
        return make(data, n, config.seed, config.batch_size), n
    if checkpoint.read_header(path)["kind"] == "autoencoder":
        return subjects.autoencoder(path, config.mode, test, n, config.seed, config.batch_size, device), n
    return subjects.diffusion(path, Request.of(config, num_images=n), test, device), n


def other_split(provenance: dict[str, Any] | None, train: ImageSet, test: ImageSet) -> list[str]:
    """A warning where the model was trained on other images than the training split here, of a set that is split anew:
    test images may then be among those that it was trained on."""
    data = (provenance or {}).get("data") or {}
    anew = test.parts or data.get("split")
    if not data or not anew or data.get("fingerprint") == train.fingerprint:
        return []
    return [
        f"the model was trained on {data.get('images', 0):,} images of {data.get('name')} "
        f"({data.get('split') or 'another split'}), not on the {len(train):,} of the training split here "
        f"({train.parts}): it may have seen test images. Evaluate with the --data settings that it was trained with."
    ]


def feature_nets(config: EvaluateStage, test: ImageSet, device: torch.device) -> dict[str, Any]:
    """The nets that can measure here: the data set's classifier where it has one, Inception where its weights are."""
    from latentdiff.checkpoint import CheckpointError
    from latentdiff.evaluation.feature_nets import ClassifierFeatures, InceptionFeatures, find_inception
    from latentdiff.shelf import find

    nets: dict[str, Any] = {}
    classifier = find(f"{test.name}/classifier.safetensors")
    if classifier is not None:
        net = ClassifierFeatures(classifier, device)
        if net.fits(test):
            nets["classifier"] = net
        else:
            print(f"no classifier distance: {net.wants}")
    if config.inception != "off":
        weights = find_inception(config.inception_weights)
        if weights is not None:
            nets["inception"] = InceptionFeatures(weights, device)
        elif config.inception == "require":
            raise CheckpointError(
                "the FID Inception's weights are not here and could not be downloaded: name a file "
                "with --inception_weights or LATENTDIFF_INCEPTION"
            )
        else:
            print("no FID or KID: the FID Inception's weights are not here and could not be downloaded")
    if not nets:
        raise CheckpointError(f"there is nothing to measure {test.name} with: no classifier and no FID Inception")
    return nets


def lpips_net(device: torch.device) -> Perceptual | None:
    """LPIPS where its trunk can be had; else one line says why not."""
    from latentdiff.checkpoint import CheckpointError
    from latentdiff.evaluation.lpips_scores import find_lpips

    try:
        net = find_lpips(device)
    except CheckpointError as error:
        print(f"no LPIPS: {error}")
        return None
    if net is None:
        print("no LPIPS: AlexNet's convolutions are not here and could not be downloaded")
    return net


def check_extras(config: EvaluateStage, nets: dict[str, Any], num_images: int) -> None:
    """Raise ValueError, before any work, for extras that cannot be had."""
    from latentdiff.evaluation.infinity import LEAST

    asked = ["fid_infinity"] * config.fid_infinity + ["inception_taps"] * bool(config.inception_taps)
    if asked and "inception" not in nets:
        raise ValueError(f"{' and '.join(asked)} need the FID Inception, which is off or not here")
    if config.fid_infinity and num_images < LEAST:
        raise ValueError(f"fid_infinity needs at least {LEAST} images, not {num_images}")


def taps(
    config: EvaluateStage, images: torch.Tensor, train: ImageSet, test: ImageSet, reals: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """``fid_test`` and ``fid_train`` in each of Inception's earlier layers asked for, and ``floor``, that of as many
    real training images, by the layer's number of features."""
    from latentdiff.evaluation.extract import extract
    from latentdiff.evaluation.feature_nets import InceptionFeatures
    from latentdiff.evaluation.frechet import frechet_distance, moments
    from latentdiff.evaluation.measure import Reference

    found = {}
    for tap in config.inception_taps:
        net = InceptionFeatures(config.inception_weights, device, str(tap))
        print(f"features: {net.name}")
        reference = Reference.build(net, train, test, Path(config.features_folder), max_images=reals)
        own = moments(extract(net, images).pooled)
        found[str(tap)] = {
            "fid_test": frechet_distance(own, reference.test_moments),
            "fid_train": frechet_distance(own, reference.train_moments),
            "floor": reference.floor(len(images), config.seed)["fid_test"],
        }
    return found


def draw(
    folder: Path,
    subject: Subject,
    images: torch.Tensor,
    originals: torch.Tensor | None,
    class_names: tuple[str, ...],
    features: Features,
    reference: Reference,
    train: ImageSet,
) -> dict[str, dict[str, Any]]:
    """Write the pictures that this kind of images has something to show in; return what the report needs of each."""
    from latentdiff.evaluation.manifold import closest
    from latentdiff.report import evidence

    pictures = {}
    if originals is not None:
        pictures["originals"] = evidence.write_originals(folder, images, originals)
    if subject.kind in ("diffusion", "images") and subject.labels is not None and class_names:
        pictures["classes"] = evidence.write_classes(folder, images, subject.labels, class_names)
    if subject.kind in GENERATED:
        which, neighbours, distances = closest(features.pooled, reference.train.pooled, CLOSEST, NEIGHBOURS)
        near = train.images[reference.train_index[neighbours.flatten()]].unflatten(0, neighbours.shape)
        pictures["neighbours"] = evidence.write_neighbours(folder, images[which], near, distances.tolist())
    if subject.denoising is not None:
        pictures |= evidence.write_denoising(folder, subject.denoising())
    return pictures


def training_record(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a report says about the training: budget, speed, memory, device, and quality over time."""
    keys = ("images_seen", "seconds", "images_per_second", "peak_memory_bytes", "device", "command")
    history = [
        {key: row[key] for key in ("images_seen", "seconds", "distance", "kid", "loss", "val_loss") if key in row}
        for row in provenance["history"]
    ]
    return {
        **{key: provenance[key] for key in keys},
        "energy_joules": provenance.get("energy_joules"),
        "config": provenance.get("config"),
        "stage_one_seconds": provenance.get("stage_one_seconds"),
        "encode_seconds": provenance.get("encode_seconds"),
        # Of the run that it started from, where there is one, the batch size is not known.
        "optimiser_steps": None
        if provenance.get("started_from")
        else round(provenance["images_seen"] / provenance["config"]["trainer"]["batch_size"]),
        "history": [row for row in history if len(row) > 2],
    }


def summary(values: dict[str, Any]) -> list[str]:
    """The main numbers, each with its floor."""
    from latentdiff.report import formats

    lines = []
    metrics, floors = values["metrics"], values["floors"]
    if metrics["inception"]:
        kid = metrics["inception"]["kid_test"]
        lines.append(
            f"FID to test {metrics['inception']['fid_test']:.2f}, to train {metrics['inception']['fid_train']:.2f} "
            f"(real training images: {floors['inception']['fid_test']:.2f}); KID × 1000 {formats.kid(kid)}"
        )
        if far := metrics["inception"].get("fid_infinity"):
            lines.append(
                f"FID extrapolated to infinitely many images {far['value']:.2f} (residual {far['residual']:.2f})"
            )
        for layer, tap in metrics["inception"].get("taps", {}).items():
            lines.append(
                f"FID in the layer of {layer} features: to test {tap['fid_test']:.3f}, to train {tap['fid_train']:.3f} "
                f"(real training images: {tap['floor']:.3f})"
            )
        if "precision" in metrics["inception"]:
            lines.append(
                "precision {precision:.1%}, recall {recall:.1%}, density {density:.2f}, coverage {coverage:.1%}".format(
                    **metrics["inception"]
                )
            )
        if score := metrics["inception"].get("inception_score"):
            lines.append(f"Inception Score {score['mean']:.2f} ± {score['std']:.2f}")
        features = values["features"]["inception"]
        if close := metrics["inception"].get("memorisation"):
            lines.append(
                f"{close['share_closer']:.1%} are closer to a training image than 99 % of the test images are "
                f"(about 1 % for new images), in Inception's features of {features['train_images']:,} training images"
            )
    if pixels := metrics.get("pixels"):
        lines.append(
            f"pixel by pixel {pixels['share_closer']:.1%} are, of all {pixels['train_images']:,} training images; the "
            f"nearest pair differs by {pixels['least']:.1f} grey levels (rms), the median {pixels['median']:.1f}, that "
            f"of test images {pixels['test_median']:.1f}"
        )
    if metrics["classifier"]:
        lines.append(
            f"classifier distance to test {metrics['classifier']['distance_test']:.3f} "
            f"(real training images: {floors['classifier']['distance_test']:.3f})"
        )
        if metrics["classifier"].get("class_accuracy") is not None:
            lines.append(f"class accuracy {metrics['classifier']['class_accuracy']:.1%}")
    if metrics["reconstruction"]:
        lines.append("PSNR {psnr:.2f} dB, SSIM {ssim:.3f}".format(**metrics["reconstruction"]))
        if "lpips" in metrics["reconstruction"]:
            lines[-1] += f", LPIPS {metrics['reconstruction']['lpips']:.4f}"
    if metrics.get("diversity"):
        real = f" (real images: {floors['diversity']['mean']:.3f})" if floors.get("diversity") else ""
        lines.append(f"LPIPS between two images {metrics['diversity']['mean']:.3f}{real}")
    if values["sampling"]:
        lines.append(f"{values['sampling']['images_per_second']:.1f} images/s")
    return [*lines, *(f"note: {warning}" for warning in values["warnings"])]


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli, launch

    config, module = cli.parse(EvaluateStage, argv), __spec__.name if __spec__ else __name__
    if not launch.spread(module, argv, config.devices):
        run(config, cli.command(module, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main, several=True)
