"""Trained models in use: load a file, sample, decode."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from latentdiff import checkpoint
from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec, Codec, codec_of_file
from latentdiff.config import (
    DiffusionConfig,
    EngineName,
    NetworkConfig,
    SamplerName,
    SamplingConfig,
    Spacing,
    to_dict,
)
from latentdiff.config.base import check_choice
from latentdiff.diffusion.denoiser import Guidance, Network, NetworkDenoiser, Thresholding
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.noise_levels import NoiseLevels
from latentdiff.diffusion.samplers import SAMPLERS, SamplerState
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.errors import CheckpointError, ConfigError, DivergenceError
from latentdiff.from_diffusers.address import is_address
from latentdiff.from_diffusers.models import ImportedDiffusion, read_model
from latentdiff.inference.calibration import RecordingEngine, calibration
from latentdiff.inference.engines import build_engine
from latentdiff.inference.engines.engine import Engine
from latentdiff.inference.engines.int8_graph import Calibration, Inputs
from latentdiff.inference.engines.torch_engine import TorchEngine
from latentdiff.inference.labels import Labels, resolve_labels
from latentdiff.inference.model_parts import build_parts
from latentdiff.inference.prompts import Prompt, check_negative, refuse_prompts, resolve_prompts, split_negative
from latentdiff.inference.request import SamplingRequest
from latentdiff.inference.request_checks import check_settings
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.precision import check_default_dtype, disable_tf32
from latentdiff.report.model_table import class_words, model_table, shape_words
from latentdiff.resources import resolve_checkpoint


class DiffusionModel(TrainedModel):
    """A trained denoiser with its codec and schedule.

    Args:
        network: The denoising network, used in evaluation mode.
        network_config, diffusion: What built it and how it was trained.
        codec: What turns its samples into images.
        class_names: Names of the classes (empty for an unconditional model and for a text-to-image model).
        header: The header of the file it came from, if any.

    Attributes:
        captions: For a text-to-image model: some captions of its training, which it draws if no prompt is given.
    """

    def __init__(
        self,
        network: ConditionedNetwork,
        network_config: NetworkConfig,
        diffusion: DiffusionConfig,
        codec: Codec,
        class_names: Sequence[str] = (),
        header: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.network_config, self.diffusion, self.codec = network_config, diffusion, codec
        self.class_names, self.header = tuple(class_names), header or {}
        self.provenance = self.header.get("provenance") or {}
        self.captions: tuple[str, ...] = tuple(self.header.get("captions") or ())
        self._guides: dict[str, DiffusionModel] = {}
        # What runs the networks; None is torch, the same for every size of batch.
        self.engine: Engine | None = None
        self._engine_settings: tuple[EngineName, bool] = ("torch", True)
        self.schedule, self.target = build_schedule(diffusion), build_target(diffusion)
        # What its file says of how it samples where a request says nothing: a model from diffusers has a scheduler.
        self.sampling: dict[str, Any] = self.header.get("sampling") or {}
        self.schedule.default_spacing = self.sampling.get("spacing", self.schedule.default_spacing)

    @property
    def conditional(self) -> bool:
        """Whether the model takes classes or captions."""
        return self.network.null_label is not None

    def __repr__(self) -> str:
        image, latent = ("x".join(map(str, shape)) for shape in (self.codec.image_shape, self.codec.latent_shape))
        space = "pixels" if image == latent else f"{latent} latents"
        classes = f"{len(self.class_names)} classes" if self.class_names else "no classes"
        if (tokenizer := self.network.tokenizer) is not None:
            classes = f"reads {tokenizer.describe()}"
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return f"DiffusionModel({image} images from {space}, {classes}, {parameters:,} parameters)"

    def _repr_html_(self) -> str:
        """In a notebook: what the model is, how it samples by default, its training, and the figures of its card."""
        codec, network, process, tokenizer = self.codec, self.network_config, self.diffusion, self.network.tokenizer
        space = f"{shape_words(codec.latent_shape)}, {codec.compression:.1f} times fewer numbers"
        usual, steps = SamplingConfig(), self.schedule.num_train_steps
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        facts = {
            "Images": shape_words(codec.image_shape),
            "Latents": space if isinstance(codec, AutoencoderCodec) else "none: it works on pixels",
            "Classes": class_words(self.class_names) if tokenizer is None else f"none: it reads {tokenizer.describe()}",
            "Network": f"{network.architecture}, {parameters:,} parameters, channels {network.channels}",
            "Process": f"schedule {process.schedule}, target {process.target}, "
            + ("continuous time" if steps is None else f"{steps:,} steps"),
            "Samples by default": f"{usual.sampler}, {usual.steps} steps, guidance_scale {usual.guidance_scale:g}",
            "Works on": f"{self.device}, engine {self._engine_settings[0]}",
        }
        return model_table("DiffusionModel", facts, self.provenance, self.path)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> DiffusionModel:
        """The model, moved to ``device``.

        Raises :class:`~latentdiff.errors.ConfigError` for a GPU where the engine works on the CPU alone.
        """
        if torch.device(device).type != "cpu" and self._engine_settings[0] in ("onnxruntime", "openvino"):
            raise ConfigError(f"the engine {self._engine_settings[0]} works only on the CPU: load with engine torch")
        self.network.to(device)
        self.codec.to(device)
        self._guides.clear()  # loaded again where they are needed
        if self.engine is not None:
            self._set_engine(*self._engine_settings)
        return self

    def with_engine(self, name: EngineName, exact: bool = False) -> DiffusionModel:
        """The same model with the same weights, run by another engine.

        Args:
            name: See :func:`load`.
            exact: See :func:`load`.

        Raises :class:`~latentdiff.errors.ConfigError` as :func:`load` does.
        """
        check_choice("engine", name, EngineName)
        other = copy.copy(self)
        other.codec, other._guides = copy.copy(self.codec), {}
        other._set_engine(name, exact)
        return other

    @property
    def calibration(self) -> Calibration:
        """The inputs on which the ranges of an 8-bit network are measured: :mod:`latentdiff.inference.calibration`."""

        return calibration(self._network_inputs, self.diffusion)

    def _network_inputs(self, num_images: int, steps: int, seed: int, guidance_scale: float) -> list[Inputs]:
        """What the network is given as the model draws images."""
        model = self.with_engine("torch")
        assert model.engine is not None
        model.engine = engine = RecordingEngine(model.engine)
        steps = min(steps, self.schedule.num_train_steps or steps)
        scale = guidance_scale if self.conditional and self.diffusion.class_dropout > 0 else 1.0
        model.sample(num_images, steps=steps, seed=seed, guidance_scale=scale, batch_size=num_images)
        return engine.recorded

    def _set_engine(self, name: EngineName, exact: bool) -> None:
        autoencoder = self.codec.model if isinstance(self.codec, AutoencoderCodec) else None
        shape, device = self.codec.latent_shape, self.device
        self.engine = build_engine(name, exact, self.network, autoencoder, shape, device, self.calibration)
        self._engine_settings = (name, exact)
        if isinstance(self.codec, AutoencoderCodec):
            self.codec.engine = self.engine

    def sample(
        self,
        num_images: int,
        *,
        labels: Labels = None,
        prompt: Prompt = None,
        negative_prompt: Prompt = None,
        steps: int = 20,
        guidance_scale: float = 1.0,
        seed: int = 0,
        sampler: SamplerName = "dpmpp_2m",
        spacing: Spacing | None = None,
        rho: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guide: str | None = None,
        thresholding: Thresholding = "static",
        variance: Literal["small", "large", "learned"] | None = None,
        eta: float | None = None,
        churn: float | None = None,
        churn_min: float | None = None,
        churn_max: float | None = None,
        churn_noise: float | None = None,
        corrector_steps: int | None = None,
        corrector_snr: float | None = None,
        precision: Literal["fp32", "bf16", "int8"] = "fp32",
        batch_size: int = 64,
    ) -> Tensor:
        """Sample images: uint8 [num_images, c, h, w], on the CPU.

        Args:
            num_images: How many.
            labels: One class for all images, one for each, or None: the classes in turn. A string is a class's name, a
                whole number its index. An unconditional model takes none.
            prompt: For a text-to-image model: one text for all images, one for each, or None: captions of its training
                in turn.
            negative_prompt: What guidance steers away from, in place of no caption at all.
            steps: Sampling steps, each one network pass; ``heun`` and ``predictor_corrector`` take two.
            guidance_scale: Classifier-free guidance (Ho and Salimans 2022): 1 is off, 0 ignores the class, more than 1
                exaggerates it. With a ``guide`` it is autoguidance (Karras et al. 2024).
            seed: The noise of image i depends on (seed, i) alone, not on ``num_images`` or ``batch_size``. The images
                of two sizes of batch may differ by one grey level in one pixel of ten thousand, unless the model was
                loaded with ``exact``.
            sampler: The solver that walks from noise to image.
            spacing: How the noise levels are spaced. Default: ``trailing``, for variance-exploding processes
                ``karras``.
            rho: Exponent of the ``karras`` spacing. Default: 7.
            guidance_interval: Guide only where sigma / alpha lies between these two (Kynkäänniemi et al. 2024).
            guide: File of a weaker model of the same kind; guidance steers away from it.
            thresholding: How x0 is kept within the bounds of pixels. Latents are never clamped.
            variance: Variance of the noise that ``ddpm`` adds. Default: ``learned`` where the model has it, else
                ``small``.
            eta: Amount of noise of ``ddim`` (default 0), ``euler_ancestral`` and ``dpmpp_2m_sde`` (default 1), from 0
                to 1.
            churn, churn_min, churn_max, churn_noise: Karras's stochastic sampling, for ``heun``.
            corrector_steps, corrector_snr: Langevin steps of ``predictor_corrector``.
            precision: Precision of the denoising network; the decoder always works in fp32.
            batch_size: Images at a time, which changes the memory needed.

        Raises :class:`~latentdiff.errors.ConfigError`, before any work, for settings that cannot be combined.

        Example:
            >>> from latentdiff import load
            >>> model = load("checkpoints/fashion-mnist/latent.safetensors")
            >>> model.sample(num_images=4, labels="Dress", steps=5, guidance_scale=1.5).shape
            torch.Size([4, 1, 28, 28])
        """
        request = SamplingRequest(
            num_images=num_images,
            labels=labels,
            prompt=prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            sampler=sampler,
            spacing=spacing,
            rho=rho,
            guidance_interval=guidance_interval,
            guide=guide,
            thresholding=thresholding,
            variance=variance,
            eta=eta,
            churn=churn,
            churn_min=churn_min,
            churn_max=churn_max,
            churn_noise=churn_noise,
            corrector_steps=corrector_steps,
            corrector_snr=corrector_snr,
            precision=precision,
            batch_size=batch_size,
        )
        chunks: list[Tensor] = []
        for _, states in self.batches(request):
            *_, last = states
            chunks.append(self.codec.decode(last.x).cpu())
        return torch.cat(chunks)

    def check(self, request: SamplingRequest) -> None:
        """Raise ValueError for a request that cannot be met, before any work.

        Raises :class:`~latentdiff.errors.DivergenceError` for a model whose weights are NaN or infinite.
        """
        check_default_dtype()
        self._check_finite()
        self.resolve_labels(request)
        check_negative(request)
        self.sampling_levels(request)
        check_settings(request, self.diffusion, self.codec.value_range is not None)
        if request.guide is not None:
            self.load_guide(request.guide)

    def _check_finite(self) -> None:
        """Raise DivergenceError unless all weights are finite. With NaN, images would be of two colours, without an
        error."""
        weights = self.network.state_dict()
        weights |= self.codec.state() if isinstance(self.codec, AutoencoderCodec) else {}
        if name := checkpoint.name_of_not_finite(weights):
            named = str(self.path) if self.path else "the model"
            raise DivergenceError(
                f"the weights of {named} are NaN or infinite ({name}): its training diverged. Take an earlier model."
            )

    def batches(
        self, request: SamplingRequest, within: range | None = None
    ) -> Iterator[tuple[range, Iterator[SamplerState]]]:
        """The request batch by batch: which images, and the sampler's states over the latents as they come.

        Args:
            request: What is asked for.
            within: Only these images of it, a process's share; they are the same as they would be among the others.

        Raises ValueError as :meth:`check` does. Raises :class:`~latentdiff.errors.DivergenceError` for a batch with NaN
        or infinity, but only when the next batch is requested, or at the end. By then the images have been copied from
        the device, so nothing waits.
        """
        self.check(request)
        labels, levels = self.resolve_labels(request), self.sampling_levels(request)
        labels = None if labels is None else labels.to(self.device)
        finite: list[Tensor] = []
        within = range(request.num_images) if within is None else within
        for start in range(within.start, within.stop, request.batch_size):
            indices = range(start, min(start + request.batch_size, within.stop))
            own = labels[start : indices.stop] if labels is not None else None
            x, noise = self.initial_noise(request, indices)
            yield indices, self.states(request, own, noise, levels, x, finite)
            check_finite_samples(finite, request)

    def initial_noise(self, request: SamplingRequest, indices: range) -> tuple[Tensor, PerImageNoise]:
        """The noise that images ``indices`` of ``request`` start from, [b, *latent_shape] at the first level, and the
        source of the noise that is added to them later."""
        noise = PerImageNoise(request.seed, indices, self.codec.latent_shape, self.device)
        # diffusers starts from unit variance, whatever the first level says.
        scale = 1.0 if self.sampling.get("unit_noise") else float(self.sampling_levels(request).sigma[0])
        return noise() * scale, noise

    def sampling_levels(self, request: SamplingRequest) -> NoiseLevels:
        """The ``steps`` + 1 noise levels of ``request``, falling, the last clean. Raises ValueError if there are
        none."""
        return self.schedule.sampling_levels(request.steps, request.spacing, request.rho)

    def states(
        self,
        request: SamplingRequest,
        labels: Tensor | None,
        noise: PerImageNoise,
        levels: NoiseLevels,
        x: Tensor,
        finite: list[Tensor] | None = None,
    ) -> Iterator[SamplerState]:
        """The states of one batch from ``x`` at ``levels[0]`` on, in inference mode.

        Args:
            request: Its sampling settings; it must have been checked.
            labels: int64 [b] on the model's device, or None.
            noise: The batch's noise, for stochastic samplers.
            levels: Falling, the last clean.
            x: Latents [b, c, h, w].
            finite: Gets whether all of the last state is finite, for :func:`check_finite_samples`, so that nothing
                waits for the device here.

        Raises :class:`~latentdiff.errors.DivergenceError` in place of a last state that is not finite, unless
        ``finite`` is given.
        """
        options = request.sampler_options()
        if request.sampler == "ddpm" and request.variance is None:
            usual = self.sampling.get("variance", "small")
            options["variance"] = "learned" if self.diffusion.learn_variance else usual
        if request.sampler == "heun":
            options["level_at"] = self.schedule.levels_at_sigma
        states = SAMPLERS[request.sampler](self.denoiser(request, labels), x, levels, noise, **options)
        # Entered anew for every state: a generator must not leave inference mode switched on in its caller.
        while True:
            with torch.inference_mode(), disable_tf32():
                state = next(states, None)
            if state is None:
                return
            if state.step == len(levels) - 1:
                flags = [] if finite is None else finite
                flags.append(state.x.isfinite().all())
                if finite is None:
                    check_finite_samples(flags, request)
            yield state

    def denoiser(
        self, request: SamplingRequest, labels: Tensor | None, differentiable: bool = False
    ) -> NetworkDenoiser:
        """The denoiser that ``request`` describes for ``labels`` [b].

        Args:
            request: Its sampling settings; it must have been checked.
            labels: int64 [b] on the model's device, or None.
            differentiable: Whether gradients pass through it, which only torch has.
        """
        labels, negative = split_negative(labels)
        guide = None if request.guide is None else self.load_guide(request.guide)._run_by(request, differentiable)
        return NetworkDenoiser(
            network=self._run_by(request, differentiable),
            target=self.target,
            labels=labels,
            null_label=self.network.null_label,
            negative=negative,
            guidance=Guidance(
                scale=request.guidance_scale,
                interval=request.guidance_interval or (0.0, math.inf),
                guide=guide,
            ),
            value_range=self.codec.value_range,
            thresholding=request.thresholding,
        )

    def _run_by(self, request: SamplingRequest, differentiable: bool) -> Network:
        """The network in the requested precision, run by the engine."""
        engine = None if differentiable else self.engine
        return (engine or TorchEngine(self.network, None, exact=True)).network(request.precision)

    def load_guide(self, path: str) -> DiffusionModel:
        """A weaker model, loaded once. Raises ValueError for one of another kind."""
        if path not in self._guides:
            other = load_diffusion(path if is_address(path) else resolve_checkpoint(path)).to(self.device)
            same = {
                "process and target": _denoiser_key(self.diffusion) == _denoiser_key(other.diffusion),
                "classes": self.class_names == other.class_names,
                "vocabulary": _text_header(self) == _text_header(other),
                "latent space": self.codec.same_space(other.codec),
            }
            for what, agrees in same.items():
                if not agrees:
                    raise ConfigError(f"{path} cannot guide this model: its {what} differs")
            self._guides[path] = other if self.engine is None else other.with_engine(*self._engine_settings)
        return self._guides[path]

    def resolve_labels(self, request: SamplingRequest) -> Tensor | None:
        """The class of each image, int64 [num_images], or None for an unconditional model. Of one that reads captions
        the tokens of the prompts, int64 [num_images, context], or [num_images, 2, context] with negative prompts.

        Raises :class:`~latentdiff.errors.ConfigError` for a class that there is not, and for prompts where there are
        classes, and the other way round.
        """
        if request.num_images < 1:
            raise ConfigError(f"num_images must be at least 1, not {request.num_images}")
        if self.network.tokenizer is not None:
            return resolve_prompts(self.network.tokenizer, request, self.captions)
        refuse_prompts(request)
        if (num_classes := self.network.null_label) is not None:  # the label after the last class
            return resolve_labels(request.labels, self.class_names, num_classes, request.num_images)
        if request.labels is not None:
            raise ConfigError("this model is unconditional: it takes no labels")
        if request.guidance_scale != 1.0 and request.guide is None:
            raise ConfigError("this model is unconditional: guidance_scale must be 1")
        return None

    def save(
        self, path: Path | str, provenance: dict[str, Any] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Write the model with its codec as one self-contained file, for :func:`~latentdiff.load`.

        A file that an earlier ``save`` wrote is replaced, as by ``torch.save``. Nothing else is.

        Args:
            path: Where to, such as ``dress.safetensors``; replaced atomically.
            provenance: The record of its training. Default: its own.
            dtype: Store kernels and matrices in this type. ``torch.bfloat16`` halves the file, ``torch.int8`` halves
                it again.

        Raises :class:`~latentdiff.errors.CheckpointError` for a path that holds anything else, or the model of a run,
        and for weights that are NaN or infinite. Nothing is written then.
        """
        checkpoint.check_no_run_there(Path(path))
        self.write(path, provenance, dtype)

    def write(
        self, path: Path | str, provenance: dict[str, Any] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """As :meth:`save`, for the training run itself, which may replace its own model."""
        codec = self.codec if isinstance(self.codec, AutoencoderCodec) else None
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if codec:
            tensors |= {f"codec.{name}": tensor for name, tensor in codec.state().items()}
        header = {
            "image_shape": list(self.codec.image_shape),
            "codec": codec.header() if codec else None,
            "network": to_dict(self.network_config),
            "diffusion": to_dict(self.diffusion),
            "class_names": list(self.class_names),
            "provenance": self.provenance if provenance is None else provenance,
            **({"sampling": self.sampling} if self.sampling else {}),
        }
        if self.network.tokenizer is not None:
            header |= {"text": _text_header(self), "captions": list(self.captions)}
        checkpoint.save(Path(path), "diffusion", tensors, header, dtype)


def check_finite_samples(finite: list[Tensor], request: SamplingRequest) -> None:
    """Raise DivergenceError for samples that hold NaN or infinity. As pixels they would be black or white.

    Args:
        finite: A boolean scalar on the device for each batch: whether it is finite. The list is emptied.
        request: What was asked for, for the message.
    """
    if not finite:
        return
    passed = bool(torch.stack(finite).all())
    finite.clear()
    if not passed:
        raise DivergenceError(
            f"samples hold NaN or infinity: {request.sampler} diverges in {request.steps} steps. Use more steps, "
            "less guidance or another sampler."
        )


def _text_header(model: DiffusionModel) -> dict[str, Any] | None:
    """What a file says of the captions that a model reads; None where it reads none."""
    return None if model.network.tokenizer is None else model.network.tokenizer.header()


def _denoiser_key(config: DiffusionConfig) -> tuple[Any, ...]:
    """What a denoised image depends on besides the network. Models that agree in this can guide each other."""
    if config.schedule in ("edm", "ve"):
        return "exploding", config.target, config.sigma_data
    schedule = build_schedule(config)
    # Processes of equal levels are one, whatever their names.
    ratios = schedule.levels(torch.linspace(0.0, schedule.last_position, 17, dtype=torch.float64)).karras_sigma
    return config.num_train_steps, tuple(float(ratio) for ratio in ratios), config.target, config.sigma_data


def load(
    path: Path | str, device: torch.device | str = "cpu", engine: EngineName = "auto", exact: bool = False
) -> DiffusionModel | AutoencoderCodec:
    """Load a model: a :class:`DiffusionModel`, or of an autoencoder its :class:`~latentdiff.codec.AutoencoderCodec`.

    Args:
        path: A model file, or the name of a released model, such as ``checkpoints/fashion-mnist/latent.safetensors``,
            which is found wherever latentdiff is installed. ``hf:USER/NAME`` or ``hf:USER/NAME@REVISION`` is a model of
            the Hugging Face Hub (extra ``hub``). ``diffusers:PATH_OR_ID`` is a pipeline of a UNet2DModel or an
            autoencoder of diffusers (extra ``diffusers``).
        device: The device to load the model on.
        engine: What runs the networks: ``torch``; ``onnxruntime`` (extra ``onnx``) or ``openvino`` (extras ``onnx`` and
            ``openvino``), on a CPU; or ``auto``, which begins with torch, measures what is installed once so much was
            drawn that it pays, and takes the fastest. On a GPU, ``auto`` is torch. Images of two engines differ by one
            grey level in one pixel of ten thousand. Weights may change after loading; only torch notices a change
            through ``.data`` or ``.numpy()``.
        exact: Whether an image is the same, bit for bit, whatever the size of its batch. ``auto`` is then torch, and
            another engine is refused. It makes batches of less than 16 images slower.

    Raises :class:`~latentdiff.errors.CheckpointError` for a file that is missing, damaged or of another kind, and
    :class:`~latentdiff.errors.ConfigError` for an engine that is not installed or not for the device.

    Example:
        >>> from latentdiff import load
        >>> load("checkpoints/fashion-mnist/autoencoder.safetensors").latent_shape
        (2, 7, 7)
    """
    check_choice("engine", engine, EngineName)
    with torch.inference_mode(False):  # torch counts no changes of weights that are made in that mode
        model = _imported(read_model(str(path))) if is_address(path) else _read(resolve_checkpoint(path))
    if isinstance(model, DiffusionModel):
        return model.to(device).with_engine(engine, exact)
    codec = model.to(device)
    codec.engine = build_engine(engine, exact, None, codec.model, codec.latent_shape, codec.mean.device)
    return codec


def load_diffusion(path: Path | str) -> DiffusionModel:
    """The diffusion model in a file, with its codec from the same file or from the autoencoder's beside it.

    Raises :class:`~latentdiff.errors.CheckpointError` for a file that is missing, damaged or of another kind.
    """
    if not is_address(path):
        return _build_diffusion(Path(path), *checkpoint.read(path, kind="diffusion"))
    model = _imported(read_model(str(path)))
    if not isinstance(model, DiffusionModel):
        raise CheckpointError(f"{path} holds an autoencoder where a diffusion model is needed")
    return model


def _imported(found: ImportedDiffusion | AutoencoderCodec) -> DiffusionModel | AutoencoderCodec:
    """A model whose parts were read from a folder of diffusers."""
    if isinstance(found, AutoencoderCodec):
        return found
    header = {"sampling": found.sampling}
    return DiffusionModel(found.network, found.config, found.process, found.codec, found.class_names, header)


def _read(path: Path) -> DiffusionModel | AutoencoderCodec:
    """The model in a file of ours."""
    header, tensors = checkpoint.read(path)
    if header["kind"] == "classifier":
        raise CheckpointError(f"{path} holds a classifier; load takes a diffusion model or an autoencoder")
    if header["kind"] == "diffusion":
        return _build_diffusion(path, header, tensors)
    return codec_of_file(path, header, tensors)


def _build_diffusion(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> DiffusionModel:
    parts = build_parts(path, header, tensors)
    try:
        model = DiffusionModel(*parts)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path} has a header that no model can have: diffusion: {error}") from error
    model.path = path
    return model
