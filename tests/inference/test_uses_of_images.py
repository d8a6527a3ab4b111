from __future__ import annotations

import pytest
import torch

from latentdiff import load
from latentdiff import resources as shelf
from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import generate, interpolate, invert
from latentdiff.inference.likelihood import bits_per_dim
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.noising import forward_process, reconstruct, reverse_process
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.unet import UNet

NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
CODEC = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
IMAGES = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def model(latent=False, **diffusion):
    torch.manual_seed(0)
    codec = IdentityCodec((1, 8, 8))
    if latent:
        codec = AutoencoderCodec(Autoencoder((1, 8, 8), CODEC), CODEC, torch.zeros(2), torch.ones(2))
    network = UNet(codec.latent_shape[0], 2, NETWORK)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return DiffusionModel(network, NETWORK, DiffusionConfig(**diffusion), codec, ("a", "b"))


def test_forward_process_goes_from_the_images_to_noise():
    frames = forward_process(model(), IMAGES, [0.0, 0.5, 1.0])
    assert frames.shape == (3, 3, 1, 8, 8)
    assert torch.equal(frames[0], IMAGES)
    distance = (frames.float() - IMAGES).abs().mean(dim=(1, 2, 3, 4))
    assert distance[0] < distance[1] < distance[2]


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_reverse_process_goes_from_noise_to_what_sampling_gives(latent, sampler):
    net, settings = model(latent), {"labels": [0, 1, 1], "sampler": sampler, "steps": 6, "seed": 4}
    frames = reverse_process(net, 3, 4, **settings)
    assert (frames.dtype, frames.shape) == (torch.uint8, (4, 3, 1, 8, 8))
    first = PerImageNoise(4, range(3), net.codec.latent_shape)() * float(net.schedule.sampling_levels(6).sigma[0])
    assert torch.equal(frames[0], net.codec.decode(first))
    assert torch.equal(frames[-1], net.sample(3, **settings))
    # Every state is there to be had; neither batches nor other images change any.
    every = reverse_process(net, 3, 7, batch_size=2, **settings)
    assert torch.equal(every[[0, 2, 4, 6]], frames)


def test_a_reverse_process_of_impossible_frames_is_refused():
    for frames in (1, 8):
        with pytest.raises(ValueError, match=f"frames must be from 2, noise and image, to 7 for 6 steps, not {frames}"):
            reverse_process(model(), 1, frames, steps=6)


@pytest.mark.parametrize("latent", [False, True])
def test_reconstruction_from_no_noise_is_the_codecs_own(latent):
    net = model(latent)
    frames = reconstruct(net, IMAGES, [0.0, 1.0], steps=4, sampler="ddim")
    expected = net.codec.reconstruct(IMAGES) if latent else IMAGES
    assert torch.equal(frames[0], expected)
    # From the last level the way is that of sampling with an image's trace in the noise.
    assert not torch.equal(frames[1], expected)
    again = reconstruct(net, IMAGES[:2], [1.0], steps=4, sampler="ddim")
    assert torch.equal(again[0], frames[1][:2])


@pytest.mark.parametrize("latent", [False, True])
def test_batches_change_no_image(latent):
    net, mask = model(latent), torch.ones(8, 8, dtype=torch.bool)
    settings = {"labels": [0, 1, 0], "steps": 3}
    whole = reconstruct(net, IMAGES, [0.0, 0.7], sampler="ddpm", **settings)
    assert torch.equal(reconstruct(net, IMAGES, [0.0, 0.7], sampler="ddpm", batch_size=2, **settings), whole)
    whole = inpaint(net, IMAGES, mask, resamples=2, **settings)
    assert torch.equal(inpaint(net, IMAGES, mask, resamples=2, batch_size=2, **settings), whole)


def test_no_strength_is_refused():
    with pytest.raises(ValueError, match="strengths must name at least one"):
        reconstruct(model(), IMAGES, [])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        reconstruct(model(), IMAGES, [share])


@pytest.mark.parametrize("settings", [{}, {"schedule": "edm", "target": "edm"}, {"num_train_steps": None}])
def test_inversion_is_undone_by_generation(settings):
    net = model(**settings)
    noise = invert(net, IMAGES, labels=1, steps=60)
    assert noise.shape == (3, 1, 8, 8)
    back = generate(net, noise, labels=1, steps=60)
    assert (back.int() - IMAGES.int()).abs().float().mean() < 3


def test_interpolation_keeps_its_ends():
    net = model()
    frames = interpolate(net, IMAGES[:1], IMAGES[1:2], 5, steps=40)
    assert frames.shape == (5, 1, 1, 8, 8)
    assert (frames[0].int() - IMAGES[:1].int()).abs().float().mean() < 3
    assert (frames[-1].int() - IMAGES[1:2].int()).abs().float().mean() < 3
    with pytest.raises(ValueError, match="2 images, its ends"):
        interpolate(net, IMAGES[:1], IMAGES[1:2], 1)


@pytest.mark.parametrize("latent", [False, True])
def test_inpainting_changes_nothing_outside_the_mask(latent):
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 5:] = True
    filled = inpaint(model(latent), IMAGES, mask, labels=[0, 1, 0], steps=3, resamples=2)
    assert torch.equal(filled[..., :5], IMAGES[..., :5])
    assert not torch.equal(filled[..., 5:], IMAGES[..., 5:])
    with pytest.raises(ValueError, match=r"the mask must be \[8, 8\]"):
        inpaint(model(), IMAGES, mask[:4], labels=0)


def test_bits_per_dim_of_a_model_that_knows_nothing_are_about_those_of_uniform_noise():
    """A denoiser of standard normal data, whose bound on uniform pixels is the cross-entropy, in closed form."""
    net = model(schedule="linear", target="x0", num_train_steps=1000)
    pixels = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    levels = net.schedule.levels(torch.arange(1000))

    def network(x, time, labels):
        return levels.alpha[time.long()].to(x.dtype)[:, None, None, None] * x  # E[x0 | x] for N(0, 1)

    network.null_label = 2
    net.network = _Callable(network)
    net.codec.value_range = (-9.0, 9.0)  # the clamp to [-1, 1] is knowledge of its own
    x = pixels.float() / 127.5 - 1
    exact = (0.5 * x.square() + 0.5 * torch.log(torch.tensor(2 * torch.pi))).mean() / torch.log(torch.tensor(2.0))
    exact = float(exact + torch.log2(torch.tensor(127.5)))
    bound = bits_per_dim(net, pixels, labels=0, variance="large")
    assert float(bound.mean()) == pytest.approx(exact, abs=0.05)
    ode = bits_per_dim(net, pixels, labels=0, method="ode", steps=100)
    assert float(ode.mean()) == pytest.approx(exact, abs=0.05)


class _Callable(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.null_label, self.tokenizer = function, function.null_label, None
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, *arguments):
        return self.function(*arguments)


def test_a_model_without_class_dropout_needs_labels():
    with pytest.raises(ValueError, match="give it labels"):
        reconstruct(model(class_dropout=0.0), IMAGES, [0.5])


@pytest.mark.skipif(
    shelf.find_checkpoint("fashion-mnist/latent.safetensors") is None, reason="the released model is not installed"
)
def test_released_model_predicts_garments_better_than_noise():
    from latentdiff.config import DataConfig
    from latentdiff.data import load_split

    net = load("checkpoints/fashion-mnist/latent.safetensors")
    real = load_split(DataConfig(source="embedded"), "test").images[:8]
    noise = torch.randint(0, 256, real.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bits = [float(bits_per_dim(net, images, steps=50).mean()) for images in (real, noise)]
    assert bits[0] < bits[1] - 1


def test_inpainting_does_not_see_what_is_hidden():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 5:] = True
    other = torch.where(mask, 255 - IMAGES, IMAGES)
    runs = [inpaint(model(latent=True), images, mask, labels=0, steps=3) for images in (IMAGES, other)]
    assert torch.equal(*runs)


def test_bits_of_an_image_do_not_depend_on_its_batch():
    net = model(num_train_steps=5)
    whole = bits_per_dim(net, IMAGES, labels=1)
    parts = [bits_per_dim(net, IMAGES[i : i + 1], labels=1, first=i) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "elbo"}, "method must be bound or ode, not 'elbo'"),
        ({"variance": "fixed"}, "variance must be small, large, learned or None, not 'fixed'"),
    ],
)
def test_a_likelihood_that_there_is_not_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        bits_per_dim(model(), IMAGES, **settings)


def test_few_training_steps_are_enough_to_follow_the_flow():
    net = model(num_train_steps=5)
    assert invert(net, IMAGES, steps=30).shape == (3, 1, 8, 8)
    assert torch.isfinite(bits_per_dim(net, IMAGES, method="ode", steps=30)).all()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_reconstruction_from_the_noisiest_level_has_no_step_without_length(sampler):
    """The first Karras level of 25 is one rounding below it."""
    images = reconstruct(
        model(schedule="ve", target="edm", sigma_min=0.01, sigma_max=25.0), IMAGES, [1.0], sampler=sampler
    )
    assert images.shape[-3:] == (1, 8, 8)
