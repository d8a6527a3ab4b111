"""Measure a model: distances to real images, floors, speed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentdiff.config import DataConfig, RunConfig, SamplingConfig

if TYPE_CHECKING:
    import torch

    from latentdiff.data import ImageSet
    from latentdiff.evaluation.assessment import Assessment
    from latentdiff.evaluation.subjects import Subject

GRID = 100
# Samples nearest to a training image, by pixels and by features, and how many training images of each are shown.
CLOSEST, NEIGHBOURS = 5, 3

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
        mode: What an autoencoder is asked for: ``reconstruction`` of real images, which bounds any model on its
            latents, or ``prior``, decoded N(0, I), which is the VAE baseline.
        reconstruct: The split whose images an autoencoder reconstructs. Those of ``train`` are many more where the test
            split is small, for an FID to their originals that depends less on their number; PSNR and LPIPS beside those
            of ``test`` show whether they were learned by heart.
        data: The real images.
        num_images: How many images; none takes 10,000, or as many as the test split (``reconstruct``'s) has.
        real_images: At most this many real images of each split to measure against. Default: as many as the test split
            has, or ``num_images`` where that is more. With ``reconstruct`` train it is ``num_images``.
        inception: ``auto`` measures FID and KID where the FID Inception's weights are here or can be downloaded,
            ``require`` ends with an error where they are not, ``off`` measures with the classifier alone.
        inception_weights: The weights' file, else the environment variable LATENTDIFF_INCEPTION, else the download.
        fid_infinity: Also extrapolate the FID to infinitely many images (Chong and Forsyth 2020), from eight parts of
            them; none does from 4,096 images on, twice Inception's features. Of fewer (100 at least, if it must be) the
            result is off by several.
        inception_taps: Earlier layers of Inception, of 64, 192 and 768 features, to take further FIDs in. They see
            less, are far smaller numbers, and compare only with others of the same layer.
        kid_subsets: KID is the mean over so many pairs of random subsets, drawn with ``seed``.
        kid_subset_size: Images in each; none takes 1,000, or as many as there are of either side where that is less.
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
    reconstruct: Literal["test", "train"] = "test"
    data: DataConfig = field(default_factory=DataConfig)
    num_images: int | None = None
    real_images: int | None = None
    batch_size: int = 100
    inception: Literal["auto", "require", "off"] = "auto"
    inception_weights: str | None = None
    fid_infinity: bool | None = None
    inception_taps: tuple[Literal[64, 192, 768], ...] = ()
    kid_subsets: int = 100
    kid_subset_size: int | None = None
    lpips: Literal["auto", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    features_folder: str = "stages/features"
    run: RunConfig = field(default_factory=RunConfig)


def run(config: EvaluateStage, command: str = "") -> Path:
    """Measure as ``config`` says and return the folder that holds ``evaluation.json``."""
    import json
    import time

    from latentdiff import processes
    from latentdiff.checkpoint import write_atomically
    from latentdiff.data import load_data, load_test
    from latentdiff.evaluation.assessment import METHOD, Against, assess, sampled
    from latentdiff.evaluation.feature_nets import InceptionFeatures
    from latentdiff.evaluation.kernel import SUBSETS, Subsets
    from latentdiff.evaluation.nets import feature_nets, lpips_net
    from latentdiff.pipeline import locate
    from latentdiff.precision import resolve_device
    from latentdiff.report.grids import save_grid
    from latentdiff.report.summary import summary
    from latentdiff.stages import folders
    from latentdiff.stages.evaluation_record import record

    check_settings(config)
    device = resolve_device(config.device)
    path = None if config.checkpoint in RANDOM else locate(config.checkpoint)
    name = config.name or (folders.model_name(path) if path else config.checkpoint)
    folders.check(config.run, "evaluate", name)
    with processes.first_before_others():
        train, test = load_data(config.data, "train"), load_test(config.data)
    subject, n = build_subject(config, path, train, test, device)
    with processes.first_before_others():
        nets = feature_nets(test, device, config.inception, config.inception_weights)
    processes.agree("the images or the nets to measure with", [test.fingerprint, *nets])
    lpips = lpips_net(device) if config.lpips == "auto" and processes.first() else None
    # As many real training as test images, since a Fréchet distance falls with the number on either side. Training
    # images' reconstructions are measured against their own originals.
    reals = n if config.reconstruct == "train" else config.real_images or max(n, len(test))
    check_extras(config, nets, n, min(reals, len(test)), subject)
    if processes.first():
        folder = folders.prepare(config.run, "evaluate", name, inputs=[path])
        folders.record_config(config, folder)
    print(f"{test.describe()}\nmeasuring {n:,} images of {name}: {subject.kind}")
    if unheeded := _unheeded(config, subject):
        print(f"of no effect on these images: {', '.join(f'--{key}' for key in unheeded)}")

    start = time.perf_counter()
    images = sampled(subject, n, test.image_shape)
    seconds = time.perf_counter() - start
    against = Against(
        train=train,
        test=test,
        real_images=reals,
        features_folder=Path(config.features_folder),
        seed=config.seed,
        subsets=Subsets(config.kid_subsets, config.kid_subset_size or SUBSETS.size),
    )
    taps = [InceptionFeatures(config.inception_weights, device, str(tap)) for tap in config.inception_taps]
    found = assess(images, subject, against, nets, lpips, config.fid_infinity, taps)
    if found is None:
        return folders.path_of(config.run, "evaluate", name)
    columns = 10 if subject.labels is None else min(10, test.num_classes)
    save_grid(images[:GRID], folder / "grid.png", columns)
    values = {
        "schema": 1,
        "method": METHOD,
        "name": name,
        "num_images": n,
        **record(subject, path, images, seconds, train, test, found, device),
        "grid": "grid.png",
        "pictures": draw(folder, subject, images, train, test.class_names, found),
        "command": command,
    }
    text = json.dumps(values, indent=1, allow_nan=False)
    write_atomically(folder / "evaluation.json", lambda file: file.write_text(text))
    for line in summary(values):
        print(line)
    print(folder)
    return folder


def check_settings(config: EvaluateStage) -> None:
    """Raise ValueError for settings that cannot be meant, whatever the images: before any of them is read."""
    if config.num_images is not None and config.num_images < 2:
        raise ValueError(f"a distance needs at least 2 images, not {config.num_images}")
    if config.real_images is not None and config.real_images < 2:
        raise ValueError(f"a distance needs at least 2 real images, not {config.real_images}")
    if config.kid_subsets < 1:
        raise ValueError(f"kid_subsets must be at least 1, not {config.kid_subsets}")
    if config.kid_subset_size is not None and config.kid_subset_size < 2:
        raise ValueError(f"a kernel distance needs at least 2 images, not --kid_subset_size {config.kid_subset_size}")
    if config.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {config.batch_size}")
    if config.name and not (config.name.strip() and config.name.isprintable()):
        # Such an evaluation would be refused by every comparison.
        raise ValueError(f"--name {config.name!r}: a row's name is one line of text")
    if config.name and not config.run.folder and "/" in config.name:
        raise ValueError(f"--name {config.name} is the folder's name too: leave the / out, or name a --run.folder")
    if config.inception == "off" and config.inception_weights:
        raise ValueError("inception_weights names what --inception off leaves out")


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

    of_codec = path is not None and not is_images(path) and checkpoint.read_header(path)["kind"] == "autoencoder"
    if config.mode == "prior" and not of_codec:
        raise ValueError(f"--mode prior is for autoencoders, which {config.checkpoint} is not")
    if config.reconstruct == "train" and (config.mode == "prior" or not of_codec):
        raise ValueError(
            f"--reconstruct train is for an autoencoder's reconstructions, not for {config.checkpoint}"
            + (" in --mode prior" if config.mode == "prior" else "")
        )
    if config.reconstruct == "train" and config.real_images not in (None, config.num_images):
        raise ValueError(
            "--reconstruct train measures against the originals of as many images as --num_images says: leave "
            "--real_images out"
        )
    if path is not None and is_images(path):
        return subjects.images(path, test, config.num_images, config.batch_size)
    real = train if config.reconstruct == "train" else test
    n = config.num_images or min(10_000, len(real))
    if path is None:
        random = {"noise": (subjects.noise, test), "gaussian": (subjects.gaussian, train)}
        make, data = random[config.checkpoint]
        return make(data, n, config.seed, config.batch_size), n
    if of_codec:
        asked = (config.mode, real, config.reconstruct, n, config.seed, config.batch_size)
        return subjects.autoencoder(path, *asked, device), n
    return subjects.diffusion(path, Request.of(config, num_images=n), test, device), n


def check_extras(
    config: EvaluateStage, nets: dict[str, Any], num_images: int, test_images: int, subject: Subject
) -> None:
    """Raise ValueError, before any work, for extras that cannot be had of so many images and real test images."""
    from latentdiff.evaluation.infinity import LEAST
    from latentdiff.evaluation.kernel import SUBSETS

    extras = ("fid_infinity", "inception_taps", "kid_subsets", "kid_subset_size")
    asked = [name for name in extras if (value := getattr(config, name)) and value != getattr(EvaluateStage, name)]
    if asked and "inception" not in nets:
        raise ValueError(f"the FID Inception is off or not here, which {' and '.join(asked)} cannot do without")
    if config.kid_subset_size and config.kid_subset_size > min(num_images, test_images):
        raise ValueError(
            f"a subset of {config.kid_subset_size:,} cannot be drawn from {num_images:,} images and {test_images:,} "
            "real ones: lower --kid_subset_size, or leave it out to take as many as there are"
        )
    size = min(config.kid_subset_size or SUBSETS.size, num_images, test_images)
    if "kid_subsets" in asked and size == num_images == test_images:
        raise ValueError(
            f"all {size:,} images of either side are one subset, not {config.kid_subsets}: lower --kid_subset_size too"
        )
    if config.fid_infinity and num_images < LEAST:
        raise ValueError(f"fid_infinity needs at least {LEAST} images, not {num_images}")
    if config.fid_infinity and subject.originals is not None:
        raise ValueError("fid_infinity is of samples: reconstructions are no draw to continue")


def _unheeded(config: EvaluateStage, subject: Subject) -> list[str]:
    """Settings of the sampler that were given although no sampler makes these images: all rows of a comparison may be
    made with the same flags, but nobody should think that they counted."""
    if subject.kind == "diffusion":
        return []
    usual = SamplingConfig()
    names = {own.name for own in fields(SamplingConfig)} - {"seed", "batch_size"}
    return sorted(name for name in names if getattr(config, name) != getattr(usual, name))


def draw(
    folder: Path,
    subject: Subject,
    images: torch.Tensor,
    train: ImageSet,
    class_names: tuple[str, ...],
    found: Assessment,
) -> dict[str, dict[str, Any]]:
    """Write the pictures that this kind of images has something to show in; return what the report needs of each."""
    import torch

    from latentdiff.evaluation.assessment import GENERATED
    from latentdiff.evaluation.manifold import closest, neighbours_of
    from latentdiff.report import evidence

    pictures = {}
    if subject.originals is not None:
        pictures["originals"] = evidence.write_originals(folder, images, subject.originals)
    if subject.kind in ("diffusion", "images") and subject.labels is not None and class_names:
        pictures["classes"] = evidence.write_classes(folder, images, subject.labels, class_names)
    features, reference = found.last
    if subject.kind in GENERATED:
        differences, nearest = found.pixels
        by_pixels = differences.argsort()[:CLOSEST]
        by_features, distances = closest(features.pooled, reference.train.pooled, CLOSEST + len(by_pixels))
        shown = torch.tensor([*by_pixels, *(k for k in by_features if k not in by_pixels)][: 2 * CLOSEST])
        neighbours = reference.train_index[neighbours_of(features.pooled[shown], reference.train.pooled, NEIGHBOURS)]
        near = torch.cat([nearest[shown, None], neighbours], dim=1)
        near = train.images[near.flatten()].unflatten(0, near.shape)
        pictures["neighbours"] = evidence.write_neighbours(
            folder, images[shown], near, distances[shown].tolist(), differences[shown].tolist()
        )
    if subject.denoising is not None:
        pictures |= evidence.write_denoising(folder, subject.denoising())
    return pictures


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli, launch

    config, module = cli.parse(EvaluateStage, argv), __spec__.name if __spec__ else __name__
    if not launch.spread(module, argv, config.devices):
        run(config, cli.command(module, argv))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main, several=True)
