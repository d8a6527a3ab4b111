"""Settings of the stages that use or measure one model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.data import DataConfig
from latentdiff.config.ranges import (
    BatchSize,
    Devices,
    EmaLength,
    Fraction,
    HeldImages,
    Length,
    PathSetting,
    Range,
    Steps,
    Threads,
)
from latentdiff.config.run import RunConfig
from latentdiff.config.sampling import EngineName, SamplingConfig


@dataclass(frozen=True, kw_only=True)
class SampleStage(SamplingConfig):
    """Sample images: a PNG grid, and if requested single PNGs, an npz, and a strip and a GIF of the denoising.

    The other tasks take the first test images of the data set, with their own classes unless ``labels`` are given, and
    draw one grid. Only the tasks sample and reconstruct use all settings of the sampler. The other tasks refuse the
    settings that they do not use, but for ``steps``, ``seed`` and ``batch_size``.

    Args:
        task: ``sample``; ``noise`` shows the forward process, one row per strength; ``reconstruct`` adds noise of each
            strength to images and denoises them; ``interpolate`` goes from each image to the next through their noise;
            ``inpaint`` fills a masked part; ``likelihood`` gives bits per dimension.
        model: A diffusion model's file.
        steps: Sampling steps. Default: 20; for interpolate 100 each way, for inpaint 50, for likelihood all training
            steps, or 200 with the ODE.
        num_images: Number of images to sample.
        labels: Classes by name or index: one for all images, or one for each, separated by commas or a list. Default:
            all classes in turn.
        prompt: Prompt of a text-to-image model: one text for all images, or a JSON list with one for each. Default: its
            training captions in turn.
        negative_prompt: What guidance steers away from, in the form of ``prompt``.
        engine: What runs the networks: ``torch``; ``onnxruntime`` or ``openvino`` on a CPU (extras ``onnx``,
            ``openvino``). ``auto`` begins with torch, measures those that are installed once that pays, and takes the
            fastest.
        exact: Make images independent of the batch size, bit for bit. This needs the engine torch, and makes batches of
            less than 16 images slower.
        device: ``auto`` uses a GPU where there is one.
        devices: GPUs, or processes on a CPU, that share the images of ``sample``. With ``exact`` they stay the same.
        columns: Images in a row of the grid. Default: the grid is about square.
        pngs: Write each image as its own PNG, as soon as it is drawn. After an interruption ``run.resume`` draws those
            that are missing.
        npz: Write all images (``images``, uint8 n h w c), ``labels`` and ``class_names`` as samples.npz.
        strip: Write this many states of the first images, from noise to image, as strip.png; 0 writes none. For the
            task noise the states go from image to noise.
        gif: Write the denoising of the first batch as denoising.gif. For other tasks the GIF shows their rows.
        strengths: Noise levels of the tasks noise and reconstruct, from 0 (none) to 1 (the schedule's last level).
        frames: Images in a row of interpolate, including both ends.
        mask: Part that inpaint fills: a half, the centre, or a PNG file whose white pixels are filled.
        resamples: How often inpaint repeats each step. Repeating makes the two parts fit together.
        method: How likelihood is computed: by the variational ``bound``, or by the probability-flow ``ode``.
        data: Data set of the images for the other tasks.
        run: The folder that the run writes to.
    """

    task: Literal["sample", "noise", "reconstruct", "interpolate", "inpaint", "likelihood"] = "sample"
    model: PathSetting = "checkpoints/fashion-mnist/latent.safetensors"
    steps: Steps | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    num_images: HeldImages = 64
    labels: str | int | tuple[str | int, ...] | None = None
    prompt: str | tuple[str, ...] | None = None
    negative_prompt: str | tuple[str, ...] | None = None
    engine: EngineName = "auto"
    exact: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Devices = 1
    columns: Annotated[int, Range(1, 10**4)] | None = None
    pngs: bool = False
    npz: bool = False
    strip: Annotated[int, Range(0, 1000)] = 0
    gif: bool = False
    strengths: tuple[Fraction, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    frames: Annotated[int, Range(2, 10**4)] = 8
    mask: PathSetting = "right"
    resamples: Annotated[int, Range(1, 10**4)] = 5
    method: Literal["bound", "ode"] = "bound"
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class EvaluateStage(SamplingConfig):
    """Measure a model's images against the real test and training images; write evaluation.json and a grid.

    Args:
        model: A model file (diffusion model or autoencoder); ``noise`` for uniform random pixels or ``gaussian``
            for random pixels with the training images' mean and covariance; or images that any model made: a directory
            or zip of files, a CSV of their paths, or an .npz, .npy or .safetensors of [n, h, w, c], [n, c, h, w] or
            grey [n, h, w].
        value_range: The values that become black and white in such images, if they have more than 8 bits or are floats:
            ``LOW,HIGH``, as in ``--value_range=-1,1``. ``auto`` takes the full range of integers, and 0 to 1 for
            floats. It refuses images with values beyond this range, and images that use less than an eighth of it.
        ema: Measure the run's model with another average of its weights: of this length, 0.01 to 0.28 of the run, or
            ``auto``, the best on validation images. The run must have kept ``trainer.ema_snapshots``.
        name: Name of the row in a comparison. Default: the file's own name.
        mode: What to measure of an autoencoder: ``reconstruction`` of real images, the limit of any model on its
            latents, or ``prior``, decoded N(0, I), which is the VAE baseline.
        reconstruct: The split whose images an autoencoder reconstructs. If the test split is small, ``train`` has many
            more images, so the FID to the originals depends less on their number. If PSNR and LPIPS are better for
            ``train`` than for ``test``, the autoencoder overfits.
        data: The real images.
        num_images: Number of images. Default: as many as the test split (or that of ``reconstruct``) has, and at most
            10,000.
        real_images: At most this many real images of each split to measure against. Default: as many as the test split
            has, or ``num_images`` if that is more. With ``reconstruct`` train it is ``num_images``.
        inception: ``auto`` measures FID and KID if Inception's weights are present or can be downloaded. ``require``
            ends with an error if not. ``off`` measures with the classifier alone.
        inception_weights: The weights' file, else the environment variable LATENTDIFF_INCEPTION, else the download.
        fid_infinity: Whether to extrapolate the FID to infinitely many images (Chong and Forsyth 2020), from eight
            subsets. Default: from 4,096 images on, twice the number of Inception's features. With fewer images (at
            least 100) the result is wrong by several points.
        inception_taps: Earlier layers of Inception, with 64, 192 or 768 features, in which to measure further FIDs.
            These FIDs are far smaller, and can be compared only with others of the same layer.
        kid_subsets: Number of pairs of random subsets that KID is averaged over. ``seed`` draws the subsets.
        kid_subset_size: Number of images in a subset. Default: 1,000, or all images where there are fewer.
        lpips: ``auto`` measures LPIPS if AlexNet's convolutions are present (``LATENTDIFF_LPIPS``) or can be
            downloaded. It measures reconstructions, and the diversity of the images of a class.
        engine: What runs the model's networks, as in the stage ``sample``. The default is torch, with which an image
            does not depend on the size of its batch, nor figures on what is installed.
        device: ``auto`` uses a GPU where there is one.
        devices: GPUs, or processes on a CPU, that share the images to be sampled and measured.
        features_folder: Folder where the features of real images are cached.
        run: The folder that the run writes to.
    """

    model: PathSetting = "checkpoints/fashion-mnist/latent.safetensors"
    value_range: str = "auto"
    ema: EmaLength | Literal["auto"] | None = None
    name: str | None = None
    mode: Literal["reconstruction", "prior"] = "reconstruction"
    reconstruct: Literal["test", "train"] = "test"
    data: DataConfig = field(default_factory=DataConfig)
    num_images: Annotated[int, Range(2, 10**7)] | None = None
    real_images: Annotated[int, Range(2, 10**7)] | None = None
    batch_size: BatchSize = 100
    inception: Literal["auto", "require", "off"] = "auto"
    inception_weights: PathSetting | None = None
    fid_infinity: bool | None = None
    inception_taps: tuple[Literal[64, 192, 768], ...] = ()
    kid_subsets: Annotated[int, Range(1, 10**6)] = 100
    kid_subset_size: Annotated[int, Range(2, 10**6)] | None = None
    lpips: Literal["auto", "off"] = "auto"
    engine: EngineName = "torch"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Devices = 1
    features_folder: PathSetting | None = "stages/features"
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class ReleaseStage(Settings):
    """Write a trained model as bf16, with a model card next to it.

    Args:
        model: The run's model.safetensors, or a released file, which is then released anew.
        to: The released file, such as checkpoints/fashion-mnist/latent.safetensors.
        precision: How kernels and matrices are stored. ``int8`` takes half the bytes of ``bf16``. It rounds a weight by
            at most 1/254 of the largest weight of its output channel. Loaded weights are fp32 again.
        ema: Release the run's model with another average of its weights, as in ``evaluate``.
        autoencoder: For a latent diffusion model: use the decoder of this file, which was trained further
            (loss.frozen_encoder). Its encoder must be the model's own.
        codec_beside: Leave the autoencoder out of the file of a latent diffusion model. The file then needs
            autoencoder.safetensors, which is released in the same folder.
        evaluation: Folder of an evaluation of the released file. The card states its numbers and shows its samples.
        more_evaluations: Folders of further evaluations of the same file, such as with guidance or of more images. The
            card states their numbers too.
        licence: What the card says about the data and its licence. Default: the text for a known data set.
        overwrite: Replace a released file.
    """

    model: PathSetting
    to: PathSetting
    precision: Literal["bf16", "int8"] = "bf16"
    ema: EmaLength | Literal["auto"] | None = None
    autoencoder: PathSetting | None = None
    codec_beside: bool = False
    evaluation: PathSetting | None = None
    more_evaluations: tuple[PathSetting, ...] = ()
    licence: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportStage(Settings):
    """Write a diffusion model as a folder that other programs read.

    ``onnx`` writes network.onnx, encoder.onnx and decoder.onnx, model.json, a README, and sample.py, which samples with
    numpy and onnxruntime alone. ``web`` writes a page that samples in any browser, for any static host. Both need the
    extra ``onnx``: ``pip install 'latentdiff[onnx]'``. ``space`` writes a complete Hugging Face Space: the app with its
    models. It needs the extra ``app``. ``hub`` writes a repository of the Hugging Face Hub: model.safetensors,
    config.json, settings.yaml, samples.png and README.md, the model's card. With ``repo`` it uploads them, so that
    ``load("hf:USER/NAME")`` gives the model. It needs the extra ``hub``.

    ``diffusers`` writes a folder for ``DiffusionPipeline.from_pretrained``: a UNet2DModel becomes diffusers' own
    pipeline if one fits, any other model a pipeline that calls latentdiff (``trust_remote_code=True``). It needs the
    extra ``diffusers``.

    Args:
        model: A diffusion model's file, a run, or a released model. It may stand first, without the flag.
        beside: More models for the same page or Space, such as a pixel model beside a latent one. They may follow
            ``model`` without the flag.
        to: The form that is written.
        precision: How the ONNX files store kernels and matrices. ``bf16`` and ``fp16`` halve the files, and arithmetic
            stays in fp32. ``int8`` quarters network.onnx, whose arithmetic is in 8 bits too; encoder and decoder stay
            in fp32. Only ``--to onnx`` has fp16 and int8. A Space has bf16 where that loses nothing, as for released
            models.
        steps: Numbers of sampling steps that the folder's sample.py offers. The first is its default, and the page's.
        onnxruntime_web: The npm package onnxruntime-web, as a file or a folder, for the page. Default: it is downloaded
            once, from npm's registry or the one that ``npm_config_registry`` names, and checked.
        serve: Serve the page at http://127.0.0.1 until Ctrl-C.
        port: Port of the page; 0 takes any free port.
        repo: For ``hub``: the repository, as ``USER/NAME``, that the folder is uploaded to. It may follow ``--to hub``
            without the flag. A missing repository is created. Default: nothing is uploaded.
        revision: For ``hub``: the branch of the repository; a missing branch is created. Default: the main branch.
        private: For ``hub``: make a new repository private.
        evaluation: For ``hub``: folders of evaluations of this model, whose results the card shows.
        license: For ``hub``: the licence's identifier on the Hub, such as ``cc-by-4.0``. Default: that of a known data
            set, else none.
        run: The folder that is written.
    """

    model: PathSetting = "checkpoints/fashion-mnist/latent.safetensors"
    beside: Annotated[tuple[PathSetting, ...], Length(0, 20)] = ()
    to: Literal["onnx", "web", "space", "hub", "diffusers"] = "onnx"
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    steps: Annotated[tuple[Steps, ...], Length(1, 100)] = (20, 5, 10, 50, 100)
    onnxruntime_web: PathSetting | None = None
    serve: bool = False
    port: Annotated[int, Range(0, 65_535)] = 8000
    repo: str | None = None
    revision: str | None = None
    private: bool = False
    evaluation: Annotated[tuple[PathSetting, ...], Length(0, 20)] = ()
    license: str | None = None
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class AppStage(Settings):
    """Serve a page of models: sample and watch each step, edit images, find the nearest training images, follow a run.

    The page is served on this machine alone, unless ``host`` says otherwise. It sends nothing anywhere, and loads
    nothing from the network. It needs the extra ``app``: ``pip install 'latentdiff[app]'``.

    Args:
        models: Model files, runs or released models, which may stand first, without the flag. The page offers the
            diffusion models; an autoencoder serves as the VAE baseline for models of the same images. Default: all
            released models.
        host: Address that the page is served on. ``0.0.0.0`` lets other machines in, without a password.
        port: Port of the page. Default: the first free port from 7860 on.
        engine: What runs the networks, as in the stage ``sample``.
        device: ``auto`` uses a GPU where there is one.
        max_images: Largest number of images of one request.
        max_steps: Largest number of sampling steps of one request.
        max_upload_mb: Largest size of an uploaded file in megabytes.
        concurrency: Largest number of requests that run a model at once. The others wait.
        max_waiting: Largest number of waiting requests. Further ones are refused with a message.
        runs: Folder under which the page looks for training runs.
        data_root: Folder of all data sets, for the nearest training images. Default: the environment variable
            LATENTDIFF_DATA, else ``data``. The page downloads none.
        threads: Number of CPU threads. Default: torch's choice.
    """

    models: tuple[PathSetting, ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, Range(1, 65_535)] | None = None
    engine: EngineName = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_images: Annotated[int, Range(1, 64)] = 16
    max_steps: Annotated[int, Range(1, 1000)] = 50
    max_upload_mb: Annotated[int, Range(1, 1000)] = 10
    concurrency: Annotated[int, Range(1, 64)] = 1
    max_waiting: Annotated[int, Range(1, 10_000)] = 32
    runs: PathSetting = "stages"
    data_root: PathSetting | None = None
    threads: Threads | None = None
