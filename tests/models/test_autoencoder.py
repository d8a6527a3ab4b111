from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latentdiff.config import AutoencoderConfig
from latentdiff.models.autoencoder import Autoencoder, kl_per_dim, sample_posterior
from latentdiff.models.colour import blur, blur_chroma, luma
from latentdiff.models.discriminator import (
    BAND_SCALE,
    PatchDiscriminator,
    append_detail_bands,
    hinge_discriminator_loss,
    hinge_generator_loss,
)

SMALL = {"channels": (8, 16, 32), "encoder_blocks": 1, "decoder_blocks": 1}


@pytest.mark.parametrize(
    ("image_shape", "latent_shape"),
    [((1, 28, 28), (2, 7, 7)), ((3, 30, 30), (2, 8, 8)), ((1, 29, 17), (2, 8, 5)), ((3, 5, 64), (2, 2, 16))],
)
def test_any_image_size_comes_back_in_its_own(image_shape, latent_shape):
    model = Autoencoder(image_shape, AutoencoderConfig(**SMALL))
    x = torch.randn(2, *image_shape)
    moments = model.encode(x)
    assert moments.shape == (2, 4, *latent_shape[1:])
    assert model.latent_shape == latent_shape
    assert model.decode(sample_posterior(moments, torch.randn(2, *latent_shape))).shape == x.shape
    assert model.compression == math.prod(image_shape) / math.prod(latent_shape)


@pytest.mark.parametrize(
    ("image_shape", "patch", "latent_shape"),
    [((3, 64, 64), 2, (2, 8, 8)), ((1, 29, 17), 2, (2, 4, 3)), ((1, 31, 28), 4, (2, 2, 2)), ((3, 5, 2), 4, (2, 1, 1))],
)
def test_patches_keep_any_image_size(image_shape, patch, latent_shape):
    model = Autoencoder(image_shape, AutoencoderConfig(patch=patch, **SMALL))
    x = torch.randn(2, *image_shape)
    assert model.latent_shape == latent_shape
    assert model.encode(x).shape == (2, 4, *latent_shape[1:])
    assert model.decode(torch.randn(2, *latent_shape)).shape == x.shape


def test_every_pixel_of_a_patch_is_seen_and_drawn():
    model = Autoencoder((1, 7, 9), AutoencoderConfig(patch=2, **SMALL))
    x = torch.randn(1, 1, 7, 9, requires_grad=True)
    model.encoder.stem(x).square().sum().backward()
    assert (x.grad[..., :6, :8] != 0).all()
    torch.nn.init.normal_(model.decoder.head.bias)
    image = model.decode(torch.randn(1, *model.latent_shape))[0, 0]
    assert image[:4, :4].unique().numel() == 16  # no pixel copies its neighbour


@pytest.mark.parametrize("image_shape", [(3, 16, 16), (1, 13, 10)])
def test_refinement_adds_nothing_at_first_and_then_looks_beyond_a_patch(image_shape):
    config = AutoencoderConfig(patch=2, refine_channels=4, **SMALL)
    model = Autoencoder(image_shape, config)
    refine = model.decoder.refine
    image = torch.randn(1, *image_shape)
    features = torch.randn(1, SMALL["channels"][0], *(-(-side // 2) for side in image_shape[1:]))
    assert refine(image, features).shape == image.shape
    assert not refine(image, features).any()
    torch.nn.init.normal_(refine.layers[-1].weight)
    image.requires_grad_()
    refine(image, features)[0, 0, 4, 4].backward()
    reached = image.grad.abs().sum(dim=(0, 1)) > 0
    assert reached[1:8, 1:8].all()  # three pixels to each side, across the borders of the patches
    assert reached.sum() == 49


def test_smooth_colours_leave_the_luma_and_take_the_finest_detail_from_the_rest():
    torch.manual_seed(0)
    rough = Autoencoder((3, 15, 16), AutoencoderConfig(**SMALL))
    smooth = Autoencoder((3, 15, 16), AutoencoderConfig(smooth_colours=True, **SMALL))
    smooth.load_state_dict(rough.state_dict())
    z = torch.randn(2, *rough.latent_shape)
    a, b = rough.decode(z), smooth.decode(z)
    torch.testing.assert_close(luma(b), luma(a), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(b - luma(b), blur(a - luma(a)), atol=1e-5, rtol=0.0)
    grey = torch.rand(1, 1, 6, 6).expand(1, 3, 6, 6)
    torch.testing.assert_close(blur_chroma(grey), grey)
    with pytest.raises(ValueError, match="RGB images of at least 3x3 pixels, not 1x8x8"):
        Autoencoder((1, 8, 8), AutoencoderConfig(smooth_colours=True, **SMALL))


def test_default_compresses_fashion_mnist_eightfold():
    assert Autoencoder((1, 28, 28), AutoencoderConfig()).compression == 8.0


def test_kl_and_draw_are_the_gaussian_ones():
    moments = torch.randn(5, 6, 3, 3)
    mean, logvar = moments.chunk(2, dim=1)
    posterior = Normal(mean, torch.exp(0.5 * logvar))
    torch.testing.assert_close(kl_per_dim(moments), kl_divergence(posterior, Normal(0.0, 1.0)).mean())
    noise = torch.randn(20_000, 1, 1, 1)
    one = torch.tensor([0.3, math.log(4.0)]).reshape(1, 2, 1, 1)
    z = sample_posterior(one.expand(20_000, -1, -1, -1), noise)
    assert abs(z.mean() - 0.3) < 0.06
    assert abs(z.std() - 2.0) < 0.05


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="1 to 16 whole numbers"):
        Autoencoder((1, 8, 8), AutoencoderConfig(channels=()))
    with pytest.raises(ValueError, match="patch"):
        Autoencoder((1, 8, 8), AutoencoderConfig(patch=0))
    with pytest.raises(ValueError, match="heads"):
        Autoencoder((1, 8, 8), AutoencoderConfig(channels=(8, 40)))


@pytest.mark.parametrize("bands", [False, True])
def test_discriminator_judges_patches_and_each_image_alone(bands):
    net = PatchDiscriminator(1, 8, bands=bands).eval()
    x = torch.randn(4, 1, 28, 28)
    assert net(x).shape == (4, 1, 7, 7)
    torch.testing.assert_close(net(x)[:1], net(x[:1]))
    louder = PatchDiscriminator(1, 8, gain=10.0, bands=bands).eval()
    louder.load_state_dict(net.state_dict())
    torch.testing.assert_close(louder(x), 10.0 * net(x))


def test_bands_are_an_images_detail_at_unit_scale():
    x = torch.randn(2, 3, 20, 23, dtype=torch.float64)
    image, finest, fine = append_detail_bands(x).split([3, 1, 1], dim=1)
    assert torch.equal(image, x)
    # What is left below the two bands is the image's luma blurred twice.
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16.0
    luma = torch.einsum("bchw,c->bhw", x, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))[:, None]
    rest = luma
    for _ in range(2):
        padded = torch.nn.functional.pad(rest, (2, 2, 2, 2), mode="reflect")
        rest = torch.einsum("bchwij,i,j->bchw", padded.unfold(2, 5, 1).unfold(3, 5, 1), taps, taps)
    torch.testing.assert_close(luma - BAND_SCALE * (finest + fine), rest)
    # Colours alone have no place in them.
    coloured = x + torch.randn_like(x[:, :1]) * torch.tensor([0.587, -0.299, 0.0], dtype=x.dtype)[:, None, None]
    torch.testing.assert_close(append_detail_bands(coloured)[:, 3:], append_detail_bands(x)[:, 3:])
    flat = append_detail_bands(torch.full((1, 1, 8, 8), 0.7))
    torch.testing.assert_close(flat[:, 1:], torch.zeros(1, 2, 8, 8), atol=1e-5, rtol=0.0)
    # A checkerboard, the finest that there is, is all in the finest band.
    board = 0.01 * (1.0 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2))
    _, finest, fine = append_detail_bands(board.expand(1, 1, 16, 16)).chunk(3, dim=1)
    torch.testing.assert_close(finest, board.expand(1, 1, 16, 16) / BAND_SCALE)
    assert fine.abs().max() < 1e-6


def test_bands_are_not_rounded_to_bf16():
    x = torch.rand(1, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(append_detail_bands(x), append_detail_bands(x).float())
        under_autocast = append_detail_bands(x)
    assert torch.equal(under_autocast, append_detail_bands(x))


def test_bands_let_a_discriminator_find_faint_detail():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)

    def hinge(bands: bool) -> float:
        net = PatchDiscriminator(1, 8, gain=10.0, bands=bands)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.5, 0.9), weight_decay=0.0)
        for _ in range(100):
            smooth = torch.rand(8, 1, 4, 4, generator=generator).mul(2).sub(1)
            real = torch.nn.functional.interpolate(smooth, size=16, mode="bilinear")
            fake = real + 0.02 * torch.randn(real.shape, generator=generator)
            loss = hinge_discriminator_loss(*net(torch.cat([real, fake])).chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert hinge(bands=True) < 0.3
    assert hinge(bands=False) > 0.9


def test_an_offset_moves_the_image_on_the_grid_of_strides():
    net = PatchDiscriminator(1, 8, bands=True).eval()
    x = torch.randn(2, 1, 32, 32)
    logits = net(x, (1, 3))
    assert logits.shape == (2, 1, 8, 8)
    assert not torch.allclose(logits, net(x, (2, 3)))
    # By its own zeros around it, inside those of the convolutions: the bands at its edges are those of the image alone.
    torch.testing.assert_close(logits, net.layers(torch.nn.functional.pad(append_detail_bands(x), (3, 0, 1, 2))))


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0])
    assert hinge_discriminator_loss(real, fake) == 0.5 * (0.25 + 0.5)
    assert hinge_generator_loss(fake) == 1.0
