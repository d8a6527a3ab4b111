"""Miniature models of diffusers with seeded random weights, as diffusers saves them."""

from __future__ import annotations

import logging

import diffusers
import torch

logging.getLogger("diffusers").setLevel(logging.ERROR)
SIDE = 8


def make_unet(**changes):
    """A UNet2DModel of two resolutions for 8x8 images of colour."""
    torch.manual_seed(0)
    arguments = {
        "sample_size": SIDE,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        **changes,
    }
    return diffusers.UNet2DModel(**arguments)


def make_vae(**changes):
    """An AutoencoderKL that halves a side once, for images of colour."""
    torch.manual_seed(1)
    arguments = {
        "sample_size": 2 * SIDE,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 3,
        "scaling_factor": 0.5,
        **changes,
    }
    return diffusers.AutoencoderKL(**arguments)


def make_tiny(**changes):
    """An AutoencoderTiny that halves a side once."""
    torch.manual_seed(2)
    arguments = {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        "latent_channels": 3,
        **changes,
    }
    return diffusers.AutoencoderTiny(**arguments)
