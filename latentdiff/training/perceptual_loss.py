"""LPIPS and a discriminator on LPIPS's features: two losses, one pass through the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.config import AutoencoderLossConfig
from latentdiff.models.feature_discriminator import (
    FeatureDiscriminator,
    feature_hinge_discriminator_loss,
    feature_hinge_generator_loss,
)
from latentdiff.models.lpips import LPIPS


class CountedImages(NamedTuple):
    """The images of a micro batch that count in the perceptual loss.

    Attributes:
        index: Which they are, int64 [n], on the training device.
        weights: Their weights in the loss [n], there too.
    """

    index: Tensor
    weights: Tensor

    @classmethod
    def from_weights(cls, weights: Tensor, device: torch.device) -> CountedImages:
        """Leave out images of weight 0, given all images' ``weights`` [b] on the CPU."""
        index = weights.nonzero().flatten()
        index = index if len(index) else torch.zeros(1, dtype=torch.long)  # a small part may have none
        return cls(index.to(device), weights[index].to(device))


class PerceptualFeatures(NamedTuple):
    """The LPIPS trunk's features of some images of a micro batch.

    Attributes:
        weights: [b], the images' weights in the loss.
        fake: Each layer's features of the reconstructions, [b, c_l, h_l, w_l].
        real: Each layer's features of the originals.
    """

    weights: Tensor
    fake: list[Tensor]
    real: list[Tensor]


def perceptual_gradient(
    lpips: LPIPS,
    discriminator: FeatureDiscriminator | None,
    loss: AutoencoderLossConfig,
    x: Tensor,
    image: Tensor,
    counted: CountedImages,
) -> tuple[Tensor, PerceptualFeatures, dict[str, Tensor]]:
    """Gradient of LPIPS, and of a discriminator on its features, with respect to reconstructions.

    Both losses are differentiated down to the features alone. Their sum then goes through the trunk once.

    Args:
        lpips: The trunk and the distance.
        discriminator: Judges the features, or None where it does not count yet.
        loss: The weights of both losses.
        x, image: Originals and reconstructions [b, c, h, w] in [-1, 1], the latter with a gradient.
        counted: Which images count, and how much.

    Returns: the gradient [b, c, h, w], the features, and the losses one by one.
    """
    some, weights = counted.index, counted.weights / len(x)
    with torch.no_grad():
        real = lpips.features(x[some])
    reached = lpips.features(image[some])
    fake = [maps.detach().requires_grad_() for maps in reached]
    losses = {"perceptual": (weights * lpips.distance_of_features(fake, real)).sum()}
    gradients = _where_active(torch.autograd.grad(loss.perceptual_weight * losses["perceptual"], fake), fake)
    if discriminator is not None:
        losses["feature_adversarial"] = (weights * feature_hinge_generator_loss(discriminator(fake))).sum()
        adversarial = _where_active(torch.autograd.grad(losses["feature_adversarial"], fake), fake)
        ratios = loss.feature_adversarial_weight * norm_ratios(gradients, adversarial)
        gradients = [own + ratio * other for own, ratio, other in zip(gradients, ratios, adversarial, strict=True)]
    (gradient,) = torch.autograd.grad(reached, image, gradients)
    return gradient, PerceptualFeatures(weights, [maps.detach() for maps in fake], real), losses


def _where_active(gradients: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
    """Set gradients to 0 where a feature is 0: the trunk's ReLUs pass no gradient there, and LPIPS's gradient is NaN
    where all features of a position are 0."""
    return [torch.where(maps == 0.0, 0.0, own) for own, maps in zip(gradients, features, strict=True)]


def observe_scale(discriminator: FeatureDiscriminator, batch: Sequence[PerceptualFeatures]) -> None:
    """Tell the discriminator how large the originals' features are: the mean over the batch and all processes.

    A process that has no image of any weight counts its first.
    """
    layers = zip(*(features.real for features in batch), strict=True)
    powers = [torch.stack([x.float().square().mean(dim=(0, 2, 3)) for x in layer]).mean(dim=0) for layer in layers]
    together = distributed.all_reduce_mean(torch.cat(powers))
    discriminator.update_mean_squares(together.split([len(power) for power in powers]))


def feature_discriminator_loss(discriminator: FeatureDiscriminator, features: PerceptualFeatures) -> Tensor:
    """Hinge loss of the discriminator, with the images weighted as in the decoder's loss."""
    real, fake = discriminator(features.real), discriminator(features.fake)
    return (features.weights * feature_hinge_discriminator_loss(real, fake)).sum()


def norm_ratios(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Norms of ``ours`` over those of ``theirs``, one by one, over all processes."""
    squares = distributed.all_reduce_mean(
        torch.stack([torch.stack([x.square().sum() for x in each]) for each in (ours, theirs)])
    )
    return (squares[0].sqrt() / (squares[1].sqrt() + 1e-12)).clamp(max=1e4)
