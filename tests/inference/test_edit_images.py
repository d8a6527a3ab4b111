"""What stages.sample does beside sampling, as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import load
from latentdiff.codec import IdentityCodec
from latentdiff.config import DataConfig, DiffusionConfig, NetworkConfig, RunConfig
from latentdiff.config.model_stages import SampleStage
from latentdiff.data import load_split
from latentdiff.data.fashion_mnist import CLASS_NAMES
from latentdiff.errors import ConfigError
from latentdiff.inference.edit_images import edit_images, read_mask
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.noising import forward_process, reverse_process
from latentdiff.inference.sample_to_files import sample_to_files
from latentdiff.models.network import build_network

NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
NAMES = CLASS_NAMES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = build_network(1, 10, NETWORK)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = DiffusionModel(network, NETWORK, DiffusionConfig(num_train_steps=20), IdentityCodec((1, 28, 28)), NAMES)
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    model.save(path, {})
    return path


def run(settings):
    """What the stage ``sample`` does."""
    return sample_to_files(settings) if settings.task == "sample" else edit_images(settings)


def stage(checkpoint, folder, **settings):
    defaults = {
        "num_images": 3,
        "steps": 4,
        "data": DataConfig(source="auto" if settings.get("task", "sample") == "sample" else "embedded"),
        "run": RunConfig(folder=str(folder)),
    }
    return SampleStage(model=str(checkpoint), **{**defaults, **settings})


@pytest.mark.parametrize("task", ["noise", "reconstruct", "interpolate", "inpaint"])
def test_each_task_draws_a_grid_and_a_gif(task, checkpoint, tmp_path):
    few = {"interpolate": {"frames": 3}, "inpaint": {"resamples": 1}}.get(task, {})
    folder = run(stage(checkpoint, tmp_path / task, task=task, gif=True, **few))
    assert (folder / "grid.png").stat().st_size > 500
    assert len(list(folder.glob("*.gif"))) == 1
    assert (folder / "config.yaml").is_file()


def test_strips_go_from_image_to_noise_and_from_noise_to_image(checkpoint, tmp_path):
    for task in ("noise", "sample"):
        folder = run(stage(checkpoint, tmp_path / task, task=task, strip=3, gif=True, seed=2))
        strip = np.asarray(Image.open(folder / "strip.png"))
        assert strip.shape == (3 * 58 + 2, 3 * 58 + 2, 3)  # a row an image, a column a moment
        moments = torch.from_numpy(strip[2:, 2:, 0].copy()).unfold(0, 56, 58).unfold(1, 56, 58)[..., ::2, ::2]
        if task == "noise":
            images = load_split(DataConfig(source="embedded"), "test").images[:3]
            expected = forward_process(load(checkpoint), images, [0.0, 0.5, 1.0], seed=2)
        else:
            expected = reverse_process(load(checkpoint), 3, 3, steps=4, seed=2)
            assert Image.open(folder / "denoising.gif").n_frames == 5  # the noise, and a frame a step
        assert torch.equal(moments.transpose(0, 1), expected[:, :, 0])


def test_likelihood_is_written_for_each_image_and_does_not_depend_on_the_batch(checkpoint, tmp_path):
    runs = []
    for batch_size in (1, 3):
        settings = {"task": "likelihood", "batch_size": batch_size, "steps": None}
        folder = run(stage(checkpoint, tmp_path / str(batch_size), **settings))
        runs.append(json.loads((folder / "likelihood.json").read_text()))
    assert runs[0]["space"] == "pixels"
    assert len(runs[0]["bits_per_dim"]) == 3
    assert runs[0]["bits_per_dim"] == pytest.approx(runs[1]["bits_per_dim"], abs=1e-3)


def test_likelihood_takes_the_name_of_a_class(checkpoint, tmp_path):
    model = load(checkpoint)
    found = []
    for number, labels in enumerate((model.class_names[1], 1)):
        settings = {"task": "likelihood", "labels": labels, "steps": None}
        folder = run(stage(checkpoint, tmp_path / str(number), **settings))
        found.append(json.loads((folder / "likelihood.json").read_text())["bits_per_dim"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "reconstruct", "strengths": (2.0,)}, "strengths must be a tuple of numbers from 0 to 1"),
        ({"task": "interpolate", "frames": 1}, "frames must be a whole number from 2"),
        ({"task": "inpaint", "resamples": 0}, "resamples must be a whole number from 1"),
        ({"task": "inpaint", "mask": "nowhere"}, "neither a file nor one of left"),
        ({"task": "noise", "num_images": -1}, "num_images must be a whole number from 1"),
        ({"task": "inpaint", "sampler": "ddim"}, "--sampler has no effect on the task inpaint"),
        ({"task": "inpaint", "thresholding": "none"}, "--thresholding has no effect on the task inpaint"),
        ({"task": "interpolate", "guidance_scale": 2.0}, "--guidance_scale has no effect on the task interpolate"),
        ({"task": "interpolate", "spacing": "karras", "rho": 3.0}, "--spacing has no effect on the task interpolate"),
        ({"task": "sample", "data": DataConfig(size=32)}, "--data.size has no effect on the task sample"),
        ({"task": "noise", "churn": 3.0}, "--churn has no effect on the task noise"),
        ({"task": "noise", "variance": "small"}, "--variance has no effect on the task noise"),
        (
            {"task": "likelihood", "guidance_interval": (0.1, 1.0)},
            "--guidance_interval has no effect on the task likelihood",
        ),
        ({"task": "likelihood", "sampler": "heun"}, "--sampler has no effect on the task likelihood"),
        (
            {"task": "likelihood", "method": "ode", "variance": "small"},
            "no effect on the task likelihood --method ode",
        ),
        ({"task": "likelihood", "variance": "learned"}, "no learned variance"),
        ({"task": "likelihood", "steps": 21}, "from 1 to 20, not 21"),
        ({"task": "inpaint", "strip": 4}, "--strip belongs to the tasks sample and noise, not to inpaint"),
        ({"task": "noise", "strip": 1}, "--strip must be at least 2"),
        ({"task": "noise", "strengths": ()}, "strengths must name at least one"),
        ({"task": "sample", "strip": -1}, "strip must be a whole number from 0 to 1,000"),
        ({"task": "noise", "npz": True}, "npz belongs to the task sample"),
        ({"task": "inpaint", "columns": 3}, "--columns belongs to the task sample, not to inpaint"),
        (
            {"task": "noise", "labels": "3"},
            "--labels belongs to the tasks sample, reconstruct, interpolate, inpaint and",
        ),
        ({"task": "sample", "mask": "left"}, "--mask belongs to the task inpaint, not to sample: leave it out"),
        ({"task": "sample", "strengths": (0.5,)}, "--strengths belongs to the tasks noise and reconstruct"),
        ({"task": "inpaint", "frames": 4}, "--frames belongs to the task interpolate"),
        ({"task": "reconstruct", "resamples": 2}, "--resamples belongs to the task inpaint"),
        ({"task": "sample", "method": "ode"}, "--method belongs to the task likelihood"),
        ({"task": "likelihood", "gif": True}, "--gif belongs to"),
        ({"task": "reconstruct", "labels": "99"}, "labels must be from 0 to 9"),
        ({"task": "sample", "guide": "absent.safetensors", "guidance_scale": 2.0}, "there is no model file"),
    ],
)
def test_what_cannot_be_is_refused_before_an_earlier_run_is_touched(settings, message, checkpoint, tmp_path):
    folder = run(stage(checkpoint, tmp_path / "run", task="noise"))
    before = (folder / "grid.png").read_bytes()
    with pytest.raises(Exception, match=message):
        run(stage(checkpoint, folder, run=RunConfig(folder=str(folder), overwrite=True), **settings))
    assert (folder / "grid.png").read_bytes() == before


@pytest.mark.parametrize("settings", [{"variance": "small"}, {"variance": "small", "sampler": "ddpm"}])
def test_likelihood_takes_the_variance_of_ddpm_named_or_not(settings, checkpoint, tmp_path):
    folder = run(stage(checkpoint, tmp_path / "run", task="likelihood", **settings))
    assert (folder / "likelihood.json").is_file()


def test_reconstruct_heeds_every_setting_of_the_sampler(checkpoint, tmp_path):
    def grid(name, **settings):
        few = {"task": "reconstruct", "num_images": 1, "strengths": (1.0,), **settings}
        return (run(stage(checkpoint, tmp_path / name, **few)) / "grid.png").read_bytes()

    usual = grid("usual", steps=None)
    assert usual == grid("twenty", steps=20)
    for name, settings in {"eta": {"sampler": "ddim", "eta": 1.0}, "guidance": {"guidance_scale": 3.0}}.items():
        assert usual != grid(name, steps=20, **settings)


def test_a_mask_may_be_a_picture(tmp_path):
    picture = Image.new("L", (28, 28))
    picture.paste(255, (0, 0, 5, 28))
    picture.save(tmp_path / "mask.png")
    mask = read_mask(str(tmp_path / "mask.png"), (28, 28))
    assert int(mask.sum()) == 5 * 28
    with pytest.raises(ValueError, match="is 28x28, the images are 8x8"):
        read_mask(str(tmp_path / "mask.png"), (8, 8))
    picture.point(lambda value: value // 255).save(tmp_path / "mask.png")
    with pytest.raises(ConfigError, match=r"fills nothing: none of its pixels is white \(its brightest is 1\)"):
        read_mask(str(tmp_path / "mask.png"), (28, 28))
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"mask\.png cannot be used: it is not an image"):
        read_mask(str(tmp_path / "mask.png"), (28, 28))
    assert int(read_mask("centre", (28, 28)).sum()) == 14 * 14


def test_real_images_keep_their_classes_by_name(checkpoint, tmp_path):
    model = load(checkpoint)
    order = (9, 3, 0, 1, 2, 4, 5, 6, 7, 8)
    turned = DiffusionModel(
        model.network, model.network_config, model.diffusion, model.codec, [NAMES[index] for index in order]
    )
    weight = model.network.classes.weight
    rows = weight.detach()[[*order, 10]]
    weight.data.copy_(rows)
    turned.save(tmp_path / "turned.safetensors", {})
    for task, files in (("reconstruct", ["grid.png"]), ("likelihood", ["likelihood.json"])):
        folders = [
            run(stage(path, tmp_path / f"{task}-{index}", task=task, num_images=8))
            for index, path in enumerate((checkpoint, tmp_path / "turned.safetensors"))
        ]
        for name in files:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_images_of_classes_that_the_model_does_not_know_are_refused(checkpoint, tmp_path):
    model = load(checkpoint)
    names = ["zebra", *NAMES[1:]]
    DiffusionModel(model.network, model.network_config, model.diffusion, model.codec, names).save(
        tmp_path / "other.safetensors", {}
    )
    settings = {"task": "reconstruct", "num_images": 40}
    with pytest.raises(ConfigError, match=r"fashion-mnist has the class T-shirt, which .*other.safetensors lacks"):
        run(stage(tmp_path / "other.safetensors", tmp_path / "a", **settings))
    without = DataConfig(source="embedded", classes="none")
    with pytest.raises(ConfigError, match="have no classes here, but the model needs them: give --labels"):
        run(stage(checkpoint, tmp_path / "a", data=without, **settings))
    assert not (tmp_path / "a").exists()
    run(stage(checkpoint, tmp_path / "a", data=without, labels="Dress", **settings))


def test_an_npz_names_the_classes_of_its_labels(checkpoint, tmp_path):
    folder = run(stage(checkpoint, tmp_path / "npz", npz=True))
    with np.load(folder / "samples.npz", allow_pickle=False) as arrays:
        assert tuple(arrays["class_names"]) == NAMES
