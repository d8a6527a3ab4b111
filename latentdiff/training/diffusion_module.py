"""Stage two's trainer, for latents and pixels alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff import distributed
from latentdiff.codec import Codec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.data.loader import mix_seed
from latentdiff.diffusion.likelihood import bound_term
from latentdiff.diffusion.loss import check_loss_weight, diffusion_loss
from latentdiff.diffusion.noise_levels import Levels, Transitions, add_noise
from latentdiff.diffusion.schedule import Schedule, build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.models.network import build_network
from latentdiff.training.base_module import StageModule, adamw
from latentdiff.training.ema import Ema


class VarianceLoss:
    """The variational bound that teaches a learned variance (Nichol and Dhariwal 2021, L_vlb in equation 16).

    The mean takes no gradient from it: only the variance is to learn from the bound.

    Args:
        schedule: A discrete one.
        discretised: The data are uint8 values scaled to [-1, 1], not latents.
    """

    def __init__(self, schedule: Schedule, discretised: bool):
        steps = torch.arange(schedule.num_train_steps - 1, -1, -1)
        self.transitions = Transitions.between(schedule.levels(steps).with_clean_end())
        self.last, self.discretised = schedule.num_train_steps - 1, discretised

    def __call__(self, x: Tensor, x0: Tensor, guess: Tensor, fraction: Tensor, levels: Levels) -> Tensor:
        """Nats per dimension, summed over the process as one step stands for it, the mean over the batch."""
        index = self.last - levels.time.long()
        log_variance = self.transitions.log_variance(fraction.float(), index)
        term = bound_term(self.transitions, index, x, x0, guess.detach().float(), log_variance, self.discretised)
        return (self.last + 1) * term.mean()


class DiffusionModule(StageModule):
    """Trains a :func:`~latentdiff.models.network.build_network` to denoise a codec's latents.

    Args:
        codec: Whose latents; the identity trains on pixels.
        num_classes: Classes of the data set; used where the network is class-conditional.
        network, diffusion, trainer_config: The stage's settings.
    """

    def __init__(
        self,
        codec: Codec,
        num_classes: int,
        network: NetworkConfig,
        diffusion: DiffusionConfig,
        trainer_config: TrainerConfig,
    ):
        super().__init__(trainer_config)
        self.codec, self.diffusion = codec, diffusion
        self.schedule, self.target = build_schedule(diffusion), build_target(diffusion)
        self._check(codec, network)
        self.variance_loss = None
        if diffusion.learn_variance:
            self.variance_loss = VarianceLoss(self.schedule, discretised=codec.value_range is not None)
        channels = codec.latent_shape[0]
        outputs = channels * (2 if diffusion.learn_variance else 1)
        self.network = build_network(channels, num_classes, network, outputs)
        self.ema = Ema(self.network, trainer_config.ema_half_life, trainer_config.ema_warmup)

    def _check(self, codec: Codec, network: NetworkConfig) -> None:
        config = self.diffusion
        if network.conditioning == "batch_norm" and distributed.world_size() > 1:
            raise ConfigError(
                "conditioning batch_norm normalises over a whole batch, of which each process has a share: train it "
                "with one process, or use --network.conditioning scale_shift"
            )
        if network.conditioning == "batch_norm" and self.settings.accumulate > 1:
            raise ConfigError(
                "conditioning batch_norm normalises over a whole batch, which is computed in "
                f"{self.settings.accumulate} parts: take --trainer.accumulate 1, or --network.conditioning scale_shift"
            )
        if config.learn_variance and self.schedule.num_train_steps is None:
            raise ConfigError(
                "a learned variance needs a discrete process: a schedule that keeps the variance, with "
                "--diffusion.num_train_steps"
            )
        if network.time_embedding == "fourier" and self.schedule.variance_preserving and network.fourier_scale > 0.1:
            raise ConfigError(
                f"--network.fourier_scale {network.fourier_scale} is for the times of edm and ve, of about 1. Those of "
                f"{config.schedule} go up to 1,000, and neighbours would look unlike each other: use about 0.002"
            )
        check_loss_weight(config, self.schedule, self.target)
        last_alpha = float(self.schedule.levels(torch.tensor([self.schedule.last], dtype=torch.float64)).alpha)
        if config.target in ("eps", "score") and codec.value_range is None and last_alpha < 1e-3:
            raise ConfigError(
                f"the {config.target} target does not go with the {config.schedule} schedule on latents: x0 = (x - "
                f"sigma eps) / alpha magnifies an error {1 / last_alpha:,.0f}-fold where sampling starts, and latents "
                "have no bounds to clamp it to. Use --diffusion.target v, or --diffusion.schedule linear."
            )

    def configure_optimizers(self):
        settings = self.settings
        return adamw(self.network.parameters(), settings.lr, settings.betas, settings.weight_decay)

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        moments, labels = batch
        settings, draws = self.settings, self.draws()
        levels = self.schedule.training_levels(self._covering())
        noise = draws(torch.randn, *self.codec.latent_shape)
        hidden = draws(torch.rand) < self.diffusion.class_dropout
        x0 = self.codec.sample(moments, noise=draws(torch.randn, *self.codec.latent_shape))
        null = self.network.null_label
        labels = None if null is None else torch.where(hidden, null, labels)
        x = add_noise(x0, noise, levels)
        losses: dict[str, Tensor] = {}

        def parts() -> Iterator[Tensor]:
            for part in self.parts(len(x)):
                own_labels = None if null is None else labels[part]
                own = self._losses(self.network, x[part], x0[part], noise[part], levels[part], own_labels)
                weight = len(x[part]) / len(x)
                for name, value in own.items():
                    losses[name] = losses.get(name, 0.0) + weight * value.detach()
                yield weight * (own["loss"] + self.diffusion.variance_weight * own.get("bound", 0.0))

        self.optimise(self.optimizers(), parts(), self.network.parameters())
        self.ema.update(self.network, self.weights_age, settings.batch_size)
        return losses

    def _covering(self) -> Tensor:
        """Shares of the process, fp32 [b] in [0, 1): one random offset and equal strides, so that every batch covers
        the noise levels evenly (Kingma et al. 2021, VDM)."""
        size = self.settings.batch_size
        generator = torch.Generator().manual_seed(mix_seed(self.settings.seed, 4, self.images_seen))
        return (torch.rand((), generator=generator) + torch.arange(size) / size)[self.share] % 1.0

    @torch.no_grad()
    def validation_loss(self, moments: Tensor, labels: Tensor, batch_size: int = 256) -> float:
        """The loss of the averaged network on held-out images, of moments [n, ...] and labels [n].

        Always with the same noise and levels, which cover the process evenly, so that epochs compare.
        """
        generator = torch.Generator().manual_seed(mix_seed(self.settings.seed, 3))
        n, shape = len(moments), self.codec.latent_shape
        levels = self.schedule.training_levels((torch.arange(n) + 0.5) / n)[torch.randperm(n, generator=generator)]
        noise, draw = (torch.randn(n, *shape, generator=generator) for _ in range(2))
        total, network = 0.0, self.ema.network
        for start in range(0, n, batch_size):
            part = slice(start, min(start + batch_size, n))
            own = moments[part].to(self.device)
            x0, eps = self.codec.sample(own, noise=draw[part]), noise[part].to(self.device)
            x = add_noise(x0, eps, levels[part])
            asked = None if network.null_label is None else labels[part].to(self.device)
            total += len(x) * float(self._losses(network, x, x0, eps, levels[part], asked)["loss"])
        return total / n

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["latentdiff"]["codec"] = self.codec.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        known = checkpoint["latentdiff"].get("codec", self.codec.fingerprint)
        if known != self.codec.fingerprint:
            raise CheckpointError(
                "the run was trained on the latents of another autoencoder than the one that is named now (its file "
                "may have been trained anew): name the first one, or begin anew with --run.overwrite true"
            )
        super().on_load_checkpoint(checkpoint)

    def _losses(
        self, network: nn.Module, x: Tensor, x0: Tensor, noise: Tensor, levels: Levels, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """``loss``, and ``bound`` where the variance is learned, of ``network`` at x = alpha x0 + sigma noise."""
        shown = self.target.scale_input(x, levels)
        output = network(shown, levels.time.to(x.device, torch.float32), labels)
        if self.variance_loss is None:
            return {"loss": diffusion_loss(output, x0, noise, levels, self.target, self.diffusion)}
        output, fraction = output.chunk(2, dim=1)
        guess = self.target.to_x0(output.detach().float(), x, levels)
        return {
            "loss": diffusion_loss(output, x0, noise, levels, self.target, self.diffusion),
            "bound": self.variance_loss(x, x0, guess, fraction, levels),
        }
