"""Stage two's trainer, for latents and pixels alike."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.codec import Codec
from latentdiff.config import DiffusionConfig, TrainerConfig, UNetConfig
from latentdiff.data.resident import mix_seed
from latentdiff.diffusion.schedule import DiscreteSchedule, add_noise, build_schedule
from latentdiff.diffusion.target import TARGETS, Target, min_snr_weight
from latentdiff.models.unet import UNet
from latentdiff.training.ema import Ema
from latentdiff.training.stage_module import StageModule, adamw


def diffusion_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor,
    steps: Tensor,
    target: Target,
    schedule: DiscreteSchedule,
    gamma: float | None,
) -> Tensor:
    """Weighted squared error of raw network ``output`` [b, ...] at ``steps`` [b], the mean over the batch, in fp32."""
    levels = schedule.levels(steps)
    error = (output.float() - target.of(x0, noise, levels)).square().flatten(1).mean(dim=1)
    weight = min_snr_weight(target, levels.snr, gamma)
    return (weight.to(error.device, error.dtype) * error).mean()


class DiffusionModule(StageModule):
    """Trains a :class:`~latentdiff.models.unet.UNet` to denoise a codec's latents.

    Args:
        codec: Whose latents; the identity trains on pixels.
        num_classes: Classes of the data set; used where the network is class-conditional.
        network, diffusion, trainer_config: The stage's settings.
    """

    def __init__(
        self,
        codec: Codec,
        num_classes: int,
        network: UNetConfig,
        diffusion: DiffusionConfig,
        trainer_config: TrainerConfig,
    ):
        super().__init__(trainer_config)
        self.codec, self.diffusion = codec, diffusion
        self.schedule, self.target = build_schedule(diffusion), TARGETS[diffusion.target]
        last_alpha = float(self.schedule.levels(torch.tensor(len(self.schedule) - 1)).alpha)
        if diffusion.target == "eps" and codec.value_range is None and last_alpha < 1e-3:
            raise ValueError(
                f"the eps target does not go with the {diffusion.schedule} schedule on latents: x0 = (x - sigma eps) / "
                f"alpha magnifies an error {1 / last_alpha:,.0f}-fold where sampling starts, and latents have no "
                "bounds to clamp it to. Use --diffusion.target v, or --diffusion.schedule linear."
            )
        self.network = UNet(codec.latent_shape[0], num_classes if network.class_conditional else 0, network)
        self.ema = Ema(self.network, trainer_config.ema_half_life, trainer_config.ema_warmup)

    def configure_optimizers(self):
        settings = self.settings
        return adamw(self.network.parameters(), settings.lr, settings.betas, settings.weight_decay)

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        moments, labels = batch
        # Every draw of a step comes from this generator for the whole batch over all ranks, each of which keeps its
        # share: the same global batch then gives the same loss for any number of processes.
        settings = self.settings
        generator = torch.Generator().manual_seed(mix_seed(settings.seed, 2, self.images_seen))
        share = slice(self.global_rank * len(labels), (self.global_rank + 1) * len(labels))

        def everyone(draw, *shape: int) -> Tensor:
            return draw(settings.batch_size, *shape, generator=generator)[share].to(moments.device)

        # One uniform offset and equal strides: every batch covers the noise levels evenly (Kingma et al. 2021, VDM).
        offset = torch.rand((), generator=generator)
        uniform = (offset + torch.arange(settings.batch_size) / settings.batch_size)[share] % 1.0
        steps = (uniform * len(self.schedule)).long().clamp(max=len(self.schedule) - 1)
        noise = everyone(torch.randn, *self.codec.latent_shape)
        hidden = everyone(torch.rand) < self.diffusion.class_dropout
        x0 = self.codec.sample(moments, noise=everyone(torch.randn, *self.codec.latent_shape))
        null = self.network.null_label
        labels = None if null is None else torch.where(hidden, null, labels)
        x = add_noise(x0, noise, self.schedule.levels(steps))
        output = self.network(x, steps.to(x.device, torch.float32), labels)
        loss = diffusion_loss(output, x0, noise, steps, self.target, self.schedule, self.diffusion.min_snr_gamma)
        self.optimise(self.optimizers(), loss, self.network.parameters())
        self.ema.update(self.network, self.images_seen + settings.batch_size, settings.batch_size)
        return {"loss": loss}
