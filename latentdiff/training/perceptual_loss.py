"""What the LPIPS trunk finds in reconstructions, and the two losses that judge by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.config import AutoencoderLossConfig
from latentdiff.models.feature_discriminator import (
    FeatureDiscriminator,
    each_discriminator_loss,
    each_generator_loss,
)
from latentdiff.models.lpips import Perceptual


class Felt(NamedTuple):
    """What the trunk found in some images of a part: their weights [b], and each layer's features of both."""

    weights: Tensor
    reconstructions: list[Tensor]
    photographs: list[Tensor]


def felt_gradient(
    net: Perceptual,
    judge: FeatureDiscriminator | None,
    loss: AutoencoderLossConfig,
    x: Tensor,
    image: Tensor,
    felt: Tensor,
) -> tuple[Tensor, Felt, dict[str, Tensor]]:
    """Gradient of LPIPS, and of a discriminator's pull, with respect to reconstructions; what was found; the losses.

    Both losses are differentiated down to the features alone, then their sum goes through the trunk once.

    Args:
        net, judge: The trunk; and the discriminator of its features, None where it does not count.
        loss: The weights of both.
        x, image: Photographs and reconstructions [b, c, h, w] in [-1, 1], the latter with a gradient.
        felt: Weights [b] of the images; those of weight 0 are left out.
    """
    some = felt.nonzero().flatten()
    some = some if len(some) else torch.zeros_like(felt[:1], dtype=torch.long)  # in a small part perhaps none
    weights = felt[some] / len(x)
    with torch.no_grad():
        photographs = net.features(x[some])
    reached = net.features(image[some])
    leaves = [maps.detach().requires_grad_() for maps in reached]
    losses = {"perceptual": (weights * net.between(leaves, photographs)).sum()}
    pulls = _live(torch.autograd.grad(loss.perceptual_weight * losses["perceptual"], leaves), leaves)
    if judge is not None:
        losses["feature_adversarial"] = (weights * each_generator_loss(judge(leaves))).sum()
        others = _live(torch.autograd.grad(losses["feature_adversarial"], leaves), leaves)
        ratios = loss.feature_adversarial_weight * norm_ratios(pulls, others)
        pulls = [own + ratio * other for own, ratio, other in zip(pulls, ratios, others, strict=True)]
    (gradient,) = torch.autograd.grad(reached, image, pulls)
    return gradient, Felt(weights, [maps.detach() for maps in leaves], photographs), losses


def _live(gradients: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
    """Gradients without what the trunk's ReLUs let through nowhere: where a feature is 0, and LPIPS's gradient is no
    number where all of a position are."""
    return [torch.where(maps == 0.0, 0.0, own) for own, maps in zip(gradients, features, strict=True)]


def observe(judge: FeatureDiscriminator, parts: Sequence[Felt]) -> None:
    """Show the discriminator how large photographs' features are: the mean over all parts and processes.

    One that has no image of any weight shows its first.
    """
    layers = zip(*(found.photographs for found in parts), strict=True)
    powers = [torch.stack([x.float().square().mean(dim=(0, 2, 3)) for x in layer]).mean(dim=0) for layer in layers]
    together = distributed.mean(torch.cat(powers))
    judge.observe(together.split([len(power) for power in powers]))


def discriminator_loss(judge: FeatureDiscriminator, found: Felt) -> Tensor:
    """Hinge loss of the discriminator, the images weighted as in the decoder's."""
    real, fake = judge(found.photographs), judge(found.reconstructions)
    return (found.weights * each_discriminator_loss(real, fake)).sum()


def norm_ratios(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Norms of ``ours`` over those of ``theirs``, one by one, over all processes."""
    squares = distributed.mean(torch.stack([torch.stack([x.square().sum() for x in each]) for each in (ours, theirs)]))
    return (squares[0].sqrt() / (squares[1].sqrt() + 1e-12)).clamp(max=1e4)
