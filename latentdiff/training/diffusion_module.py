"""Stage two's training step, for latents and pixels alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentdiff import distributed
from latentdiff.codec import Codec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig, to_dict
from latentdiff.data.loader import mix_seed
from latentdiff.diffusion.loss import VarianceLoss, training_losses
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.models.conditioning import ConditionedNetwork
from latentdiff.models.network import build_network
from latentdiff.text.tokenizer import Tokenizer
from latentdiff.training.base_module import MicroBatch, StageModule, adamw
from latentdiff.training.diffusion_checks import check_process
from latentdiff.training.ema import Ema
from latentdiff.training.random_streams import RandomStream, seeded_generator


class DiffusionModule(StageModule):
    """Trains a :func:`~latentdiff.models.network.build_network` to denoise a codec's latents.

    Args:
        codec: Whose latents. The identity's latents are the pixels.
        num_classes: Classes of the data set; used where the network is class-conditional.
        network, diffusion, trainer: The settings.
        tokenizer: Tokenizer of the captions, for a network that takes captions in place of classes.

    Raises :class:`~latentdiff.errors.ConfigError` for settings that contradict each other.
    """

    def __init__(
        self,
        codec: Codec,
        num_classes: int,
        network: NetworkConfig,
        diffusion: DiffusionConfig,
        trainer: TrainerConfig,
        tokenizer: Tokenizer | None = None,
    ):
        super().__init__(trainer)
        self.codec, self.diffusion, self.network_config = codec, diffusion, network
        self.schedule, self.target = build_schedule(diffusion), build_target(diffusion)
        self._check(codec, network)
        self.variance_loss = None
        if diffusion.learn_variance:
            self.variance_loss = VarianceLoss(self.schedule, discretised=codec.value_range is not None)
        channels = codec.latent_shape[0]
        outputs = channels * (2 if diffusion.learn_variance else 1)
        self.network = build_network(channels, num_classes, network, outputs, tokenizer)
        self.ema: Ema[ConditionedNetwork] = Ema(self.network, trainer.ema_half_life, trainer.ema_warmup)
        self.keep_averages_of(self.network)

    def describe(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return f"{type(self.network).__name__}: {parameters:,} parameters on {self.codec.latent_shape}"

    def configure_optimizers(self):
        settings = self.settings
        return adamw(self.network.parameters(), settings.lr, settings.betas, settings.weight_decay)

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """One step on moments and labels or captions' tokens: Ho et al. 2020, algorithm 1, on latents drawn afresh."""
        moments, labels = batch
        draw, shape = self.batch_random(), self.codec.latent_shape

        # Draw a noise level and the noise for each image, on the training device. The levels cover the process evenly.
        # The draws share one random stream: their order decides which numbers each of them gets.
        levels = self.schedule.training_levels(self.stratified_times())
        noise = draw(torch.randn, *shape)

        # Hide some classes, or captions: classifier-free guidance needs a network that works without one, too.
        hidden = draw(torch.rand) < self.diffusion.class_dropout
        null = self.network.null_label
        labels = None if null is None else torch.where(hidden.reshape(-1, *[1] * (labels.ndim - 1)), null, labels)

        # Draw the clean latents from their posterior. Pixels have none, and nothing is drawn.
        x0 = self.codec.sample(moments, noise=draw(torch.randn, *shape) if self.codec.has_posterior else None)

        # Noise them, let the network denoise them, and go down the gradient of its error.
        def loss(part: slice) -> MicroBatch:
            classes = None if labels is None else labels[part]
            return self._micro_batch(x0[part], noise[part], levels[part], classes)

        losses, _ = self.optimise(self.optimizers(), self.network.parameters(), [loss], len(x0))

        self.update_averages()
        return losses

    def stratified_times(self) -> Tensor:
        """Shares of the process, fp32 [b] in [0, 1): one random offset and equal strides, so that every batch covers
        the noise levels evenly (Kingma et al. 2021, VDM)."""
        size, device = self.settings.batch_size, self.device
        generator = seeded_generator(device, self.settings.seed, RandomStream.NOISE_LEVELS, self.images_seen)
        offset = torch.rand((), generator=generator, device=device)
        return (offset + torch.arange(size, device=device) / size)[self.local_slice] % 1.0

    def _micro_batch(self, x0: Tensor, noise: Tensor, levels: Any, labels: Tensor | None) -> MicroBatch:
        losses = training_losses(
            self.network, x0, noise, levels, labels, self.target, self.diffusion, self.variance_loss
        )
        return MicroBatch(losses["loss"] + self.diffusion.variance_weight * losses.get("bound", 0.0), losses)

    @torch.no_grad()
    def validation_loss(self, moments: Tensor, labels: Tensor, batch_size: int = 256) -> float:
        """The loss of the averaged network on held-out images, without the bound of a learned variance.

        Args:
            moments: Of the images, [n, ...].
            labels: int64 [n], or captions' tokens, int64 [n, context].
            batch_size: Images at a time.

        The noise and the levels, which cover the process evenly, are always the same, so that epochs compare.
        """
        generator = torch.Generator().manual_seed(mix_seed(self.settings.seed, RandomStream.VALIDATION))
        n, shape = len(moments), self.codec.latent_shape
        levels = self.schedule.training_levels((torch.arange(n) + 0.5) / n)[torch.randperm(n, generator=generator)]
        noise = torch.randn(n, *shape, generator=generator)
        posterior_noise = torch.randn(n, *shape, generator=generator) if self.codec.has_posterior else noise
        total, network = torch.zeros((), dtype=torch.float64, device=self.device), self.ema.network
        for start in range(0, n, batch_size):
            part = slice(start, min(start + batch_size, n))
            x0 = self.codec.sample(moments[part].to(self.device), noise=posterior_noise[part])
            classes = None if network.null_label is None else labels[part].to(self.device)
            losses = training_losses(
                network,
                x0,
                noise[part].to(self.device),
                levels[part],
                classes,
                self.target,
                self.diffusion,
                self.variance_loss,
            )
            total += len(x0) * losses["loss"].double()
        return float(total) / n

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["latentdiff"]["codec"] = self.codec.fingerprint
        checkpoint["latentdiff"] |= {"network": to_dict(self.network_config), "diffusion": to_dict(self.diffusion)}
        tokenizer = self.network.tokenizer
        checkpoint["latentdiff"]["text"] = None if tokenizer is None else tokenizer.header()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        known = checkpoint["latentdiff"].get("codec", self.codec.fingerprint)
        if known != self.codec.fingerprint:
            raise CheckpointError(
                "the run was trained on the latents of another autoencoder than the one given now. Give the "
                "first one, or start anew with --run.overwrite true."
            )
        own = to_dict(self.network_config) | {"text": None}  # which may lie elsewhere now, and is compared below
        begun = own | checkpoint["latentdiff"].get("network", {}) | {"text": None}
        if differing := [key for key, value in own.items() if begun[key] != value]:
            raise CheckpointError(
                f"the run was trained with another network: {', '.join(differing)} differ. Give the first settings "
                "(and --init, if it had one), or start anew with --run.overwrite true."
            )
        super().on_load_checkpoint(checkpoint)
        tokenizer, known = self.network.tokenizer, checkpoint["latentdiff"].get("text") or {}
        # A frozen encoder may lie elsewhere now: its digest counts.
        if tokenizer is not None and {**tokenizer.header(), "name": 0} != {**known, "name": 0}:
            raise CheckpointError(
                "the run was trained with another vocabulary or text encoder than the present one. Restore the "
                "first one, or start anew with --run.overwrite true."
            )

    def _check(self, codec: Codec, network: NetworkConfig) -> None:
        if network.conditioning == "batch_norm" and distributed.world_size() > 1:
            raise ConfigError(
                "conditioning batch_norm normalises over a whole batch, but each process has only a share of it: "
                "train with one process, or use --network.conditioning scale_shift"
            )
        if network.conditioning == "batch_norm" and self.settings.gradient_accumulation_steps > 1:
            raise ConfigError(
                "conditioning batch_norm normalises over a whole batch, but the batch is split into "
                f"{self.settings.gradient_accumulation_steps} parts: use --trainer.gradient_accumulation_steps 1, "
                "or --network.conditioning scale_shift"
            )
        check_process(self.diffusion, network, on_latents=codec.value_range is None)
