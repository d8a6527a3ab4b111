"""Settings of the noising process and of the diffusion loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from latentdiff.config.base import Settings
from latentdiff.config.ranges import Fraction, Length, Range, Weight

# Beta of a discrete process, and sigma of a variance-exploding one.
Beta = Annotated[float, Range(0, 1, above=True, below=True)]
# The last beta of a process that ends in pure noise is 1.
LastBeta = Annotated[float, Range(0, 1, above=True)]
Sigma = Annotated[float, Range(0, 10**6, above=True)]


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Settings):
    """The noising process, and the target and loss of the network.

    Args:
        schedule: The noise schedule. Four are variance-preserving: ``linear`` (DDPM), ``scaled_linear`` (Stable
            Diffusion), ``cosine`` (Improved DDPM) and ``sigmoid`` (Jabri et al.). Two are variance-exploding, x = x0 +
            sigma eps: ``edm`` (Karras et al., sigma log-normal in training) and ``ve`` (Song et al., log sigma uniform
            in training).
        num_train_steps: Number of steps T of a discrete process. None means continuous time, which ``edm`` and ``ve``
            always have.
        beta_range: First and last beta of a discrete ``linear`` or ``scaled_linear`` schedule. Default: the paper's
            values for 1,000 steps, scaled for other numbers of steps so that the process ends with the same noise.
        trained_betas: The betas themselves, one for each step, of a discrete process that no schedule describes. They
            replace ``schedule`` and ``beta_range``, and there must be one for each step.
        zero_terminal_snr: Whether to rescale the schedule so that its last step is pure noise (Lin et al.).
        sigma_min: Smallest sigma of ``edm`` and ``ve``.
        sigma_max: Largest sigma of ``edm`` and ``ve``.
        log_sigma_normal: Mean and standard deviation of log sigma in training with ``edm``.
        sigma_data: Standard deviation of the data: 1 for latents, which are standardised, and about 0.5 for photographs
            in [-1, 1]. It sets the scale of the network's input, and of the ``edm`` target and weight.
        target: What the network predicts: the noise ``eps``, the clean image ``x0``, ``v`` = alpha eps - sigma x0, the
            preconditioned output of ``edm``, or the ``score`` times sigma.
        learn_variance: Whether the network also predicts the variance of the reverse process (Improved DDPM). The
            output then has twice the channels, and the variational bound joins the loss.
        variance_weight: Weight of the variational bound, in nats per dimension, summed over the steps.
        loss_weight: Weight of the loss by noise level. ``simple`` weighs the error of the output equally at all levels.
            The others weigh the error of x0: ``min_snr`` by min(SNR, gamma), ``truncated_snr`` by max(SNR, 1), ``edm``
            by SNR + 1 / sigma_data^2.
        min_snr_gamma: The gamma of ``min_snr``.
        class_dropout: Fraction of training images whose class is hidden. Classifier-free guidance needs it.
    """

    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve"] = "cosine"
    num_train_steps: Annotated[int, Range(2, 100_000)] | None = 1000
    beta_range: tuple[Beta, Beta] | None = None
    trained_betas: Annotated[tuple[LastBeta, ...], Length(1, 100_000)] | None = None
    zero_terminal_snr: bool = False
    sigma_min: Sigma = 0.002
    sigma_max: Sigma = 80.0
    log_sigma_normal: tuple[Annotated[float, Range(-20, 20)], Annotated[float, Range(0, 20, above=True)]] = (-1.2, 1.2)
    sigma_data: Annotated[float, Range(0, 1000, above=True)] = 1.0
    target: Literal["eps", "x0", "v", "edm", "score"] = "v"
    learn_variance: bool = False
    variance_weight: Weight = 0.001
    loss_weight: Literal["simple", "min_snr", "truncated_snr", "edm"] = "min_snr"
    min_snr_gamma: Annotated[float, Range(0, 10**6, above=True)] = 5.0
    class_dropout: Fraction = 0.1
