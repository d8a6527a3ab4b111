"""Mean and spread of an autoencoder's latents over the training images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentdiff.codec import encode_batch_size, to_float
from latentdiff.data.mapped import chunks
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.precision import disable_tf32


@torch.inference_mode()
@disable_tf32()
def latent_statistics(network: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation of posterior draws: Var = Var[mean] + E[variance].

    Args:
        network: The autoencoder.
        images: uint8 [n, c, h, w], on any device.

    Returns: two fp32 tensors [latent_channels] on the network's device.
    """
    total = square = variance = 0.0
    device = next(network.parameters()).device
    size = encode_batch_size(images.shape)
    for chunk in (batch for part in chunks(images, size) for batch in part.split(size)):
        mean, logvar = network.encode(to_float(chunk.to(device))).double().chunk(2, dim=1)
        total = total + mean.sum(dim=(0, 2, 3))
        square = square + mean.square().sum(dim=(0, 2, 3))
        variance = variance + logvar.exp().sum(dim=(0, 2, 3))
    count = len(images) * math.prod(network.latent_shape[1:])
    mean = total / count
    return mean.float(), (square / count - mean.square() + variance / count).clamp_min(1e-12).sqrt().float()
