"""The noising process and what the network learns of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentdiff.config.base import Settings


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Settings):
    """The noising process and what the network learns of it.

    Args:
        schedule: The process. Keeping the variance: ``linear`` (DDPM), ``scaled_linear`` (Stable Diffusion),
            ``cosine`` (Improved DDPM), ``sigmoid`` (Jabri et al.). Exploding, x = x0 + sigma eps: ``edm`` (Karras et
            al., log-normal training sigmas), ``ve`` (Song et al., uniform in log sigma).
        num_train_steps: Steps T of a discrete process; none is continuous time, which ``edm`` and ``ve`` always have.
        beta_range: First and last beta of a discrete ``linear`` or ``scaled_linear`` process, whatever its number of
            steps. Default: the papers', of 1,000 steps, scaled to another number so that it ends with as much noise.
        zero_terminal_snr: Rescale the schedule so that its last step is pure noise (Lin et al.).
        sigma_min: Least noise of ``edm`` and ``ve``.
        sigma_max: Most noise of ``edm`` and ``ve``.
        log_sigma_normal: Mean and standard deviation of log sigma in ``edm`` training.
        sigma_data: Standard deviation of the data: 1 for latents, which are standardised; about 0.5 for photographs in
            [-1, 1]. It scales the network's input and the ``edm`` target and weight.
        target: What the network predicts.
        learn_variance: Let the network predict the reverse process's variance too (Improved DDPM): twice the output
            channels, and the variational bound beside the loss.
        variance_weight: Weight of that bound, in nats per dimension summed over the steps.
        loss_weight: ``simple``, ``min_snr``, ``truncated_snr`` or ``edm``; all but the first are given on the error of
            x0 and converted to the target's.
        min_snr_gamma: Cap of the signal-to-noise ratio in ``min_snr``.
        class_dropout: Share of training images whose class is hidden, which classifier-free guidance needs.
    """

    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid", "edm", "ve"] = "cosine"
    num_train_steps: int | None = 1000
    beta_range: tuple[float, float] | None = None
    zero_terminal_snr: bool = False
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    log_sigma_normal: tuple[float, float] = (-1.2, 1.2)
    sigma_data: float = 1.0
    target: Literal["eps", "x0", "v", "edm", "score"] = "v"
    learn_variance: bool = False
    variance_weight: float = 0.001
    loss_weight: Literal["simple", "min_snr", "truncated_snr", "edm"] = "min_snr"
    min_snr_gamma: float = 5.0
    class_dropout: float = 0.1
