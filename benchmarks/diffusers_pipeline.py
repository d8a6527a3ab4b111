"""Latent sampling as diffusers' documentation writes it; as a program, sampling from a cold start.

Nothing of latentdiff is imported: the cold process is diffusers' alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image


@torch.no_grad()
def sample(
    unet: Any,
    vae: Any,
    scheduler: Any,
    labels: torch.Tensor,
    null_label: int,
    steps: int,
    guidance_scale: float = 1.0,
    layout: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """Sample images as docs/using-diffusers/write_own_pipeline does. The network may be in bf16; latents are in fp32.

    Args:
        unet: A UNet2DModel with classes.
        vae: An AutoencoderKL.
        scheduler: A scheduler of diffusers.
        labels: int64 [b].
        null_label: The class that stands for no class.
        steps: Steps of the scheduler.
        guidance_scale: 1 is off. With any other value both passes are one doubled batch, as in diffusers' DiTPipeline.
        layout: Memory layout of the networks' inputs.

    Returns:
        uint8 images [b, c, h, w].
    """
    side, channels = unet.config.sample_size, unet.config.in_channels
    x = torch.randn(len(labels), channels, side, side, device=labels.device)
    scheduler.set_timesteps(steps)
    classes = labels if guidance_scale == 1.0 else torch.cat([labels, torch.full_like(labels, null_label)])
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x if guidance_scale == 1.0 else torch.cat([x, x]), time)
        output = unet(scaled.to(unet.dtype, memory_format=layout), time, classes).sample.float()
        if guidance_scale != 1.0:
            conditional, unconditional = output.chunk(2)
            output = unconditional + guidance_scale * (conditional - unconditional)
        x = scheduler.step(output, time, x).prev_sample
    images = vae.decode((x / vae.config.scaling_factor).contiguous(memory_format=layout)).sample
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def dpm_solver() -> Any:
    """Build diffusers' DPM-Solver++ 2M on the cosine schedule, for networks that predict v."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def main() -> None:
    """Load FOLDER/unet and FOLDER/vae, sample 16 images in 20 steps, write them side by side to FOLDER/images.png."""
    from diffusers import AutoencoderKL, UNet2DModel

    folder = Path(sys.argv[1])
    unet = UNet2DModel.from_pretrained(folder / "unet").eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    null_label = unet.config.num_class_embeds - 1
    images = sample(unet, vae, dpm_solver(), torch.arange(16) % null_label, null_label, steps=20)
    Image.fromarray(torch.cat(list(images), dim=2).permute(1, 2, 0).numpy()).save(folder / "images.png")


if __name__ == "__main__":
    main()
