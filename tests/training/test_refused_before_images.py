"""A file that cannot be used is refused before any image is read, which may take minutes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from latentdiff import cache_latents, load_dataset, run_checkpoint, train_autoencoder, train_diffusion
from latentdiff.config import AutoencoderLossConfig, DataConfig, NetworkConfig, TrainerConfig
from latentdiff.data import DatasetSplits
from latentdiff.errors import CheckpointError, ConfigError, LatentdiffError
from latentdiff.evaluation.evaluate import evaluate
from latentdiff.stages import latents as latents_stage
from latentdiff.stages import sample as sample_stage

AUTOENCODER = "checkpoints/fashion-mnist/autoencoder.safetensors"
LATENT = "checkpoints/fashion-mnist/latent.safetensors"
PIXEL = "checkpoints/fashion-mnist/pixel.safetensors"
TRAINER = TrainerConfig(max_images=16, batch_size=8, accelerator="cpu")
PLAIN = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0)


@pytest.fixture(autouse=True)
def images_that_must_not_be_read(monkeypatch):
    """Any reading of images fails, and not as an error that a user can mend."""

    def read(self, split):
        raise AssertionError(f"the {split} images were read")

    monkeypatch.setattr(DatasetSplits, "_load", read)


@pytest.fixture
def data():
    return load_dataset(DataConfig(source="embedded"))


@pytest.fixture
def wrong(tmp_path):
    """Files of other kinds by their names, and a folder of diffusers without a U-Net."""
    text, foreign = tmp_path / "notes.safetensors", tmp_path / "foreign.safetensors"
    text.write_text("shopping: bread, milk")
    save_file({"weight": torch.zeros(2)}, foreign)
    folder = tmp_path / "scheduler"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "DDPMScheduler"}))
    run_checkpoint.save(
        {"state_dict": {"network.encoder.weight": torch.zeros(2)}, "latentdiff": {"images_seen": 1}},
        tmp_path / "last.ckpt",
    )
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    return {
        "absent": tmp_path / "absent.safetensors",
        "text": text,
        "foreign": foreign,
        "no U-Net": f"diffusers:{folder}",
        "run": tmp_path / "last.ckpt",
        "bad": tmp_path / "bad.ckpt",
        "autoencoder": AUTOENCODER,
        "diffusion": PIXEL,
    }


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("absent", "there is no model file"),
        ("text", "is damaged or not a safetensors file"),
        ("foreign", "not one that latentdiff wrote"),
        ("no U-Net", "latentdiff takes pipelines of a UNet2DModel"),
        ("run", "holds a run of kind 'autoencoder' where 'diffusion' is needed"),
        ("bad", "is damaged or no checkpoint of a run"),
        ("autoencoder", "kind 'autoencoder' where 'diffusion' is needed"),
    ],
)
def test_weights_that_a_diffusion_model_cannot_start_from(data, wrong, name, match):
    if name == "no U-Net":
        pytest.importorskip("diffusers")
    with pytest.raises(CheckpointError, match=match):
        train_diffusion(data, trainer=TRAINER, init=wrong[name])


@pytest.mark.parametrize("name", ["absent", "text", "foreign", "bad", "diffusion"])
def test_weights_that_an_autoencoder_cannot_start_from(data, wrong, name):
    with pytest.raises(CheckpointError):
        train_autoencoder(data, loss=PLAIN, trainer=TRAINER, init=wrong[name])


@pytest.mark.parametrize("name", ["absent", "text", "foreign", "no U-Net", "diffusion"])
def test_files_that_are_no_autoencoder(data, wrong, name):
    if name == "no U-Net":
        pytest.importorskip("diffusers")
    with pytest.raises(CheckpointError):
        train_diffusion(data, autoencoder=wrong[name], trainer=TRAINER)
    with pytest.raises(CheckpointError):
        cache_latents(wrong[name], data)


def test_a_perceptual_net_that_is_not_there(data, wrong):
    loss = AutoencoderLossConfig(perceptual_weights=str(wrong["text"]), adversarial_weight=0)
    with pytest.raises(CheckpointError, match="cannot be read as the weights of"):
        train_autoencoder(data, loss=loss, trainer=TRAINER)


def test_a_quality_net_that_is_not_there(monkeypatch, tmp_path):
    flowers = load_dataset(DataConfig(name="flowers-102"))
    with pytest.raises(CheckpointError, match="flowers-102 has no classifier"):
        train_diffusion(flowers, trainer=TRAINER, quality_net="classifier")
    monkeypatch.setenv("LATENTDIFF_INCEPTION", str(tmp_path / "absent.pth"))
    with pytest.raises(CheckpointError, match=r"there is no file .*absent\.pth, which LATENTDIFF_INCEPTION names"):
        train_diffusion(flowers, trainer=TRAINER, quality_net="inception")


@pytest.mark.parametrize("setting", ["latents_folder", "features_folder"])
def test_a_cache_whose_folder_is_a_file(data, wrong, setting):
    with pytest.raises(ConfigError, match=rf"{setting} .*notes\.safetensors is a file, not a folder"):
        train_diffusion(data, trainer=TRAINER, **{setting: wrong["text"] / "cache"})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "absent"}, "there is no model file"),
        ({"model": "text"}, "is damaged or not a safetensors file"),
        ({"model": "absent.npz"}, "there are no images at"),
        ({"model": "diffusion", "mode": "prior"}, "mode prior is for autoencoders"),
        ({"inception_weights": "absent"}, "which the setting names as the FID Inception's weights"),
        ({"inception_weights": "text"}, "is no file of PyTorch"),
        ({"features_folder": "text"}, "features_folder .* is a file, not a folder"),
    ],
)
def test_what_an_evaluation_cannot_use(data, wrong, tmp_path, settings, match):
    wrong["absent.npz"] = tmp_path / "absent.npz"
    settings = {key: wrong.get(value, value) for key, value in {"model": "diffusion", **settings}.items()}
    with pytest.raises(LatentdiffError, match=match):
        evaluate(settings.pop("model"), data, **settings)


def test_what_the_stages_cannot_use(wrong):
    with pytest.raises(CheckpointError, match="not one that latentdiff wrote"):
        latents_stage.main(["--autoencoder", str(wrong["foreign"])])
    with pytest.raises(ConfigError, match=r"the mask .* cannot be used"):
        sample_stage.main(["--model", LATENT, "--task", "inpaint", "--mask", str(wrong["text"])])
    guided = ["--guide", str(wrong["absent"]), "--guidance_scale", "2"]
    with pytest.raises(CheckpointError, match="there is no model file"):
        sample_stage.main(["--model", LATENT, "--task", "reconstruct", *guided])


def test_a_file_that_can_be_used_lets_the_images_be_read(data):
    for given in ({"init": LATENT, "autoencoder": AUTOENCODER}, {"init": PIXEL}):
        with pytest.raises(AssertionError, match="the train images were read"):
            train_diffusion(data, trainer=TRAINER, **given)
    with pytest.raises(AssertionError, match="the train images were read"):
        train_autoencoder(data, loss=PLAIN, trainer=TRAINER, init=AUTOENCODER)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"architecture": "dit"}, r"one width in channels, and no attention_levels: for example --network\.channels"),
        ({"architecture": "dit", "channels": (40,), "attention_levels": ()}, "a multiple of 4 and of network.head_cha"),
        ({"architecture": "resnet", "channels": (32,), "attention_levels": (), "text": "own"}, "only the architecture"),
        ({"attention_levels": (7,)}, r"attention_levels \(7,\) go beyond the 2 resolutions"),
    ],
)
def test_a_network_that_cannot_be(data, settings, match):
    with pytest.raises(ConfigError, match=match):
        train_diffusion(data, network=NetworkConfig(**settings), trainer=TRAINER)


@pytest.mark.parametrize(
    "settings", [{"patch": 2}, {"architecture": "dit", "channels": (64,), "attention_levels": (), "patch": 2}]
)
def test_weights_of_another_architecture(data, settings):
    network = NetworkConfig(**settings)
    words = f"holds the architecture unet with patches of 1, and the settings ask for {network.architecture} with pat"
    with pytest.raises(CheckpointError, match=words):
        train_diffusion(data, init=PIXEL, network=network, trainer=TRAINER)
