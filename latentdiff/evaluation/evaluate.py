"""Measure a model's images: distances to real images, what real images reach themselves, speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from latentdiff import checkpoint, distributed
from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import EngineName, RunConfig, SamplingConfig, check_choice
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.config.ranges import Name
from latentdiff.data import DatasetSplits, ImageDataset, load_dataset
from latentdiff.data.decode import ReadingRules, parse_value_range
from latentdiff.errors import ConfigError, DataError
from latentdiff.evaluation.available_nets import find_feature_nets, find_lpips_net
from latentdiff.evaluation.evaluation_record import evaluation_record
from latentdiff.evaluation.feature_metrics import ReferenceFeatures
from latentdiff.evaluation.feature_nets import Features, InceptionFeatures, check_inception_file
from latentdiff.evaluation.fid_infinity import MIN_SAMPLES
from latentdiff.evaluation.given_model import on_device
from latentdiff.evaluation.image_files import holds_images, read_images
from latentdiff.evaluation.image_sources import (
    ImageSource,
    autoencoder_images,
    diffusion_images,
    gaussian_images,
    given_images,
    noise_images,
)
from latentdiff.evaluation.kid import SUBSETS, Subsets
from latentdiff.evaluation.measurements import (
    METHOD_VERSION,
    Measurements,
    RealImages,
    collect_images,
    measure_images,
)
from latentdiff.evaluation.precision_recall import closest_to_training, nearest_neighbours
from latentdiff.files import check_cache_folder, scratch_folder
from latentdiff.inference.model import DiffusionModel, load
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.precision import resolve_device
from latentdiff.report import evaluation_pictures
from latentdiff.report.evaluation import SCHEMA, Evaluation
from latentdiff.report.grids import save_grid
from latentdiff.report.summary import summary
from latentdiff.runs import run_folder

# Images in the grid of an evaluation.
GRID = 100
# Samples nearest to a training image, by pixels and by features, and how many training images of each are shown.
CLOSEST, NEIGHBOURS = 5, 3
# What can be measured without a file.
RANDOM = ("noise", "gaussian")
# What evaluate takes as a model.
Evaluable = DiffusionModel | AutoencoderCodec | Tensor | Path | str


def evaluate(
    model: Evaluable,
    data: DatasetSplits | str | Path,
    *,
    num_images: int | None = None,
    name: str | None = None,
    value_range: str = "auto",
    sampling: SamplingConfig | None = None,
    mode: Literal["reconstruction", "prior"] = "reconstruction",
    reconstruct: Literal["test", "train"] = "test",
    real_images: int | None = None,
    inception: Literal["auto", "require", "off"] = "auto",
    inception_weights: Path | str | None = None,
    fid_infinity: bool | None = None,
    inception_taps: Sequence[Literal[64, 192, 768]] = (),
    kid_subsets: int = SUBSETS.count,
    kid_subset_size: int | None = None,
    lpips: Literal["auto", "off"] = "auto",
    engine: EngineName = "torch",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    features_folder: Path | str | None = None,
    folder: Path | str | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Evaluation:
    """Measure a model's images against the real test and training images of a data set.

    Args:
        model: A diffusion model, whose samples are measured; an autoencoder, whose reconstructions are; the file of
            either; ``noise`` for uniform random pixels, or ``gaussian`` for random pixels with the training images'
            mean and covariance; or images that any model made: uint8 [n, c, h, w], or the path of their directory, zip,
            .npz, .npy, .safetensors file, or a CSV of paths.
        data: The real images: a data set, or what :func:`~latentdiff.load_dataset` takes.
        num_images: How many images. Default: 10,000, or as many as the test split (``reconstruct``'s) has.
        name: Name of the row in a comparison. Default: that of the model's file or run.
        value_range: The values of images from files that become black and white, where they are not uint8:
            ``"LOW,HIGH"``, such as ``"-1,1"``, or ``auto``.
        sampling: How a diffusion model samples. Its ``seed`` and ``batch_size`` hold for all images. Default:
            ``SamplingConfig(batch_size=100)``.
        mode: What an autoencoder is asked for: ``reconstruction`` of real images, or ``prior``, decoded N(0, I), which
            is the VAE baseline.
        reconstruct: The split whose images an autoencoder reconstructs.
        real_images: At most this many real images of each split. Default: as many as the test split has, or
            ``num_images`` where that is more.
        inception: ``auto`` measures FID and KID where the FID Inception's weights are here or can be downloaded,
            ``require`` raises an error where they are not, ``off`` measures with the data set's classifier alone.
        inception_weights: The weights' file.
        fid_infinity: Also extrapolate the FID to infinitely many images (Chong and Forsyth 2020). Default: from 4,096
            images on.
        inception_taps: Earlier layers of Inception, of 64, 192 and 768 features, to take further FIDs in.
        kid_subsets: KID (Binkowski et al. 2018) is the mean over so many pairs of random subsets.
        kid_subset_size: Images in each subset. Default: 1,000, or as many as there are.
        lpips: ``auto`` measures LPIPS (Zhang et al. 2018) where its network is here or can be downloaded.
        engine: What runs the networks of a model that is given as a path, see :func:`~latentdiff.load`.
        device: ``auto`` takes a GPU where there is one. The model is moved there.
        features_folder: Where the features of real images are cached for later calls. Default: nowhere.
        folder: Where ``evaluation.json`` and the pictures are written. Default: they stay in memory.
        overwrite: Replace an earlier evaluation in ``folder``.
        command: The command line that asked for it, for the record.

    Returns:
        The measurements, as :class:`~latentdiff.report.evaluation.Evaluation`. Where several processes work together,
        all of them return the same.

    Raises:
        ConfigError: Settings that contradict each other, or a model for images of another shape.
        CheckpointError: A model file is missing or damaged, or there is no network to measure with.
        DataError: The data set or the given images are missing or damaged.
        DivergenceError: Samples are NaN or infinite.
        FolderError: ``folder`` holds an earlier evaluation or other files.

    Example:
        >>> from latentdiff import load_dataset
        >>> from latentdiff.config import DataConfig
        >>> from latentdiff.evaluation.evaluate import evaluate
        >>> scores = evaluate(
        ...     "checkpoints/fashion-mnist/latent.safetensors",
        ...     load_dataset(DataConfig(source="embedded")),
        ...     num_images=20,
        ...     real_images=40,
        ...     inception="off",
        ...     lpips="off",
        ... )  # doctest: +ELLIPSIS
        fashion-mnist ...
        >>> scores.name, scores.values["num_images"]
        ('latent', 20)
        >>> scores.metrics["classifier"]["distance_test"] > 0
        True
    """
    # What cannot be meant is refused before anything is read.
    check_choice("sampling", sampling, SamplingConfig | None)
    splits = data if isinstance(data, DatasetSplits) else load_dataset(data)
    settings = EvaluateStage(
        model=str(model) if isinstance(model, str | Path) else "given from Python",
        name=name,
        value_range=value_range,
        mode=mode,
        reconstruct=reconstruct,
        data=splits.config,
        num_images=num_images,
        real_images=real_images,
        inception=inception,
        inception_weights=None if inception_weights is None else str(inception_weights),
        fid_infinity=fid_infinity,
        inception_taps=tuple(inception_taps),
        kid_subsets=kid_subsets,
        kid_subset_size=kid_subset_size,
        lpips=lpips,
        engine=engine,
        device=device,
        devices=distributed.world_size(),
        features_folder=None if features_folder is None else str(features_folder),
        run=RunConfig(folder=None if folder is None else str(folder), overwrite=overwrite),
        **(sampling or SamplingConfig(batch_size=EvaluateStage.batch_size)).to_kwargs(),
    )
    check_settings(settings)
    folder, features_folder = settings.run.folder, settings.features_folder
    torch_device = resolve_device(device)
    model, path = _find_model(model)
    name = name or default_name(model)
    if folder is not None:
        run_folder.check(settings.run, "evaluate", name)
    # A file's header, or its place, is enough to refuse these: reading the images may take minutes.
    check_cache_folder(features_folder, "features_folder")
    _check_model(settings, model)
    if inception != "off":
        check_inception_file(settings.inception_weights)

    # Load the real images, the model, and the nets whose features are compared.
    with distributed.main_process_first():
        train, test = splits.train, splits.test_or_val
    source, count = build_source(settings, model, train, test, torch_device)
    with distributed.main_process_first():
        nets = find_feature_nets(test, torch_device, settings.data, inception, settings.inception_weights)
    distributed.check_same("the images or the nets to measure with", [test.fingerprint, *nets])
    lpips_metric = find_lpips_net(torch_device) if lpips == "auto" and distributed.is_main_process() else None
    # As many real training as test images, since a Fréchet distance falls with the number on either side. Training
    # images' reconstructions are measured against their own originals.
    num_real = count if reconstruct == "train" else real_images or max(count, len(test))
    check_extras(settings, nets, count, min(num_real, len(test)), source)
    guide = None if settings.guide is None else find_model(settings.guide)
    with ExitStack() as stack:
        if folder is not None and distributed.is_main_process():
            stack.enter_context(run_folder.opened(settings.run, "evaluate", name, settings, inputs=[path, guide]))
        print(f"{test.describe()}\nmeasuring {count:,} images of {name}: {source.kind}")
        if without_effect := _settings_without_effect(settings, source):
            print(f"of no effect on these images: {', '.join(without_effect)}")

        # Make the images, and measure them.
        start = time.perf_counter()
        images = collect_images(source, count, test.image_shape)
        seconds = time.perf_counter() - start
        against = RealImages(
            train=train,
            test=test,
            real_images=num_real,
            features_folder=None if features_folder is None else Path(features_folder),
            seed=settings.seed,
            mirrored=splits.config.hflip,
            subsets=Subsets(kid_subsets, kid_subset_size or SUBSETS.size),
        )
        taps = [InceptionFeatures(settings.inception_weights, torch_device, str(tap)) for tap in inception_taps]
        found = measure_images(images, source, against, nets, lpips_metric, fid_infinity, taps)

        # Draw the pictures, and put everything together. The first of several processes has it all.
        evaluation: Evaluation | None = None
        if found is not None:
            files, pictures = draw_pictures(source, images, train, test, found)
            values = {
                "schema": SCHEMA,
                "method": METHOD_VERSION,
                "name": name,
                "num_images": count,
                **evaluation_record(source, path, images, seconds, train, test, found, torch_device),
                "grid": "grid.png",
                "pictures": pictures,
                "command": command,
            }
            evaluation = Evaluation(None if folder is None else Path(folder), name, values, files)
            if folder is not None:
                evaluation.save(folder)
        evaluation = distributed.broadcast(evaluation)
        assert evaluation is not None  # the first process has made it
        return evaluation


def evaluate_with_settings(settings: EvaluateStage, command: str = "") -> Evaluation:
    """Measure as the settings of the command say, and print the main numbers, and the folder as the last line.

    Without ``settings.run.folder`` it is the first of ``stages/evaluate/NAME``, ``NAME-2``, ... that is free.

    Args:
        settings: Those of the evaluate stage.
        command: The command line that asked for it, for the record.

    Raises what :func:`evaluate` raises.
    """
    if settings.name and not settings.run.folder:
        check_choice("--name, the folder's too where --run.folder is not given,", settings.name, Name)
    # The name before the check of the folder: without one the folder is called after the model.
    check_settings(settings)
    model, path = _find_model(settings.model)
    name = settings.name or (run_folder.folder_name(path) if path else default_name(model))
    run = run_folder.numbered(settings.run, "evaluate", name)
    sampling = SamplingConfig(**{field.name: getattr(settings, field.name) for field in fields(SamplingConfig)})
    others = settings.to_kwargs(
        "model", "ema", "data", "run", "devices", *(field.name for field in fields(SamplingConfig))
    )
    evaluation = evaluate(
        settings.model,
        load_dataset(settings.data),
        sampling=sampling,
        folder=run.path("evaluate", name),
        overwrite=run.overwrite,
        command=command,
        **others,
    )
    print(*summary(evaluation.values), evaluation.folder, sep="\n")
    return evaluation


def check_settings(settings: EvaluateStage) -> None:
    """Raise ConfigError for settings that cannot be meant, whatever the images: before any of them is read."""
    parse_value_range(settings.value_range)
    if settings.name and not (settings.name.strip() and settings.name.isprintable()):
        # Every comparison would refuse such an evaluation.
        raise ConfigError(f"name {settings.name!r}: a row's name is one line of text")
    if settings.inception == "off" and settings.inception_weights:
        raise ConfigError("inception_weights names what inception off leaves out")


def default_name(model: Evaluable) -> str:
    """What the row of a model is called, unless a name is given.

    Of a file, the file's name, or that of its run. Of a model in memory, the name of its run, or else ``latent``,
    ``pixel`` or ``autoencoder``.
    """
    if isinstance(model, Path):
        return run_folder.model_name(model)
    if isinstance(model, str):
        return model
    if isinstance(model, Tensor):
        return "images"
    if file := model.path or (model.folder and model.folder / "model.safetensors"):
        return run_folder.model_name(file)
    if isinstance(model, AutoencoderCodec):
        return "autoencoder"
    return "latent" if isinstance(model.codec, AutoencoderCodec) else "pixel"


def _find_model(model: Evaluable) -> tuple[Evaluable, Path | None]:
    """The model, a string other than ``noise`` and ``gaussian`` as a path, and the file that it is in, if any."""
    if isinstance(model, str | Path) and str(model) not in RANDOM:
        path = find_model(model)
        return path, path
    if not isinstance(model, DiffusionModel | AutoencoderCodec | Tensor | str):
        raise ConfigError(f"evaluate takes a diffusion model, an autoencoder, images or a path, not {type(model)}")
    return model, model.path if isinstance(model, TrainedModel) else None


def _check_model(settings: EvaluateStage, model: Evaluable) -> None:
    """Raise for a path that holds neither a model nor images, or no autoencoder where one is needed."""
    if not isinstance(model, Path):
        return
    if holds_images(model):
        if not model.exists():
            raise DataError(f"there are no images at {model}: check the path")
        return
    kind = checkpoint.read_header(model)["kind"]
    if settings.mode == "prior" and kind != "autoencoder":
        raise ConfigError(f"mode prior is for autoencoders, which {settings.model} is not")


def build_source(
    settings: EvaluateStage, model: Evaluable, train: ImageDataset, test: ImageDataset, device: torch.device
) -> tuple[ImageSource, int]:
    """Where the images come from that ``settings`` ask for, and how many they are.

    Args:
        settings: Those of the evaluation.
        model: ``noise``, ``gaussian``, a path, images uint8 [n, c, h, w], a diffusion model or an autoencoder.
        train: Training images.
        test: Test images.
        device: Where the model works.

    Raises ConfigError, CheckpointError or DataError before any long work.
    """
    named = settings.model if isinstance(model, str | Path) else "a model or images given from Python"
    files = isinstance(model, Path) and holds_images(model)
    if isinstance(model, Path) and not files:
        model = load(model, device, settings.engine, exact=settings.engine == "torch")
    elif isinstance(model, DiffusionModel | AutoencoderCodec):
        model = on_device(model, device)
    of_codec = isinstance(model, AutoencoderCodec)
    if settings.mode == "prior" and not of_codec:
        raise ConfigError(f"mode prior is for autoencoders, which {named} is not")
    if settings.reconstruct == "train" and (settings.mode == "prior" or not of_codec):
        raise ConfigError(
            f"reconstruct train is for an autoencoder's reconstructions, not for {named}"
            + (" in mode prior" if settings.mode == "prior" else "")
        )
    if settings.reconstruct == "train" and settings.real_images not in (None, settings.num_images):
        raise ConfigError(
            "reconstruct train measures against the originals of as many images as num_images says: leave "
            "real_images out"
        )
    if settings.value_range != "auto" and not files:
        raise ConfigError(f"value_range is for images from files, not for {named}")
    if isinstance(model, Path):
        rules = replace(ReadingRules.of(settings.data), value_range=parse_value_range(settings.value_range))
        images, labels = read_images(model, test.image_shape, test.class_names, rules)
        return given_images(images, labels, str(model), test, settings.num_images, settings.batch_size)
    if isinstance(model, Tensor):
        return given_images(model, None, "the tensor", test, settings.num_images, settings.batch_size)
    real = train if settings.reconstruct == "train" else test
    count = settings.num_images or min(10_000, len(real))
    if isinstance(model, str):
        make, like = {"noise": (noise_images, test), "gaussian": (gaussian_images, train)}[model]
        return make(like, count, settings.seed, settings.batch_size), count
    if isinstance(model, AutoencoderCodec):
        asked = (settings.mode, real, settings.reconstruct, count, settings.seed, settings.batch_size)
        return autoencoder_images(model, *asked), count
    return diffusion_images(model, SamplingRequest.of(settings, num_images=count), test), count


def check_extras(
    settings: EvaluateStage, nets: dict[str, Any], num_images: int, test_images: int, source: ImageSource
) -> None:
    """Raise ConfigError, before any work, for extras that so many images and real test images do not allow."""
    extras = ("fid_infinity", "inception_taps", "kid_subsets", "kid_subset_size")
    asked = [name for name in extras if (value := getattr(settings, name)) and value != getattr(EvaluateStage, name)]
    if asked and "inception" not in nets:
        raise ConfigError(f"the FID Inception is off or not here, which {' and '.join(asked)} cannot do without")
    if settings.kid_subset_size and settings.kid_subset_size > min(num_images, test_images):
        raise ConfigError(
            f"a subset of {settings.kid_subset_size:,} cannot be drawn from {num_images:,} images and {test_images:,} "
            "real ones: lower kid_subset_size, or leave it out to take as many as there are"
        )
    size = min(settings.kid_subset_size or SUBSETS.size, num_images, test_images)
    if "kid_subsets" in asked and size == num_images == test_images:
        raise ConfigError(
            f"all {size:,} images of either side are one subset, not {settings.kid_subsets}: lower kid_subset_size too"
        )
    if settings.fid_infinity and num_images < MIN_SAMPLES:
        raise ConfigError(f"fid_infinity needs at least {MIN_SAMPLES} images, not {num_images}")
    if settings.fid_infinity and source.originals is not None:
        raise ConfigError("fid_infinity is of samples: reconstructions are no draw to continue")


def _settings_without_effect(settings: EvaluateStage, source: ImageSource) -> list[str]:
    """Settings of the sampler that were given although no sampler makes these images.

    All rows of a comparison may be made with the same settings, but nobody should think that they counted.
    """
    if source.kind == "diffusion":
        return []
    defaults = SamplingConfig()
    names = {field.name for field in fields(SamplingConfig)} - {"seed", "batch_size"}
    return sorted(name for name in names if getattr(settings, name) != getattr(defaults, name))


def draw_pictures(
    source: ImageSource, images: Tensor, train: ImageDataset, test: ImageDataset, found: Measurements
) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """The pictures that this kind of images has something to show in.

    Args:
        source: Where the images come from.
        images: uint8 [n, c, h, w].
        train: Training images.
        test: Test images.
        found: What was measured.

    Returns: the files by their names, and what a report needs of each picture by ``classes``, ``originals``,
    ``neighbours``, ``strip`` and ``gif``.
    """
    pictures: dict[str, dict[str, Any]] = {}
    with scratch_folder() as folder:
        columns = 10 if source.labels is None else min(10, test.num_classes)
        save_grid(images[:GRID], folder / "grid.png", columns)
        if source.originals is not None:
            pictures["originals"] = evaluation_pictures.write_originals(folder, images, source.originals)
        if source.kind in ("diffusion", "images") and source.labels is not None and test.class_names:
            pictures["classes"] = evaluation_pictures.write_classes(folder, images, source.labels, test.class_names)
        if found.last_features is not None and found.nearest_by_pixels is not None:
            near = (*found.last_features, *found.nearest_by_pixels)
            pictures["neighbours"] = _draw_neighbours(folder, images, train, *near)
        if source.denoising is not None:
            pictures |= evaluation_pictures.write_denoising(folder, source.denoising())
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return files, pictures


def _draw_neighbours(
    folder: Path,
    images: Tensor,
    train: ImageDataset,
    features: Features,
    reference: ReferenceFeatures,
    differences: Tensor,
    nearest: Tensor,
) -> dict[str, Any]:
    """neighbours.png: the samples that most resemble a training image, over the training images nearest to them.

    Args:
        folder: Where it is written.
        images: uint8 [n, c, h, w].
        train: Training images.
        features, reference: Those of the images and of the real ones.
        differences, nearest: Of each image from its nearest training image by pixels, and that one's index: [n].
    """
    by_pixels = differences.argsort()[:CLOSEST]
    by_features, distances = closest_to_training(features.pooled, reference.train.pooled, CLOSEST + len(by_pixels))
    shown = torch.tensor([*by_pixels, *(k for k in by_features if k not in by_pixels)][: 2 * CLOSEST])
    neighbours = reference.train_index[nearest_neighbours(features.pooled[shown], reference.train.pooled, NEIGHBOURS)]
    near = torch.cat([nearest[shown, None], neighbours], dim=1)
    near = train.images[near.flatten()].reshape(*near.shape, *train.image_shape)
    far = ([float(distance) for distance in kind[shown]] for kind in (distances, differences))
    return evaluation_pictures.write_neighbours(folder, images[shown], near, *far)
