"""--init diffusers:…: the U-Net is kept, and fitted to other colours, classes, sides and variances."""

from __future__ import annotations

import diffusers
import pytest
import torch

from latentdiff import load, load_dataset, train_diffusion
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.errors import ConfigError
from latentdiff.training.diffusers_init import read_origin
from tests.from_diffusers.miniatures import make_unet

LINEAR = DiffusionConfig(schedule="linear", beta_range=(1e-4, 0.02), target="eps", class_dropout=0.0)
TRAINER = TrainerConfig(max_images=4, batch_size=4, accelerator="cpu", precision="fp32", lr=0.0)


def images(channels=3, side=8, names=("cat", "dog")):
    """Four images, whose classes are in turn."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, channels, side, side), dtype=torch.uint8, generator=generator)
    labels = {"train": torch.arange(4) % len(names)} if names else None
    return load_dataset({"train": pixels}, labels=labels, class_names=names or None)


def train(init, data, **settings):
    """A model after one step of a learning rate of 0: its weights are those that it started with."""
    given = {"diffusion": LINEAR, "trainer": TRAINER, "validation_images": 0, "quality_images": 0, **settings}
    return train_diffusion(data, init=init, **given)


def both(model, before, labels):
    """The outputs of two networks for the same noisy images."""
    x = torch.randn(2, *model.codec.latent_shape, generator=torch.Generator().manual_seed(1))
    time = torch.tensor([10.0, 500.0])
    with torch.no_grad():
        return model.network(x, time, labels), before(x, time)


def test_classes_are_added_so_that_it_draws_as_before(pixel_pipeline, tmp_path, capsys):
    model = train(pixel_pipeline, images())
    ours, theirs = both(model, load(pixel_pipeline).network, torch.tensor([1, 2]))
    torch.testing.assert_close(ours, theirs)
    assert "classes: all 2 are new to these weights" in capsys.readouterr().out
    assert model.class_names == ("cat", "dog")
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again.sample(2, steps=2, labels="dog"), model.sample(2, steps=2, labels="dog"))
    assert len(model.provenance["started_from"]["sha256"]) == 64


@pytest.mark.slow
def test_another_side_and_no_classes(pixel_pipeline):
    model = train(pixel_pipeline, images(side=12, names=None))
    ours, theirs = both(model, load(pixel_pipeline).network, None)
    assert torch.equal(ours, theirs)
    assert model.sample(1, steps=2).shape == (1, 3, 12, 12)


def test_a_side_that_it_cannot_halve(pixel_pipeline):
    with pytest.raises(ConfigError, match=r"divisible by 2, not 9x9: take --data.size 8 or 10"):
        train(pixel_pipeline, images(side=9))


def test_grey_from_colour(pixel_pipeline, capsys):
    model = train(pixel_pipeline, images(channels=1, names=None))
    said = capsys.readouterr().out
    assert "first convolution: its kernels are summed over the colours" in said
    assert "last convolution: its kernels are averaged over the colours" in said
    before = load(pixel_pipeline).network
    ours, theirs = both(model, lambda x, time: before(x.expand(-1, 3, -1, -1), time), None)
    torch.testing.assert_close(ours, theirs.mean(dim=1, keepdim=True))


@pytest.mark.slow
def test_colour_from_grey(save, capsys):
    grey = save(diffusers.DDPMScheduler(), make_unet(in_channels=1, out_channels=1))
    model = train(grey, images(names=None))
    assert "its kernels are copied to 3 channels and divided by 3" in capsys.readouterr().out
    before = load(grey).network
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.network(x.expand(-1, 3, -1, -1), torch.tensor([10.0]))
        theirs = before(x, torch.tensor([10.0]))
    torch.testing.assert_close(ours, theirs.expand(-1, 3, -1, -1))


@pytest.mark.slow
def test_a_variance_is_added_and_left_out(pixel_pipeline, save, capsys):
    learned = DiffusionConfig(schedule="linear", target="eps", learn_variance=True)
    model = train(pixel_pipeline, images(names=None), diffusion=learned)
    assert "its new outputs for the variance are zeros" in capsys.readouterr().out
    ours, theirs = both(model, load(pixel_pipeline).network, None)
    torch.testing.assert_close(ours[:, :3], theirs)
    assert not ours[:, 3:].any()
    source = save(diffusers.DDPMScheduler(variance_type="learned_range"), make_unet(out_channels=6))
    model = train(source, images(names=None))
    ours, theirs = both(model, load(source).network, None)
    torch.testing.assert_close(ours, theirs[:, :3])


@pytest.mark.slow
def test_classes_are_matched_by_name_or_start_as_their_mean(save):
    source = save(diffusers.DDPMScheduler(), make_unet(num_class_embeds=3))
    rows = load(source).network.unet.class_embedding.weight
    model = train(source, images(names=("2", "owl")))
    torch.testing.assert_close(
        model.network.unet.class_embedding.weight, torch.stack([rows[2], rows.mean(dim=0), rows.mean(dim=0)])
    )
    assert model.conditional
    model = train(source, images(), network=NetworkConfig(class_conditional=False))
    assert not model.conditional
    bias = load(source).network.unet.time_embedding.linear_2.bias
    torch.testing.assert_close(model.network.unet.time_embedding.linear_2.bias, bias + rows.mean(dim=0))


@pytest.mark.slow
def test_a_model_file_with_such_a_network_is_taken_too(pixel_pipeline, tmp_path):
    first = train(pixel_pipeline, images(), folder=tmp_path / "run")
    second = train(tmp_path / "run" / "model.safetensors", images(names=("dog", "cat")))
    rows = first.network.unet.class_embedding.weight
    torch.testing.assert_close(second.network.unet.class_embedding.weight, rows[[1, 0, 2]])
    assert second.provenance["images_seen"] == 8


@pytest.mark.slow
def test_a_run_goes_on(pixel_pipeline, tmp_path):
    run = {"folder": tmp_path / "run", "latents_folder": None}
    train(pixel_pipeline, images(), **run)
    trainer = TrainerConfig(max_images=8, batch_size=4, accelerator="cpu", precision="fp32", lr=0.0)
    model = train(pixel_pipeline, images(), trainer=trainer, resume=True, **run)
    assert model.provenance["images_seen"] == 8


def test_settings_that_the_weights_bring_are_refused(pixel_pipeline):
    with pytest.raises(ConfigError, match=r"leave out --network.channels"):
        train(pixel_pipeline, images(), network=NetworkConfig(channels=(8, 8)))


@pytest.mark.slow
def test_another_process_is_said_with_the_flags_that_keep_theirs(pixel_pipeline, capsys):
    train(pixel_pipeline, images(), diffusion=DiffusionConfig(schedule="cosine", target="v"))
    said = capsys.readouterr().out
    assert "--diffusion.schedule linear --diffusion.target eps" in said.replace(
        " --diffusion.beta_range [0.0001,0.02]", ""
    )


def test_a_process_whose_noise_grows_starts_from_all_of_it(pixel_pipeline):
    assert train(pixel_pipeline, images()).sampling["unit_noise"]
    edm = train(pixel_pipeline, images(), diffusion=DiffusionConfig(schedule="edm", target="edm", class_dropout=0.0))
    assert not edm.sampling.get("unit_noise")  # its noise has a deviation of 80 at the start


def test_other_inits_are_left_to_the_usual_way(tmp_path):
    assert read_origin(None) is None
    assert read_origin(tmp_path / "nothing.safetensors") is None
    assert read_origin("checkpoints/fashion-mnist/latent.safetensors") is None
