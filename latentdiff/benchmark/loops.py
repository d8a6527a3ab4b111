"""Training as each project does it: our stages under Lightning, the peers' loops from their documentation, a bare one.

The peers are given what they would otherwise have to compute: their images are floats already, their latents drawn,
both in memory. They keep no moving average of the weights; our trainers do, in every step, which counts against us.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.benchmark.timing import synchronise, timed
from latentdiff.config import AutoencoderLossConfig, TrainerConfig
from latentdiff.diffusion.loss import diffusion_loss
from latentdiff.diffusion.noise_levels import add_noise
from latentdiff.training.base_module import StageModule, adamw
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.trainer import fit

# One optimiser step.
Step = Callable[[], object]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """The mixed precision that Lightning and accelerate both mean by bf16."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class _StepEnds(lightning.Callback):
    """Notes the time after every step."""

    def __init__(self):
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, module: StageModule, *_) -> None:
        synchronise(module.device)
        self.times.append(time.perf_counter())


class TrainerTurn:
    """A turn of one of our trainers, run as its stage runs it: :func:`~latentdiff.training.trainer.fit`, with
    Lightning.

    A turn goes on with the module where the last one stopped. It takes one step more than it counts: the first one pays
    for setting up.

    Args:
        module: The trainer.
        tensors: What a batch is drawn from.
        steps: Steps that a turn counts.
    """

    def __init__(self, module: StageModule, tensors: tuple[Tensor, ...], steps: int):
        self.module, self.tensors, self.steps = module, tensors, steps
        self._folder = tempfile.TemporaryDirectory(prefix="latentdiff-benchmark-")

    def __call__(self) -> float:
        module, settings = self.module, self.module.settings
        more = (self.steps + 1) * settings.batch_size
        module.settings = replace(settings, max_images=module.images_seen + more, max_seconds=None)
        ends = _StepEnds()
        fit(module, self.tensors, Path(self._folder.name), [ends], resume=False)
        return ends.times[-1] - ends.times[0]


class Optimiser:
    """The end of every peer's step: backward, clip, AdamW, all as our trainers' settings have it."""

    def __init__(self, network: nn.Module, settings: TrainerConfig):
        self.parameters, self.clip = list(network.parameters()), settings.grad_clip
        # Fused, as ours: their documentation leaves it to torch, which is slower on a CPU.
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def step(self, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _batches(tensors: tuple[Tensor, ...], size: int, layout: torch.memory_format) -> Callable[[], list[Tensor]]:
    """Batches one after the other, images in ``layout``: slices, which cost next to nothing."""
    tensors = tuple(x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in tensors)
    starts = itertools.cycle(range(0, len(tensors[0]) - size + 1, size))

    def draw() -> list[Tensor]:
        start = next(starts)
        return [tensor[start : start + size] for tensor in tensors]

    return draw


def diffusers_steps(
    unet: nn.Module,
    data: tuple[Tensor, Tensor],
    settings: TrainerConfig,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Step:
    """diffusers' loop (docs, tutorials/basic_training), with class labels; accelerate's autocast is torch's.

    Args:
        unet: A UNet2DModel with classes.
        data: What is denoised, fp32 [n, c, h, w], and labels int64 [n].
        settings: Batch size and optimiser.
        dtype: Of autocast.
        layout: Of weights and images.
    """
    from diffusers import DDPMScheduler

    unet = unet.train().to(memory_format=layout)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    draw, optimiser = _batches(data, settings.batch_size, layout), Optimiser(unet, settings)

    def step() -> None:
        clean, labels = draw()
        noise = torch.randn_like(clean)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), device=clean.device)
        noisy = scheduler.add_noise(clean, noise, times)
        with autocast(clean.device, dtype):
            loss = F.mse_loss(unet(noisy, times, labels, return_dict=False)[0], noise)
        optimiser.step(loss)

    return step


def ddp_steps(
    unet: nn.Module,
    data: tuple[Tensor, Tensor],
    settings: TrainerConfig,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Step:
    """The loop of denoising-diffusion-pytorch's Trainer; its Unet knows no classes. Arguments as above."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    diffusion = GaussianDiffusion(
        unet, image_size=data[0].shape[-1], timesteps=1000, beta_schedule="cosine", auto_normalize=False
    )
    diffusion = diffusion.train().to(device=data[0].device, memory_format=layout)
    draw, optimiser = _batches(data[:1], settings.batch_size, layout), Optimiser(diffusion, settings)

    def step() -> None:
        (clean,) = draw()
        with autocast(clean.device, dtype):
            loss = diffusion(clean)
        optimiser.step(loss)

    return step


def diffusers_autoencoder_steps(
    vae: nn.Module,
    images: Tensor,
    loss_config: AutoencoderLossConfig,
    settings: TrainerConfig,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Step:
    """An AutoencoderKL on L1 and KL, weighted as ours.

    Args:
        vae: An AutoencoderKL.
        images: fp32 [n, c, h, w] in [-1, 1].
        loss_config: Whose ``kl_weight`` is that of the KL per latent dimension.
        settings, dtype, layout: As above.
    """
    vae = vae.train().to(memory_format=layout)
    draw, optimiser = _batches((images,), settings.batch_size, layout), Optimiser(vae, settings)

    def step() -> None:
        (x,) = draw()
        with autocast(x.device, dtype):
            posterior = vae.encode(x).latent_dist
            reconstruction = vae.decode(posterior.sample()).sample
            loss = F.l1_loss(reconstruction.float(), x)
            loss = loss + loss_config.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
        optimiser.step(loss)

    return step


def best_layout(build: Callable[[torch.memory_format], Step], device: torch.device) -> tuple[Step, str]:
    """The steps of the memory layout that one step is quickest in after a first one, and that layout's name."""
    seconds = {}
    for name, layout in LAYOUTS.items():
        step = build(layout)
        step()
        seconds[name] = timed(step, device)()
    winner = min(seconds, key=seconds.__getitem__)
    return build(LAYOUTS[winner]), winner


def bare_steps(module: DiffusionModule, tensors: tuple[Tensor, Tensor], dtype: torch.dtype) -> Step:
    """The work of ``module``'s step in a plain loop, on a copy of its network.

    The same network, target, weight, optimiser and moving average; no Lightning, no seeds by step, no schedule of the
    learning rate, no checks and nothing logged.

    Args:
        module: Whose step it is; one without a learned variance.
        tensors: Moments [n, ...] and labels [n] on its device.
        dtype: Of autocast.
    """
    settings, config, codec = module.settings, module.diffusion, module.codec
    network, ema = copy.deepcopy(module.network).train(), copy.deepcopy(module.ema)
    moments, labels = tensors
    device, size = moments.device, settings.batch_size
    optimizer = adamw(network.parameters(), settings.lr, settings.betas, settings.weight_decay)
    weights = list(network.parameters())
    state = {"seen": 0}

    def step() -> None:
        index = torch.randint(0, len(moments), (size,), device=device)
        x0 = codec.sample(moments[index])
        hidden = torch.rand(size, device=device) < config.class_dropout
        asked = None if network.null_label is None else torch.where(hidden, network.null_label, labels[index])
        levels = module.schedule.training_levels((torch.rand(()) + torch.arange(size) / size) % 1.0)
        noise = torch.randn_like(x0)
        shown = module.target.scale_input(add_noise(x0, noise, levels), levels)
        with autocast(device, dtype):
            output = network(shown, levels.time.to(device, torch.float32), asked)
            loss = diffusion_loss(output, x0, noise, levels, module.target, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, settings.grad_clip)
        optimizer.step()
        state["seen"] += size
        ema.update(network, state["seen"], size)

    return step
