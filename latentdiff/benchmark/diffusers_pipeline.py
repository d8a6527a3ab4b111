"""Latent sampling as diffusers' documentation writes it, and the same as a script that begins cold.

It imports nothing of latentdiff's that would have to be waited for: the cold process is diffusers' own.
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
    null: int,
    steps: int,
    guidance: float = 1.0,
    layout: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """uint8 images [b, c, h, w] for ``labels`` [b], after docs/using-diffusers/write_own_pipeline.

    Args:
        unet: A UNet2DModel with classes.
        vae: An AutoencoderKL.
        scheduler: Of diffusers.
        labels: int64 [b].
        null: The class that stands for none.
        steps: Of the scheduler.
        guidance: 1 is off; both passes of another go through as one doubled batch, as in diffusers' DiTPipeline.
        layout: Of what the networks are given.

    The network may be in bf16; what is sampled is fp32.
    """
    side, channels = unet.config.sample_size, unet.config.in_channels
    x = torch.randn(len(labels), channels, side, side, device=labels.device)
    scheduler.set_timesteps(steps)
    asked = labels if guidance == 1.0 else torch.cat([labels, torch.full_like(labels, null)])
    for time in scheduler.timesteps:
        shown = scheduler.scale_model_input(x if guidance == 1.0 else torch.cat([x, x]), time)
        output = unet(shown.to(unet.dtype, memory_format=layout), time, asked).sample.float()
        if guidance != 1.0:
            strong, weak = output.chunk(2)
            output = weak + guidance * (strong - weak)
        x = scheduler.step(output, time, x).prev_sample
    images = vae.decode((x / vae.config.scaling_factor).contiguous(memory_format=layout)).sample
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def solver() -> Any:
    """diffusers' DPM-Solver++ 2M on the cosine schedule, for networks that predict v."""
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
    null = unet.config.num_class_embeds - 1
    images = sample(unet, vae, solver(), torch.arange(16) % null, null, steps=20)
    Image.fromarray(torch.cat(list(images), dim=2).permute(1, 2, 0).numpy()).save(folder / "images.png")


if __name__ == "__main__":
    main()
