from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from latentdiff import checkpoint, load
from latentdiff import resources as shelf
from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.errors import CheckpointError
from latentdiff.folder_mark import Mark, write_mark
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.unet import UNet
from latentdiff.report.formats import sampling_settings

THRESHOLDING = ("none", "static", "dynamic")
NETWORK = NetworkConfig(channels=(8, 16), num_res_blocks=1, attention_levels=(1,), head_channels=8)
CODEC = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)


def codec():
    return AutoencoderCodec(Autoencoder((1, 10, 10), CODEC), CODEC, torch.tensor([0.2, 0.1]), torch.tensor([1.5, 0.7]))


def model(codec, names=("a", "b", "c")):
    config = NETWORK if names else NetworkConfig(**{**NETWORK.__dict__, "class_conditional": False})
    network = UNet(codec.latent_shape[0], len(names), config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return DiffusionModel(network, config, DiffusionConfig(), codec, names)


@pytest.mark.parametrize("make", [codec, lambda: IdentityCodec((1, 10, 10))])
def test_file_round_trip_gives_the_same_images(make, tmp_path):
    ours = model(make())
    ours.save(tmp_path / "model.safetensors", {"seconds": 1.0})
    theirs = load(tmp_path / "model.safetensors")
    images = ours.sample(5, labels=2, steps=4, seed=3)
    assert (images.dtype, images.shape) == (torch.uint8, (5, 1, 10, 10))
    assert torch.equal(images, theirs.sample(5, labels=2, steps=4, seed=3))
    assert theirs.class_names == ("a", "b", "c")
    assert theirs.header["provenance"] == {"seconds": 1.0}


def test_a_model_is_loaded_and_draws_without_importing_torchs_compiler(tmp_path):
    # It takes more than a second of the two that a first image has.
    model(codec()).save(tmp_path / "model.safetensors", {})
    command = (
        "import sys; from latentdiff import load; load(sys.argv[1]).sample(1, steps=2); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command, tmp_path / "model.safetensors"], check=False).returncode == 0


@pytest.mark.parametrize("of_codec", [False, True])
def test_a_model_is_saved_over_one_that_was_saved_and_over_nothing_else(tmp_path, of_codec):
    saved = codec().save if of_codec else model(codec()).save
    saved(tmp_path / "model.safetensors")
    saved(tmp_path / "model.safetensors")  # as torch.save does
    assert load(tmp_path / "model.safetensors").provenance == {}
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not written: .* no model of latentdiff"):
        saved(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "precious"
    # The same name in a run's folder is a model that took its training.
    write_mark(tmp_path, Mark("diffusion"))
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="it is the model of a run of the stage diffusion, and would be lost"):
        saved(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    saved(tmp_path / "mine.safetensors")


def test_bf16_file_halves_the_size_and_still_samples(tmp_path):
    ours = model(codec())
    ours.save(tmp_path / "full.safetensors", {})
    ours.save(tmp_path / "half.safetensors", {}, torch.bfloat16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.75 * sizes[0]
    assert load(tmp_path / "half.safetensors").sample(2, steps=2).shape == (2, 1, 10, 10)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_image_depends_on_seed_and_index_alone(sampler):
    net = model(codec())
    labels = [0, 1, 2, 0, 1, 2, 0]
    settings = {"steps": 5, "sampler": sampler, "seed": 9, "guidance_scale": 2.0}
    whole = net.sample(7, labels=labels, batch_size=64, **settings)
    for batch_size in (1, 3):
        assert torch.equal(whole, net.sample(7, labels=labels, batch_size=batch_size, **settings))
    assert not torch.equal(whole, net.sample(7, labels=labels, **{**settings, "seed": 10}))


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_bf16_gives_nearly_the_images_of_fp32_whatever_the_batch(guidance_scale):
    torch.manual_seed(0)
    net = model(codec())
    settings = {"steps": 5, "seed": 9, "guidance_scale": guidance_scale}
    low = net.sample(40, precision="bf16", **settings)
    for batch_size in (40, 17, 3):
        assert torch.equal(low, net.sample(40, precision="bf16", batch_size=batch_size, **settings))
    full = net.sample(40, **settings)
    off = (low.float() - full.float()).abs()
    assert 0.0 < off.mean() < 0.5  # of a grey level
    assert off.max() <= 8
    assert all(parameter.dtype == torch.float32 for parameter in net.network.parameters())
    assert torch.equal(full, net.sample(40, precision="fp32", **settings))


def test_a_guide_is_lowered_too(tmp_path):
    shared = codec()
    strong, weak = model(shared), model(shared)
    weak.save(tmp_path / "weak.safetensors", {})
    settings = {"steps": 3, "labels": 1, "precision": "bf16"}
    guided = strong.sample(4, guide=str(tmp_path / "weak.safetensors"), guidance_scale=0.0, **settings)
    assert torch.equal(guided, weak.sample(4, **settings))
    assert not torch.equal(guided, weak.sample(4, **{**settings, "precision": "fp32"}))


def test_a_lowered_precision_is_told_in_the_report_and_the_usual_one_is_not():
    told = [sampling_settings(SamplingRequest(num_images=1, precision=name).record()) for name in ("fp32", "bf16")]
    assert told == ["dpmpp_2m, 20 steps, guidance off", "dpmpp_2m, 20 steps, guidance off, precision bf16"]


def test_labels_come_in_turn_by_default_and_may_be_one_or_many():
    net = model(codec())
    assert net.resolve_labels(SamplingRequest(num_images=5)).tolist() == [0, 1, 2, 0, 1]
    assert net.resolve_labels(SamplingRequest(num_images=2, labels=1)).tolist() == [1, 1]
    assert net.resolve_labels(SamplingRequest(num_images=2, labels=torch.tensor([2, 0]))).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": 3}, "0: a, 1: b, 2: c"),
        ({"labels": [0, 1]}, "2 labels were given for 4"),
        ({"sampler": "magic"}, "sampler must be ddpm, ddim, .*, not 'magic'"),
        ({"steps": 0}, "from 1 to 100,000"),
        ({"eta": 0.5}, "eta belongs to the sampler ddim, euler_ancestral, dpmpp_2m_sde, not to dpmpp_2m"),
        ({"churn": 5.0}, "churn belongs to the sampler heun"),
        ({"sampler": "ddpm", "variance": "learned"}, "no learned variance"),
        ({"spacing": "random"}, "spacing must be trailing, .*, not 'random'"),
        ({"rho": 3.0}, "rho belongs to the karras spacing, not to trailing"),
        ({"spacing": "karras", "rho": 0.0}, "rho must be a number from 0.1"),
        ({"guidance_interval": (2.0, 1.0)}, "guidance_interval must be two rising numbers"),
        ({"batch_size": 0}, "batch_size"),
        ({"sampler": "ddim", "eta": 3.0}, "eta must be from 0 to 1"),
        ({"guidance_interval": (0.5, 2.0)}, "guidance_interval does nothing at guidance_scale 1"),
        ({"sampler": "heun", "churn_min": 0.1}, "churn_min does nothing without churn"),
        ({"sampler": "heun", "churn": 0.0, "churn_noise": 1.1}, "churn_noise does nothing without churn"),
        ({"thresholding": "dynamic"}, "thresholding dynamic is for pixels: latents have no bounds"),
        ({"sampler": "heun", "churn": -1.0}, "churn must be a number from 0"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(settings, message):
    with pytest.raises(ValueError, match=message):
        model(codec()).sample(4, **settings)


def test_what_pixels_are_bounded_by_is_accepted_for_them_alone():
    images = {name: model(IdentityCodec((1, 10, 10))).sample(2, steps=3, thresholding=name) for name in THRESHOLDING}
    assert not torch.equal(images["static"], images["dynamic"])
    latent = model(codec())
    assert torch.equal(*(latent.sample(2, steps=3, thresholding=name) for name in ("static", "none")))


def test_unconditional_model_takes_no_classes():
    net = model(codec(), names=())
    assert net.sample(2, steps=2).shape == (2, 1, 10, 10)
    with pytest.raises(ValueError, match="takes no labels"):
        net.sample(2, labels=0)
    with pytest.raises(ValueError, match="guidance_scale must be 1"):
        net.sample(2, guidance_scale=2.0)


def test_guidance_needs_class_dropout():
    net = model(codec())
    net.diffusion = DiffusionConfig(class_dropout=0.0)
    with pytest.raises(ValueError, match="without class dropout"):
        net.sample(2, guidance_scale=2.0)


def test_a_weaker_model_guides_and_one_of_another_kind_is_refused(tmp_path):
    shared = codec()
    strong, weak, other = model(shared), model(shared), model(shared)
    for parameter in weak.network.parameters():
        parameter.mul_(0.5)
    other.diffusion = DiffusionConfig(target="x0")
    for name, net in (("weak", weak), ("other", other)):
        net.save(tmp_path / f"{name}.safetensors", {})
    settings = {"steps": 3, "seed": 1, "labels": 1}
    guide = str(tmp_path / "weak.safetensors")
    plain = strong.sample(4, **settings)
    with pytest.raises(ValueError, match="does nothing at guidance_scale 1"):
        strong.sample(4, guide=guide, **settings)
    assert torch.equal(strong.sample(4, guide=guide, guidance_scale=0.0, **settings), weak.sample(4, **settings))
    assert not torch.equal(strong.sample(4, guide=guide, guidance_scale=3.0, **settings), plain)
    nowhere = strong.sample(4, guide=guide, guidance_scale=3.0, guidance_interval=(1e8, 1e9), **settings)
    assert torch.equal(nowhere, plain)
    with pytest.raises(ValueError, match="its process and target differs"):
        strong.sample(4, guide=str(tmp_path / "other.safetensors"), guidance_scale=2.0)


def test_a_guide_on_another_autoencoders_latents_is_refused(tmp_path):
    elsewhere = codec()
    elsewhere.mean = elsewhere.mean + 0.5
    model(elsewhere).save(tmp_path / "weak.safetensors", {})
    with pytest.raises(ValueError, match="its latent space differs"):
        model(codec()).sample(2, guide=str(tmp_path / "weak.safetensors"), guidance_scale=2.0)


def test_rho_moves_the_steps_and_is_recorded_only_where_it_was_set():
    net, settings = model(codec()), {"steps": 4, "seed": 1, "spacing": "karras"}
    usual = net.sample(2, **settings)
    assert torch.equal(usual, net.sample(2, rho=7.0, **settings))
    assert not torch.equal(usual, net.sample(2, rho=2.0, **settings))
    assert "rho" not in SamplingRequest(num_images=2, **settings).record()
    record = SamplingRequest(num_images=2, rho=2.0, **settings).record()
    told = sampling_settings(record)
    assert told == "dpmpp_2m, 4 steps, guidance off, spacing karras, rho 2.0"


def test_a_record_holds_what_was_set():
    record = SamplingRequest(num_images=3, sampler="ddim", eta=0.5).record()
    assert (record["sampler"], record["eta"], record["steps"]) == ("ddim", 0.5, 20)
    assert "churn" not in record


def test_sampling_leaves_gradients_as_they_were():
    list(model(codec()).batches(SamplingRequest(num_images=2, steps=2)))
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_load_gives_a_codec_for_an_autoencoder_and_refuses_other_kinds(tmp_path):
    ours = codec()
    path = tmp_path / "autoencoder.safetensors"
    checkpoint.save(path, "autoencoder", ours.state(), {"codec": ours.header()})
    theirs = load(path)
    images = torch.randint(0, 256, (2, 1, 10, 10), dtype=torch.uint8)
    assert theirs.latent_shape == (2, 5, 5)
    assert torch.equal(theirs.encode(images), ours.encode(images))
    released = shelf.find_checkpoint("fashion-mnist/classifier.safetensors")
    header, tensors = checkpoint.read(released)
    checkpoint.save(path, "classifier", tensors, header)
    with pytest.raises(CheckpointError, match="holds a classifier"):
        load(path)
    with pytest.raises(CheckpointError, match="there is no model file"):
        load(tmp_path / "absent.safetensors")
    for nothing in (None, "", 3, b"model.safetensors"):
        with pytest.raises(CheckpointError, match="a model is named by its path, not by"):
            load(nothing)


RELEASED = shelf.find_checkpoint("fashion-mnist/latent.safetensors")


@pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")
def test_released_latent_model_samples_the_class_asked_for():
    from latentdiff.evaluation.feature_nets import ClassifierFeatures

    net = load("checkpoints/fashion-mnist/latent.safetensors", exact=True)
    images = net.sample(num_images=16, labels=3, steps=20, seed=0)
    assert (images.dtype, images.shape) == (torch.uint8, (16, 1, 28, 28))
    assert torch.equal(images, net.sample(num_images=16, labels=3, steps=20, seed=0, batch_size=7))
    judge = ClassifierFeatures(shelf.find_checkpoint("fashion-mnist/classifier.safetensors"))
    assert (judge(images).logits.argmax(1) == 3).float().mean() > 0.7


@pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")
def test_every_solver_of_the_flow_takes_the_released_model_to_the_same_images():
    """Closed-form denoisers forgive a bad step near pure noise; a trained network does not."""
    net = load("checkpoints/fashion-mnist/latent.safetensors")
    truth = net.sample(4, sampler="unipc", steps=50).float()
    for sampler in ("ddim", "euler", "heun", "dpmpp_2m"):
        assert (net.sample(4, sampler=sampler, steps=20).float() - truth).abs().mean() < 5.0  # grey levels of 255
    assert (net.sample(4, sampler="unipc", steps=10, seed=1).float() - truth).abs().mean() > 20.0


@pytest.mark.parametrize(("name", "labels"), [("celeba", None), ("flowers-102", 50)])
def test_the_released_colour_models_sample_photographs_and_encode_their_own(name, labels):
    if shelf.find_checkpoint(f"{name}/latent.safetensors") is None:
        pytest.skip("the released model is not installed")
    net = load(f"checkpoints/{name}/latent.safetensors")
    images = net.sample(num_images=3, labels=labels, steps=10, seed=0)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 64, 64))
    assert images.float().std() > 20.0  # neither grey nor all alike
    assert (images[0].float() - images[1].float()).abs().mean() > 10.0
    codec = load(f"checkpoints/{name}/autoencoder.safetensors")
    assert net.codec.same_space(codec)
    again = codec.decode(codec.standardise(codec.encode(images).chunk(2, dim=1)[0]))
    assert (again.float() - images.float()).abs().mean() < 12.0
