"""Stage one's training step: reconstruction + KL + perceptual + adversarial loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentdiff.codec import AutoencoderCodec, encode_batch_size, to_float, to_uint8
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, PhaseConfig, TrainerConfig
from latentdiff.errors import ConfigError
from latentdiff.evaluation.psnr_ssim import psnr_and_ssim
from latentdiff.models.autoencoder import Autoencoder, kl_per_dim, sample_posterior
from latentdiff.models.discriminator import PatchDiscriminator, hinge_discriminator_loss, hinge_generator_loss
from latentdiff.models.feature_discriminator import FeatureDiscriminator
from latentdiff.models.lpips import LPIPS
from latentdiff.training.base_module import MicroBatch, StageModule, adamw
from latentdiff.training.degradation import check_degradation, degrade
from latentdiff.training.ema import Ema
from latentdiff.training.latent_statistics import latent_statistics
from latentdiff.training.perceptual_loss import (
    CountedImages,
    PerceptualFeatures,
    feature_discriminator_loss,
    norm_ratios,
    observe_scale,
    perceptual_gradient,
)
from latentdiff.training.phases import check_phases, losses_of_phases, lr_factor, lr_progress, phase_index


class GeneratorOutput(NamedTuple):
    """What the discriminators learn from: reconstructions [b, c, h, w], and the LPIPS trunk's features of them."""

    image: Tensor
    features: PerceptualFeatures | None


class AutoencoderModule(StageModule):
    """Trains an :class:`~latentdiff.models.autoencoder.Autoencoder`.

    Args:
        image_shape: (channels, height, width).
        network, loss, trainer, phases: The stage's settings.
        perceptual: The LPIPS term, or None.

    Attributes:
        loss: The losses of the phase that the run is in.

    Raises:
        ConfigError: Settings that contradict each other.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        network: AutoencoderConfig,
        loss: AutoencoderLossConfig,
        trainer: TrainerConfig,
        perceptual: LPIPS | None,
        phases: Sequence[PhaseConfig] = (),
    ):
        super().__init__(trainer)
        check_phases(loss, phases, trainer)
        self.phases, self.phase, self._losses = tuple(phases), 0, losses_of_phases(loss, phases)
        # Images seen when the discriminators of a phase began to learn; None where they are not a phase's.
        self.discriminators_since: int | None = None
        check_degradation(loss.degradation, loss.degradation_strength)
        self.config, self.loss = network, loss
        self.network = Autoencoder(image_shape, network)
        self.ema = Ema(self.network, trainer.ema_half_life, trainer.ema_warmup)
        # An encoder that is frozen on the way has one set of weights, and no average of another length.
        is_frozen = any(losses.frozen_encoder for losses in self._losses)
        self.keep_averages_of(self.network.decoder if is_frozen else self.network)
        # One log-variance for all pixels: the optimal-sigma VAE of Rybkin et al. 2021.
        self.log_variance = nn.Parameter(torch.zeros(()), requires_grad=loss.reconstruction == "gaussian")
        # (mean, std) of the latents as the models trained on them know them, where the encoder is not to change.
        self.kept_statistics: tuple[Tensor, Tensor] | None = None
        self.discriminator: PatchDiscriminator | None = None
        if any(losses.adversarial_weight for losses in self._losses):
            width, gain, bands = loss.discriminator_channels, loss.discriminator_gain, loss.discriminator_bands
            self.discriminator = PatchDiscriminator(image_shape[0], width, gain, bands)
        self.feature_discriminator: FeatureDiscriminator | None = None
        if any(losses.feature_adversarial_weight and not losses.perceptual_weight for losses in self._losses):
            raise ConfigError(
                "feature_adversarial_weight needs the features that LPIPS computes: set perceptual_weight too"
            )
        if any(losses.feature_adversarial_weight for losses in self._losses) and perceptual is not None:
            self.feature_discriminator = FeatureDiscriminator(perceptual.widths, loss.feature_discriminator_channels)
        self.has_unused_parameters = True  # the generator's and the discriminator's backward passes
        self._counted: dict[tuple[float, int, int], CountedImages] = {}
        # In a list, so that the trunk's weights stay out of every checkpoint.
        self._perceptual = [perceptual]

    def describe(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        image, latent = ("x".join(map(str, shape)) for shape in (self.network.image_shape, self.network.latent_shape))
        return (
            f"autoencoder: {parameters:,} parameters, {image} -> {latent}, {self.network.compression:.1f}x fewer "
            "numbers"
        )

    @property
    def called_parts(self) -> list[nn.Module]:
        return [self.network.encoder, self.network.decoder]

    def on_fit_start(self) -> None:
        if self._perceptual[0] is not None:
            self._perceptual[0].to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["latentdiff"]["perceptual"] = self._perceptual[0] is not None
        checkpoint["latentdiff"]["kept_statistics"] = self.kept_statistics
        checkpoint["latentdiff"]["phase"] = self.phase
        checkpoint["latentdiff"]["discriminators_since"] = self.discriminators_since

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.kept_statistics = checkpoint["latentdiff"].get("kept_statistics")
        self.phase = checkpoint["latentdiff"].get("phase", 0)
        self.discriminators_since = checkpoint["latentdiff"].get("discriminators_since")
        self.loss = self._losses[self.phase]
        if checkpoint["latentdiff"]["perceptual"] != (self._perceptual[0] is not None):
            raise ConfigError(
                "the LPIPS trunk was present when this run began and is missing now, or the reverse: resuming "
                "would change the loss. Name the trunk with --loss.perceptual_weights or LATENTDIFF_LPIPS."
            )

    def configure_optimizers(self):
        settings = self.settings
        own = [*self.network.parameters(), self.log_variance]
        optimizers = [adamw(own, settings.lr, settings.betas, settings.weight_decay)]
        if parameters := self._discriminator_parameters():
            # Low momentum is what adversarial training is stable with (Radford et al. 2016; LDM uses the same).
            optimizers.append(adamw(parameters, self.loss.discriminator_lr, (0.5, 0.9), 0.0))
        return optimizers

    def _discriminator_parameters(self) -> list[nn.Parameter]:
        discriminators = [net for net in (self.discriminator, self.feature_discriminator) if net is not None]
        return [parameter for net in discriminators for parameter in net.parameters()]

    def _has_discriminators(self) -> bool:
        """Whether a discriminator has a weight in this phase, and is there."""
        return bool(self._discriminator_parameters()) and _has_discriminators(self.loss)

    def begin_step(self) -> None:
        """Enter the phases that begin here. A resumed run does not enter a phase twice."""
        while self.phase < phase_index(self.phases, self.progress()):
            before, self.phase = self.loss, self.phase + 1
            self.loss = self._losses[self.phase]
            begins = _uses_features(self.loss) and not _uses_features(before)
            if self._has_discriminators() and (begins or not _has_discriminators(before)):
                self.discriminators_since = self.images_seen
            if self.loss.frozen_encoder and not before.frozen_encoder:
                self._freeze_encoder()

    @property
    def lr_factor(self) -> float:
        return lr_factor(self.phases, self.phase)

    def lr_progress(self) -> float:
        return lr_progress(self.phases, self.progress())

    def _freeze_encoder(self) -> None:
        """Replace the encoder's weights by their average, which is what a run saves, and keep its latent statistics."""
        self.network.encoder.load_state_dict(self.ema.network.encoder.state_dict())
        # As at the end of a run: in full precision, and not at the expense of its seconds.
        with self.clock_stopped(), torch.autocast(self.device.type, enabled=False):
            self.kept_statistics = latent_statistics(self.ema.network, self.data[0])

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """One step on uint8 images: first the autoencoder, then the discriminators that judged it."""
        x, draw = to_float(batch[0]), self.batch_random()
        noise = draw(torch.randn, *self.network.latent_shape)
        inputs = degrade(x, self.loss.degradation, self.loss.degradation_strength, draw)
        dither = self._dither(draw)
        adversarial, learns = self._adversarial_phase()

        # The autoencoder goes down the gradient of reconstruction + KL + perceptual + adversarial loss.
        def generator_loss(part: slice) -> MicroBatch:
            return self._generator_loss(
                x[part], inputs[part], noise[part], self._counted_images(part), dither[part] if adversarial else None
            )

        optimizer, *discriminator_optimizers = self._optimizers()
        losses, results = self.optimise(optimizer, self._generator_parameters(), [generator_loss], len(x))

        # The discriminators learn to tell the originals from these reconstructions.
        if learns:
            starts = [part.start for part in self.micro_batches(len(x))]
            outputs = {start: result.outputs for start, result in zip(starts, results, strict=True)}
            losses |= self._train_discriminators(discriminator_optimizers[0], x, dither, outputs)

        self.update_averages()
        return losses

    @property
    def kind_of_step(self) -> Hashable:
        """The losses of its phase, and which adversarial ones have begun."""
        return self.loss, self._adversarial_phase()

    def _adversarial_phase(self) -> tuple[bool, bool]:
        """Whether adversarial losses count for the autoencoder in this step, and whether the discriminators train."""
        if not self._has_discriminators():
            return False, False
        if self.discriminators_since is not None:
            return self.images_seen >= self.discriminators_since + self.loss.discriminator_warmup, True
        start = self.loss.adversarial_start
        return self.images_seen >= start, self.images_seen >= start - self.loss.discriminator_warmup

    def _generator_parameters(self) -> list[nn.Parameter]:
        trained = self.network.decoder if self.loss.frozen_encoder else self.network
        own = list(trained.parameters())
        return own + ([self.log_variance] if self.log_variance.requires_grad else [])

    def _train_discriminators(
        self, optimizer: Any, x: Tensor, dither: Tensor, outputs: dict[int, GeneratorOutput]
    ) -> dict[str, Tensor]:
        """One step of both discriminators on the originals and their reconstructions; their losses."""

        def of_images(part: slice) -> MicroBatch:
            image = outputs[part.start].image
            real, fake = self._logits(torch.cat([x[part] - dither[part], image + dither[part]])).chunk(2)
            loss = hinge_discriminator_loss(real, fake)
            return MicroBatch(loss, {"discriminator": loss})

        def of_features(part: slice) -> MicroBatch:
            loss = feature_discriminator_loss(self.feature_discriminator, outputs[part.start].features)
            return MicroBatch(loss, {"feature_discriminator": loss})

        loss_functions = [of_images] if self.discriminator is not None else []
        if self.feature_discriminator is not None and self.loss.perceptual_weight:  # else there are no features
            observe_scale(self.feature_discriminator, [output.features for output in outputs.values()])
            loss_functions.append(of_features)
        return self.optimise(optimizer, self._discriminator_parameters(), loss_functions, len(x))[0]

    def _dither(self, draw: Callable[..., Tensor]) -> Tensor:
        """What is added to the images before the discriminator: up to half a grey level, where it is shown fine detail.

        Without it the discriminator could tell a photograph by its 256 levels, and a reconstruction by having more.
        """
        if not self.loss.discriminator_bands:
            return torch.zeros(self.settings.batch_size, 1, 1, 1, device=self.device)[self.local_slice]
        return (2.0 * draw(torch.rand, *self.network.image_shape) - 1.0) / 255.0

    def _logits(self, images: Tensor) -> Tensor:
        """The discriminator's logits. Where it sees bands, its strides' grid moves to another of sixteen places in each
        step: else its gradient would draw that grid into the images' fine detail."""
        step = self.images_seen // self.settings.batch_size
        return self.discriminator(images, (step % 4, step // 4 % 4) if self.loss.discriminator_bands else None).float()

    def _perceptual_weights(self) -> Tensor:
        """Weights [b] of the images in the perceptual loss, of mean 1 over the whole batch, 0 for those left out, on
        the CPU.

        The images that count are spread evenly over the batch, so that each process has some, and so has each
        part that is large enough.
        """
        ends = torch.arange(self.settings.batch_size + 1) * self.loss.perceptual_share
        counts = (ends.floor().diff() > 0).float()
        counts[0] = counts[0] if counts.any() else 1.0
        return (counts / counts.mean())[self.local_slice]

    def _counted_images(self, part: slice) -> CountedImages:
        """The images of a micro batch that count in the perceptual loss. They are the same in each step of a phase."""
        key = (self.loss.perceptual_share, part.start, part.stop)
        if key not in self._counted:
            self._counted[key] = CountedImages.from_weights(self._perceptual_weights()[part], self.device)
        return self._counted[key]

    def _generator_loss(
        self, x: Tensor, inputs: Tensor, noise: Tensor, counted: CountedImages, dither: Tensor | None
    ) -> MicroBatch:
        """The autoencoder's loss for images x, which it sees as ``inputs``. Without a dither no discriminator counts.

        The image losses are differentiated down to the image alone, each once. The gradient of their weighted sum then
        goes through the autoencoder in one backward pass. So the adversarial weight can be adaptive at no cost.
        """
        with torch.set_grad_enabled(not self.loss.frozen_encoder):
            moments = self.network.encode(inputs)
        reconstruction = self.network.decode(sample_posterior(moments, noise))
        # The losses judge the image as it is shown, clamped. A value beyond the bounds is pulled back where that helps
        # and pushed no further: so a black background can be decoded to exactly black instead of to black give or take.
        image = reconstruction.detach().clamp(-1.0, 1.0).requires_grad_()
        gradient, features, losses = self._image_gradient(x, image, counted, dither)
        outward = torch.where(reconstruction.detach().abs() > 1.0, gradient * reconstruction.detach(), 0.0) < 0.0
        # A pixel that is exactly right, black decoded as black, is left alone, whatever its neighbours want of it.
        gradient = gradient.masked_fill(outward | (image.detach() == x), 0.0)
        losses["kl_per_dim"] = kl_per_dim(moments)
        # Its gradient is that of the weighted losses; its value means nothing.
        loss = (reconstruction * gradient).sum() + self.loss.kl_weight * losses["kl_per_dim"]
        if self.log_variance.requires_grad:
            loss = loss + self.reconstruction_loss(x, image.detach())
        # Features of a whole batch are large: they are kept only for a discriminator that learns from them.
        kept = features if self.feature_discriminator is not None and self._adversarial_phase()[1] else None
        return MicroBatch(loss, losses, GeneratorOutput(image.detach(), kept))

    def _image_gradient(
        self, x: Tensor, image: Tensor, counted: CountedImages, dither: Tensor | None
    ) -> tuple[Tensor, PerceptualFeatures | None, dict[str, Tensor]]:
        """Gradient of the weighted image losses with respect to the reconstruction, the LPIPS trunk's features, and the
        losses one by one."""
        losses = {"reconstruction": self.reconstruction_loss(x, image)}
        (gradient,) = torch.autograd.grad(losses["reconstruction"], image)
        features = None
        if self._perceptual[0] is not None and self.loss.perceptual_weight:
            judge = None if dither is None or not self.loss.feature_adversarial_weight else self.feature_discriminator
            more, features, found = perceptual_gradient(self._perceptual[0], judge, self.loss, x, image, counted)
            gradient, losses = gradient + more, losses | found
        if dither is not None and self.discriminator is not None and self.loss.adversarial_weight:
            losses["adversarial"] = hinge_generator_loss(self._logits(image + dither))
            (more,) = torch.autograd.grad(losses["adversarial"], image)
            weight = self.loss.adversarial_weight
            if self.loss.adversarial_adaptive:
                weight = weight * norm_ratios([gradient], [more])
            gradient = gradient + weight * more
        return gradient, features, losses

    def reconstruction_loss(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Per pixel: the mean absolute error, or the Gaussian's negative log-likelihood under the learned variance."""
        if self.loss.reconstruction == "l1":
            return (reconstruction - x).abs().mean()
        error = (reconstruction - x).square().mean()
        return 0.5 * (error * torch.exp(-self.log_variance) + self.log_variance + math.log(2 * math.pi))

    @torch.inference_mode()
    def validate(self, images: Tensor) -> dict[str, float]:
        """PSNR and SSIM of reconstructions of uint8 ``images``, KL per dimension, latent statistics, all of the EMA."""
        if not len(images):
            return {}
        codec, size = self.build_codec(images), encode_batch_size(images.shape)
        moments = torch.cat([codec.encode(chunk) for chunk in images.split(size)])
        means = codec.standardise(moments.chunk(2, dim=1)[0])
        reconstructions = torch.cat([codec.decode(chunk).cpu() for chunk in means.split(size)])
        values = {**psnr_and_ssim(reconstructions, images.cpu()), "val_kl_per_dim": kl_per_dim(moments).item()}
        for name, statistic in (("mean", codec.mean), ("std", codec.std)):
            values |= {f"latent_{name}_{channel}": value for channel, value in enumerate(statistic.tolist())}
        return values

    def build_codec(self, images: Tensor) -> AutoencoderCodec:
        """The trained codec (averaged weights), its statistics taken over ``images`` unless they are to be kept."""
        statistics = self.kept_statistics or latent_statistics(self.ema.network, images)
        return AutoencoderCodec(self.ema.network, self.config, *(value.to(self.device) for value in statistics))

    @torch.inference_mode()
    def preview(self, images: Tensor) -> Tensor:
        """uint8 [3, n, c, h, w]: originals, reconstructions, decoded N(0, I), for the run's sample grids."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        noise = torch.randn((len(images), *self.network.latent_shape), generator=generator).to(self.device)
        x = to_float(images.to(self.device))
        mean, _ = self.ema.network.encode(x).chunk(2, dim=1)
        ours, prior = (to_uint8(self.ema.network.decode(z)).cpu() for z in (mean, noise))
        return torch.stack([images.cpu(), ours, prior])


def _uses_features(loss: AutoencoderLossConfig) -> bool:
    """Whether there is a discriminator of the LPIPS network's features."""
    return loss.perceptual_weight > 0 and loss.feature_adversarial_weight > 0


def _has_discriminators(loss: AutoencoderLossConfig) -> bool:
    """Whether a loss gives any discriminator a weight."""
    return bool(loss.adversarial_weight or loss.feature_adversarial_weight)
