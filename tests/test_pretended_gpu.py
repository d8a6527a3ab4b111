"""Forward passes on a pretended GPU: no tensor of the CPU meets one of the GPU, and no step waits for the host.

What sampling does beside its steps is listed in ``OF_A_BATCH`` and ``OF_A_CALL``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision

from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.diffusion.likelihood import variational_bound
from latentdiff.diffusion.loss import VarianceLoss, training_losses
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import TARGETS, build_target
from latentdiff.evaluation import feature_nets
from latentdiff.inference import inpainting
from latentdiff.inference import model as model_module
from latentdiff.inference.inversion import generate, invert
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.noising import reconstruct, reverse_process
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.classifier import Classifier
from latentdiff.models.discriminator import PatchDiscriminator
from latentdiff.models.feature_discriminator import FeatureDiscriminator
from latentdiff.models.lpips import LPIPS
from latentdiff.models.network import build_network
from latentdiff.training.ema import Ema
from latentdiff.training.post_hoc_ema import PowerAverages
from tests.pretend_device import PretendDevice

GPU = PretendDevice("cuda")
CODEC = AutoencoderConfig(channels=(4, 4), encoder_blocks=1, decoder_blocks=1, attention=False)
NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(0,), head_channels=8)
UINT8 = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
IMAGES = torch.zeros(4, 1, 8, 8)
LABELS = torch.zeros(4, dtype=torch.int64)
# Images of a batch come to the CPU. What a call takes there: the labels.
OF_A_BATCH, OF_A_CALL = {"cuda to cpu": 1}, {"cpu to cuda": 1}


def model(pixels=True, **process):
    process = {"num_train_steps": 20, "class_dropout": 0.1, "target": "v", **process}
    config = DiffusionConfig(**process)
    codec = IdentityCodec((1, 8, 8)) if pixels else latent_codec()
    channels = codec.latent_shape[0]
    network = build_network(channels, 2, NETWORK, channels * (2 if config.learn_variance else 1))
    return DiffusionModel(GPU.module(network), NETWORK, config, codec, ("a", "b"))


def latent_codec(**settings):
    config = replace(CODEC, **settings)
    shape = (3 if config.smooth_colours else 1, 8, 8)
    statistics = (GPU.tensor(torch.zeros(config.latent_channels)) for _ in range(2))
    return AutoencoderCodec(GPU.module(Autoencoder(shape, config)), config, *statistics)


@pytest.fixture
def pretended(monkeypatch):
    """The GPU. The numbers that a call reads at its start and at its end are not there to be read."""
    monkeypatch.setattr(model_module.checkpoint, "name_of_not_finite", lambda weights: None)
    for user in (model_module, inpainting):
        monkeypatch.setattr(user, "check_finite_samples", lambda finite, request: finite.clear())
    with GPU.entered() as counted:
        yield counted


SAMPLING = {
    **{name: {"sampler": name} for name in SAMPLERS},
    "ddim with noise": {"sampler": "ddim", "eta": 1.0},
    "large variance": {"sampler": "ddpm", "variance": "large"},
    "churn": {"sampler": "heun", "churn": 5.0},
    "karras": {"spacing": "karras"},
    "guidance": {"guidance_scale": 2.0},
    "without the class": {"guidance_scale": 0.0},
    "guidance in an interval": {"guidance_scale": 2.0, "guidance_interval": (0.1, 2.0)},
    "dynamic": {"thresholding": "dynamic", "guidance_scale": 2.0},
}


def some(cases, quick):
    """The cases, of which all but a few are slow."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("case", some(SAMPLING, ("ddpm", "guidance in an interval")))
def test_sampling_steps_wait_for_nothing(case, pretended):
    diffusion = model()
    for steps in (1, 3):
        pretended.copies.clear()
        images = diffusion.sample(6, steps=steps, batch_size=4, **SAMPLING[case])
        assert (images.shape, images.dtype, images.device.type) == ((6, 1, 8, 8), torch.uint8, "cpu")
        assert pretended.copies == {name: 2 * count for name, count in OF_A_BATCH.items()} | OF_A_CALL


@pytest.mark.slow
def test_sampling_with_a_learned_variance_copies_its_tables_once_a_batch(pretended):
    diffusion, counts = model(learn_variance=True), []
    for steps in (1, 3):
        pretended.copies.clear()
        diffusion.sample(4, steps=steps, sampler="ddpm")
        counts.append(dict(pretended.copies))
    assert counts[0] == counts[1]


PROCESSES = [
    *({"target": target, "schedule": "linear"} for target in TARGETS),
    {"schedule": "edm", "target": "edm", "num_train_steps": None},
    {"schedule": "ve", "target": "score", "num_train_steps": None},
    {"schedule": "cosine", "num_train_steps": None},
    {"schedule": "sigmoid", "zero_terminal_snr": True},
]


@pytest.mark.parametrize("process", some(PROCESSES, PROCESSES[-2:]), ids=str)
def test_losses_and_samples_of_a_process(process, pretended):
    diffusion = model(pixels=False, **process)
    x0 = diffusion.codec.sample(diffusion.codec.encode(UINT8), noise=GPU.tensor(torch.zeros(4, 2, 4, 4)))
    levels = diffusion.schedule.training_levels(torch.rand(4, device=GPU.device))
    pretended.copies.clear()
    losses = training_losses(
        diffusion.network, x0, x0, levels, GPU.tensor(LABELS), diffusion.target, diffusion.diffusion
    )
    assert losses["loss"].device.type == "cuda"
    assert not pretended.copies
    assert diffusion.sample(4, steps=3).shape == UINT8.shape


@pytest.mark.parametrize("variance", some(("small", "large", "learned"), ("learned",)))
def test_the_variational_bound(variance, pretended):
    config = DiffusionConfig(num_train_steps=5, target="eps", schedule="linear", learn_variance=True)
    schedule = build_schedule(config)
    network = GPU.module(build_network(1, 2, NETWORK, 2))
    loss = training_losses(
        network,
        x := GPU.tensor(IMAGES),
        x,
        schedule.training_levels(torch.rand(4, device=GPU.device)),
        GPU.tensor(LABELS),
        build_target(config),
        config,
        VarianceLoss(schedule, discretised=True),
    )
    assert loss["bound"].device.type == "cuda"
    denoiser = model_module.NetworkDenoiser(
        network=network, target=build_target(config), labels=GPU.tensor(LABELS), null_label=2, value_range=(-1.0, 1.0)
    )
    bound = variational_bound(denoiser, x, schedule.sampling_levels(5), lambda: x, variance, discretised=True)
    assert bound.total.device.type == "cuda"


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [True, False])
def test_uses_of_images(pixels, pretended):
    diffusion = model(pixels=pixels)
    mask = torch.ones(8, 8, dtype=torch.bool)
    for images in (
        reconstruct(diffusion, UINT8, [0.0, 0.5], steps=4)[0],
        reverse_process(diffusion, 4, 3, steps=4)[0],
        inpainting.inpaint(diffusion, UINT8, mask, steps=2),
        generate(diffusion, invert(diffusion, UINT8, steps=2), steps=2),
    ):
        assert (images.shape, images.dtype, images.device.type) == (UINT8.shape, torch.uint8, "cpu")


@pytest.mark.parametrize(
    "settings",
    [{}, {"attention": True, "channels": (32, 32)}, {"patch": 2, "refine_channels": 4}, {"smooth_colours": True}],
    ids=str,
)
def test_codecs(settings, pretended):
    codec = latent_codec(**settings)
    images = UINT8.expand(4, codec.image_shape[0], 8, 8)
    moments = codec.encode(images)
    latents = codec.sample(moments, noise=GPU.tensor(torch.zeros(4, *codec.latent_shape)))
    assert codec.decode(latents).shape == codec.reconstruct(images).shape == images.shape
    assert codec.decode_prior(torch.zeros(4, *codec.latent_shape)).device.type == "cuda"


@pytest.mark.parametrize(
    "settings",
    [
        {"conditioning": "additive", "time_embedding": "fourier"},
        pytest.param({"conditioning": "batch_norm", "dropout": 0.1}, marks=pytest.mark.slow),
        {"conditioning": "none", "class_conditional": False},
        {"architecture": "resnet", "attention_levels": ()},
        pytest.param({"channels": (8, 8), "attention_levels": (0, 1)}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_networks_and_their_averages(settings, pretended):
    network = build_network(1, 2, replace(NETWORK, **settings))
    averages = GPU.module(torch.nn.ModuleList([Ema(network, 100, 1.0), PowerAverages(network)]))
    network = GPU.module(network)
    labels = None if network.null_label is None else GPU.tensor(LABELS)
    out = network(GPU.tensor(IMAGES), GPU.tensor(torch.zeros(4)), labels)
    assert (out.shape, out.device.type) == (IMAGES.shape, "cuda")
    for average in averages:
        average.update(network, 8, 4)
    assert not pretended.copies


@pytest.mark.slow
def test_judges_of_images(pretended, inception_file):
    x = GPU.tensor(IMAGES)
    discriminator = GPU.module(PatchDiscriminator(1, 4, bands=True))
    assert discriminator(x, (1, 2)).device.type == "cuda"
    trunk = torchvision.models.alexnet(weights=None).features.state_dict(prefix="features.")
    lpips = GPU.module(LPIPS(trunk, "alexnet", 64))
    features = lpips.features(x)
    assert lpips.distance_of_features(features, features).device.type == "cuda"
    judge = GPU.module(FeatureDiscriminator(lpips.widths, 4))
    judge.update_mean_squares([maps.square().mean(dim=(0, 2, 3)) for maps in features])
    assert {logits.device.type for logits in judge(features)} == {"cuda"}
    assert not pretended.copies

    pooled, logits = GPU.module(Classifier((1, 8, 8), 3, (4, 4))).eval().features(x)
    assert (pooled.device.type, logits.shape) == ("cuda", (4, 3))
    net = feature_nets.InceptionFeatures(inception_file)
    net._net, net.device = GPU.module(net._net), GPU.device
    seen = net(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    assert (seen.pooled.shape, seen.pooled.device.type) == ((2, 2048), "cpu")
