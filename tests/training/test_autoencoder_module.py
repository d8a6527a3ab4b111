from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, TrainerConfig
from latentdiff.models.autoencoder import sample_posterior
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.perceptual_loss import CountedImages

CONFIG = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
ALL = CountedImages.from_weights(torch.ones(2), torch.device("cpu"))


def module(**loss):
    loss = {"perceptual_weight": 0, "adversarial_weight": 0, **loss}
    return AutoencoderModule((1, 8, 8), CONFIG, AutoencoderLossConfig(**loss), TrainerConfig(), None)


def test_gaussian_loss_is_the_negative_log_likelihood():
    net = module(reconstruction="gaussian")
    with torch.no_grad():
        net.log_variance.fill_(math.log(0.25))
    x, y = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    expected = -torch.distributions.Normal(y, 0.5).log_prob(x).mean()
    torch.testing.assert_close(net.reconstruction_loss(x, y), expected)
    # The variance is learned: it rests where it is the mean squared error.
    net.log_variance.data.fill_((x - y).square().mean().log())
    (gradient,) = torch.autograd.grad(net.reconstruction_loss(x, y), net.log_variance)
    assert abs(float(gradient)) < 1e-6
    assert not module(reconstruction="l1").log_variance.requires_grad


def test_latent_statistics_are_those_of_posterior_draws():
    net = module()
    images = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8)
    codec = net.build_codec(images)
    moments = codec.encode(images)
    z = torch.cat([sample_posterior(moments, torch.randn(300, 2, 4, 4)) for _ in range(30)])
    torch.testing.assert_close(codec.mean, z.mean((0, 2, 3)), rtol=0, atol=0.02)
    torch.testing.assert_close(codec.std, z.std((0, 2, 3)), rtol=0.02, atol=0)
    latents = codec.sample(moments)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(2), rtol=0.05, atol=0)


def test_validation_measures_what_torchmetrics_measures(monkeypatch):
    net = AutoencoderModule((1, 16, 16), CONFIG, module().loss, TrainerConfig(), None)
    images = torch.randint(20, 236, (16, 1, 16, 16), dtype=torch.uint8)
    noisy = (images.int() + torch.randint(-20, 20, images.shape)).to(torch.uint8)
    monkeypatch.setattr("latentdiff.codec.AutoencoderCodec.decode", lambda self, z: noisy)
    values = net.validate(images)
    a, b = noisy.double(), images.double()
    psnr = torch.stack([peak_signal_noise_ratio(x, y, data_range=255.0) for x, y in zip(a, b, strict=True)]).mean()
    assert abs(values["psnr"] - psnr.item()) < 1e-3
    assert abs(values["ssim"] - structural_similarity_index_measure(a, b, data_range=255.0).item()) < 1e-3
    assert {"val_kl_per_dim", "latent_mean_0", "latent_std_1"} <= set(values)


def test_image_gradient_is_the_gradient_of_the_weighted_sum():
    net = module(adversarial_weight=0.3, adversarial_adaptive=False, discriminator_channels=8)
    x, image = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8, requires_grad=True)
    dither = 0.1 * torch.randn(2, 1, 8, 8)
    gradient, *_ = net._image_gradient(x, image, ALL, dither)
    total = (image - x).abs().mean() - 0.3 * net.discriminator(image + dither).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(total, image)[0])


def test_adaptive_weight_is_a_ratio_of_gradient_norms():
    net = module(adversarial_weight=0.3, adversarial_adaptive=True, discriminator_channels=8)
    x, image = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8, requires_grad=True)
    both, *_ = net._image_gradient(x, image, ALL, torch.zeros(2, 1, 1, 1))
    alone, *_ = net._image_gradient(x, image, ALL, None)
    torch.testing.assert_close((both - alone).norm() / alone.norm(), torch.tensor(0.3))


class Trunk(torch.nn.Module):
    """Stands for LPIPS: two layers of features, the mean square of their differences."""

    widths = (1, 1)

    def features(self, x):
        return [x, torch.nn.functional.avg_pool2d(x.square(), 2)]

    def distance_of_features(self, ours, theirs):
        return sum((x - y).square().flatten(1).mean(1) for x, y in zip(ours, theirs, strict=True))


def judged_by_features(**loss):
    loss = {"adversarial_weight": 0, "feature_adversarial_weight": 0.5, "adversarial_start": 0, **loss}
    return AutoencoderModule((1, 8, 8), CONFIG, AutoencoderLossConfig(**loss), TrainerConfig(batch_size=4), Trunk())


def test_the_pull_of_features_is_a_ratio_to_that_of_lpips_at_each_layer():
    torch.manual_seed(0)
    net = judged_by_features(perceptual_weight=2.0)
    trunk, x, image = Trunk(), torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8, requires_grad=True)
    found = [maps.detach().requires_grad_() for maps in trunk.features(image)]
    own = torch.autograd.grad(2.0 * trunk.distance_of_features(found, trunk.features(x)).mean(), found)
    net.eval()  # or each look of the spectral norms would change them
    logits = net.feature_discriminator(found)
    others = torch.autograd.grad(-torch.stack([layer.mean() for layer in logits]).mean(), found)
    pulls = [a + 0.5 * a.norm() / b.norm() * b for a, b in zip(own, others, strict=True)]
    expected = torch.autograd.grad(trunk.features(image), image, pulls)[0]
    expected = expected + torch.autograd.grad((image - x).abs().mean(), image)[0]
    gradient, *_ = net._image_gradient(x, image, ALL, torch.zeros(2, 1, 1, 1))
    torch.testing.assert_close(gradient, expected)
    # Before it enters, LPIPS alone.
    gradient, *_ = net._image_gradient(x, image, ALL, None)
    total = (image - x).abs().mean() + 2.0 * trunk.distance_of_features(trunk.features(image), trunk.features(x)).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(total, image)[0])


def test_a_position_without_any_feature_makes_no_gradient_that_is_no_number():
    """LPIPS divides by the norm of a position's features, whose own gradient at zero is 0 / 0."""
    net = judged_by_features()
    trunk = net._perceptual[0]
    trunk.features = lambda x: [torch.relu(x), torch.relu(x).mean((2, 3), keepdim=True)]
    trunk.distance_of_features = lambda ours, theirs: sum(
        (x.square().sum(1).sqrt() - y.square().sum(1).sqrt()).square().mean((1, 2))
        for x, y in zip(ours, theirs, strict=True)
    )
    x, image = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    image[..., :4] = -1.0
    gradient, *_ = net._image_gradient(x, image.requires_grad_(), ALL, torch.zeros(2, 1, 1, 1))
    assert gradient.isfinite().all()
    assert gradient[..., 4:].abs().min() > 0


def test_features_without_lpips_are_refused_and_without_a_trunk_are_off():
    with pytest.raises(ValueError, match="perceptual_weight"):
        judged_by_features(perceptual_weight=0)
    loss = AutoencoderLossConfig(adversarial_weight=0, feature_adversarial_weight=0.5)
    net = AutoencoderModule((1, 8, 8), CONFIG, loss, TrainerConfig(), None)
    assert net.feature_discriminator is None
    assert len(net.configure_optimizers()) == 1


@pytest.mark.parametrize("steps", [1, 4])
def test_the_discriminator_of_features_is_shown_both_and_learns_to_tell_them(steps, monkeypatch):
    """By the steps of the trainer, with the decoder held still; also cut into parts, of which three have no image."""
    torch.manual_seed(0)
    net = judged_by_features(discriminator_lr=0.02, perceptual_share=0.25)
    net.settings = TrainerConfig(batch_size=4, gradient_accumulation_steps=steps)
    monkeypatch.setattr(net, "_optimizers", lambda: optimizers)
    monkeypatch.setattr(net, "manual_backward", lambda loss: loss.backward())
    optimizers = net.configure_optimizers()
    optimizers[0].step = lambda: None
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    before = None
    for net.images_seen in range(0, 240, 4):
        losses = net.train_batch((images,))
        before = before if before is not None else losses["feature_discriminator"].item()
    assert losses["feature_discriminator"].item() < 0.6 < 0.8 < before
    if steps == 1:  # else a part without any shows its first, of weight 0, as well
        photograph = Trunk().features(images[3:].float() / 127.5 - 1.0)
        for power, maps in zip(net.feature_discriminator.mean_squares, photograph, strict=True):
            torch.testing.assert_close(power, maps.square().mean(dim=(0, 2, 3)))


def without_a_step(optimizer, parameters, loss_functions, count):
    """What ``optimise`` returns, without a gradient and a step."""
    return {}, [function(slice(0, count)) for function in loss_functions]


def generator_loss(net, x, adversarial):
    dither = torch.zeros(len(x), 1, 1, 1) if adversarial else None
    return net._generator_loss(x, x, torch.zeros(len(x), *net.network.latent_shape), ALL, dither)


def test_a_discriminator_that_is_shown_fine_detail_is_not_shown_the_256_levels(monkeypatch):
    images = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    for bands in (False, True):
        net = module(adversarial_weight=0.3, adversarial_start=0, discriminator_bands=bands, discriminator_channels=8)
        net.settings = TrainerConfig(batch_size=4)
        shown = []
        monkeypatch.setattr(net.discriminator, "forward", lambda x, offset, shown=shown: (shown.append(x), x)[1])
        monkeypatch.setattr(net, "_optimizers", lambda: [None, None])
        monkeypatch.setattr(net, "optimise", without_a_step)
        net.train_batch((images,))
        of_generator, (real, fake) = shown[0], shown[1].chunk(2)
        # Both are moved, by less than half a level, and the decoder is judged by just what the discriminator is.
        assert torch.equal(of_generator, fake)
        levels = (real + 1.0) * 127.5
        assert torch.equal(levels.round().clamp(0, 255).byte(), images)
        off = (levels - images).abs()
        assert (off.max() < 1e-4) if not bands else (0.4 < off.max() <= 0.5)


def test_a_discriminator_of_fine_detail_has_its_grid_at_every_place_in_turn(monkeypatch):
    for bands, places in ((True, 16), (False, 1)):
        net = module(adversarial_weight=0.3, discriminator_bands=bands, discriminator_channels=8)
        net.settings = TrainerConfig(batch_size=4)
        asked = []
        monkeypatch.setattr(net.discriminator, "forward", lambda x, offset, asked=asked: (asked.append(offset), x)[1])
        for net.images_seen in range(0, 64, 4):
            net._logits(torch.zeros(1, 1, 8, 8))
        assert len(set(asked)) == places
        assert bands or asked[0] is None


@pytest.mark.parametrize(("share", "counted"), [(0.25, [4, 8, 12, 16]), (1.0, range(1, 17)), (0.01, [1])])
def test_the_perceptual_loss_is_the_mean_over_a_share_spread_over_the_batch(share, counted, monkeypatch):
    net = module(perceptual_weight=1.0, perceptual_share=share)
    net.settings = TrainerConfig(batch_size=16)
    weights = net._perceptual_weights()
    assert (weights.nonzero().flatten() + 1).tolist() == list(counted)
    assert weights.mean().item() == pytest.approx(1.0)
    net._perceptual[0] = Trunk()
    x, image = torch.zeros(16, 1, 8, 8), torch.randn(16, 1, 8, 8, requires_grad=True)
    some = [i - 1 for i in counted]
    expected = Trunk().distance_of_features(Trunk().features(image[some]), Trunk().features(x[some])).mean().item()
    # Cut into unequal parts, weighted as a step weights them.
    found = 0.0
    for part in (slice(0, 5), slice(5, 6), slice(6, 16)):
        *_, losses = net._image_gradient(
            x[part], image[part].detach().requires_grad_(), net._counted_images(part), None
        )
        found += len(x[part]) / 16 * float(losses["perceptual"].detach())
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_value_beyond_black_is_pulled_back_where_that_helps_and_pushed_no_further(monkeypatch):
    net = module(kl_weight=0.0)
    shown = torch.full((1, 1, 8, 8), -1.2, requires_grad=True)
    monkeypatch.setattr(net.network, "decode", lambda z: shown)
    target = torch.full((1, 1, 8, 8), -1.0)
    target[..., 4:] = 0.5
    found = generator_loss(net, target, adversarial=False)
    found.loss.backward()
    assert found.outputs.image.min() == -1.0
    assert found.logs["reconstruction"].item() == pytest.approx(0.75)  # half of it exactly black, half 1.5 too dark
    assert (shown.grad[..., :4] == 0).all()
    assert (shown.grad[..., 4:] < 0).all()


def test_a_pixel_that_is_exactly_right_is_left_alone_whatever_the_discriminator_wants(monkeypatch):
    net = module(kl_weight=0.0, adversarial_weight=1.0, discriminator_channels=8)
    shown = torch.full((1, 1, 8, 8), -1.0, requires_grad=True)
    monkeypatch.setattr(net.network, "decode", lambda z: shown)
    target = torch.full((1, 1, 8, 8), -1.0)
    target[..., 4:] = 0.5
    generator_loss(net, target, adversarial=True).loss.backward()
    assert (shown.grad[..., :4] == 0).all()
    assert (shown.grad[..., 4:] != 0).any()
