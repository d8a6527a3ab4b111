"""Training steps of other projects, from their documentation, and the choice of the fastest memory layout.

The other projects are given what they would otherwise compute: images are floats already, latents are drawn already,
and both are in memory. They keep no moving average of the weights. Our trainers do, in every step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.benchmark.timing import timed_call
from latentdiff.config import AutoencoderLossConfig, TrainerConfig

# Does one optimiser step.
Step = Callable[[], object]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Enter mixed precision as Lightning and accelerate do for bf16; nothing changes for fp32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class Optimiser:
    """The end of each other project's step: backward, clipping and AdamW, with our trainers' settings."""

    def __init__(self, network: nn.Module, settings: TrainerConfig):
        self.parameters, self.clip = list(network.parameters()), settings.grad_clip
        # Fused, as ours is. Their documentation leaves the choice to torch, which is slower on a CPU.
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def step(self, loss: Tensor) -> None:
        """Update the parameters by the gradient of ``loss``."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _batches(tensors: tuple[Tensor, ...], size: int, layout: torch.memory_format) -> Callable[[], list[Tensor]]:
    """Return a function that slices the next batch, images in ``layout``; a slice costs next to nothing."""
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
    """Return diffusers' training step (docs, tutorials/basic_training), with class labels.

    Args:
        unet: A UNet2DModel with classes.
        data: Images or latents, fp32 [n, c, h, w], and labels int64 [n].
        settings: Batch size and optimiser.
        dtype: Precision of autocast; accelerate's autocast is torch's.
        layout: Memory layout of weights and images.
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
    """Return the step of denoising-diffusion-pytorch's Trainer; its Unet has no classes. Arguments as above."""
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
    """Return a training step of an AutoencoderKL with L1 and KL, weighted as ours.

    Args:
        vae: An AutoencoderKL.
        images: fp32 [n, c, h, w] in [-1, 1].
        loss_config: Its ``kl_weight`` weighs the KL per latent dimension.
        settings: Batch size and optimiser.
        dtype: Precision of autocast.
        layout: Memory layout of weights and images.
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


def fastest_layout(build: Callable[[torch.memory_format], Step], device: torch.device) -> Step:
    """Build the step in each memory layout, time one step after a first one, and return the faster one."""
    seconds = {}
    for layout in LAYOUTS.values():
        step = build(layout)
        step()
        seconds[layout] = timed_call(step, device)()
    return build(min(seconds, key=seconds.__getitem__))
