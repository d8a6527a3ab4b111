"""A run goes on with the data that it began with, wherever this lies now, and with no other."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from latentdiff import checkpoint, load, load_dataset, train_autoencoder, train_diffusion
from latentdiff.config import AutoencoderConfig, AutoencoderLossConfig, DataConfig, NetworkConfig, TrainerConfig
from latentdiff.data import identity
from latentdiff.errors import CheckpointError, FolderError
from latentdiff.training import run_data
from latentdiff.training.run_data import FILE

NETWORK = NetworkConfig(channels=(8, 8), num_res_blocks=1, attention_levels=(), head_channels=8)
STEPS = TrainerConfig(max_images=16, batch_size=8, accelerator="cpu")
LONGER = TrainerConfig(max_images=32, batch_size=8, accelerator="cpu")


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 8 8 255\n" + random.Random(seed).randbytes(192))


@pytest.fixture
def data():
    """Forty images of two classes, all for training but for some of validation."""
    for index in range(40):
        draw(Path("data") / ("cat", "dog")[index % 2] / f"{index:02d}.ppm", index)
    return Path("data")


def config(path="data", **settings):
    return DataConfig(name="folder", path=str(path), size=8, fractions=(0.8, 0.2, 0.0), **settings)


def train(path="data", run="run", resume=False, **settings):
    return train_diffusion(
        load_dataset(path if isinstance(path, DataConfig) else config(path)),
        network=NETWORK,
        trainer=settings.pop("trainer", LONGER if resume else STEPS),
        validation_images=4,
        quality_images=0,
        latents_folder=None,
        folder=run,
        resume=resume,
        **settings,
    )


def refusal(path="data"):
    """Why the run is not resumed; it is left as it was."""
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError) as refused:
        train(path, resume=True)
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before
    lines = str(refused.value).splitlines()
    assert len(lines) <= 3
    assert "--init run --run.folder NEW (init=, folder= in Python)" in lines[-1]
    return lines[0]


def training_images(path="data"):
    return load_dataset(config(path)).train.files


def test_what_a_run_was_trained_on_is_in_its_folder_its_checkpoint_and_its_model(data):
    train()
    images = load_dataset(config()).train
    record = json.loads(Path("run", FILE).read_text())
    assert record["train"]["fingerprint"] == images.fingerprint
    assert (record["train"]["class_names"], record["train"]["images"]) == (["cat", "dog"], len(images))
    assert sum(record["train"]["class_counts"]) == len(images)
    assert [row.split(" ", 2)[2] for row in record["train"]["files"]] == list(images.files)
    assert record["held_out"]["split"] == "val"
    own = torch.load("run/last.ckpt", weights_only=True)["latentdiff"]["data"]
    assert own == {key: value for key, value in record["train"].items() if key != "files"}
    about = checkpoint.read_header("run/model.safetensors")["provenance"]["data"]
    assert (about["fingerprint"], about["class_names"]) == (images.fingerprint, ["cat", "dog"])
    assert (about["images"], about["split"]) == (len(images), images.split_description)


def test_the_same_data_elsewhere_goes_on(data):
    train()
    places = []
    with zipfile.ZipFile("own.zip", "w") as archive:
        for file in data.rglob("*.ppm"):
            archive.write(file, Path("pictures") / file.relative_to(data))
    shutil.copytree(data, "moved/deep")
    for path in ("data/", "./data", "~/data", Path("data").absolute(), "moved/deep", "own.zip"):
        shutil.copytree("run", "copy", dirs_exist_ok=True)
        model = train(path, run="copy", resume=True)
        assert model.provenance["images_seen"] == 32
        places.append(yaml.safe_load(Path("copy/config.yaml").read_text())["data"]["path"])
        shutil.rmtree("copy")
    assert places[2:] == [str(Path("data").absolute())] * 2 + ["moved/deep", "own.zip"]
    # The place that is gone is not asked for, nor are the caches.
    shutil.rmtree(data)
    train(config("moved/deep", cache_folder="elsewhere"), resume=True, features_folder="features")


def test_a_class_that_is_renamed_added_or_gone_is_named(data):
    train()
    (data / "cat").rename(data / "zebra")
    assert "run was trained on other data: class cat is gone; class zebra is new" in refusal()
    (data / "zebra").rename(data / "cat")
    for index in range(10):
        draw(data / "ant" / f"{index}.ppm", 100 + index)
    assert "class ant is new" in refusal()
    shutil.rmtree(data / "ant")
    shutil.rmtree(data / "dog")
    for index in range(2):
        draw(data / "eel" / f"{index}.ppm", 200 + index)
    assert "class dog is gone; class eel is new" in refusal()


def test_images_that_are_gone_new_or_other_ones_are_named(data):
    first, *_ = training_images()
    train()
    content = (data / first).read_bytes()
    (data / first).unlink()
    assert refusal() == f"run was trained on other data: image {first} is gone."
    (data / first).write_bytes(content)
    # Another pixel: in the same split, or gone from it.
    (data / first).write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    expected = ("has other content", "is gone")
    assert any(f"image {first} {words}" in refusal() for words in expected)
    (data / first).write_bytes(content)
    known = set(training_images())
    for index in range(60):
        draw(data / "dog" / f"new-{index:02d}.ppm", 300 + index)
    more = len(set(training_images()) - known)
    assert f"{more} images more (dog/new-" in refusal()
    for file in data.glob("dog/new-*"):
        file.unlink()
    # Moved to another class.
    (data / first).rename(data / "dog" / "moved.ppm")
    assert "image" in refusal()
    (data / "dog" / "moved.ppm").rename(data / first)
    train(resume=True)


def test_validation_images_belong_to_a_run_too(data):
    gone = load_dataset(config()).val.files[0]
    train()
    (data / gone).unlink()
    assert refusal() == f"run was trained on other data: validation images: image {gone} is gone."


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_without_a_record_the_checkpoint_knows(data, damage, capsys):
    train()
    record = Path("run", FILE)
    if damage == "missing":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes().replace(b"cat/", b"cat_", 1))
    (data / training_images()[0]).unlink()
    with pytest.raises(CheckpointError, match=r"the run was trained on other data: class cat: 1 image fewer"):
        train(resume=True)
    assert ("data.json is damaged" in capsys.readouterr().out) == (damage == "damaged")


def test_a_checkpoint_of_an_older_version_knows_its_fingerprint_or_nothing(capsys):
    now = {"fingerprint": "a", "class_names": []}
    with pytest.raises(CheckpointError, match="images, labels or splits differ"):
        run_data.check_against_checkpoint(None, "b", now)
    run_data.check_against_checkpoint(None, "a", now)
    assert not capsys.readouterr().out
    run_data.check_against_checkpoint(None, None, now)
    assert "is not checked" in capsys.readouterr().out


def test_an_autoencoder_and_its_place(data):
    loss = AutoencoderLossConfig(perceptual_weight=0, adversarial_weight=0)
    own = AutoencoderConfig(channels=(8, 8), attention=False)
    for name, seed in (("one", 0), ("other", 1)):
        trainer = TrainerConfig(max_images=16, batch_size=8, accelerator="cpu", seed=seed)
        train_autoencoder(config_data(), network=own, loss=loss, trainer=trainer, validation_images=0, folder=name)
    train(autoencoder="one/model.safetensors")
    with pytest.raises(CheckpointError, match="the latents of another autoencoder"):
        train(autoencoder="other/model.safetensors", resume=True)
    with pytest.raises(CheckpointError, match="and not on pixels"):
        train(resume=True)
    shutil.copy("one/model.safetensors", "moved.safetensors")
    model = train(autoencoder="moved.safetensors", resume=True)
    assert model.provenance["codec_fingerprint"] == load("moved.safetensors").fingerprint
    assert yaml.safe_load(Path("run/config.yaml").read_text())["autoencoder"] == "moved.safetensors"
    # Images of its own, too.
    (data / training_images()[0]).unlink()
    with pytest.raises(CheckpointError, match=r"one was trained on other data: image .* is gone"):
        train_autoencoder(
            config_data(), network=own, loss=loss, trainer=LONGER, validation_images=0, folder="one", resume=True
        )


def config_data():
    return load_dataset(config())


def test_init_is_the_way_on_and_named_for_other_settings(data):
    train()
    with pytest.raises(FolderError, match=r"start a new run from its weights with --init"):
        train(resume=True, trainer=TrainerConfig(max_images=32, batch_size=8, lr=0.5, accelerator="cpu"))
    train(run="tuned", init="run")
    # Another spelling of where it began is the same.
    train(run="tuned", init="./run/", resume=True)
    with pytest.raises(FolderError, match="init was"):
        train(run="tuned", init="other", resume=True)


def test_images_in_memory_are_told_by_number_and_class():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator)

    def run(count, names=("a", "b"), resume=True):
        labels = {"train": [index % 2 for index in range(count)]}
        splits = load_dataset({"train": images[:count]}, labels=labels, class_names=names)
        train_diffusion(splits, network=NETWORK, trainer=LONGER, quality_images=0, folder="run", resume=resume)

    run(40, resume=False)
    run(40)
    for count, names, message in (
        (52, ("a", "b"), "class a: 6 images more; class b: 6 images more"),
        (40, ("b", "a"), "the classes are in another order: b, a"),
        (39, ("a", "b"), "class b: 1 image fewer"),
    ):
        with pytest.raises(CheckpointError, match=f"run was trained on other data: {message}"):
            run(count, names)


def test_many_images_are_not_listed_and_a_record_stays_small(monkeypatch, data):
    monkeypatch.setattr(identity, "MOST_LISTED", 10)
    train()
    assert json.loads(Path("run", FILE).read_text())["train"]["files"] is None
    assert Path("run", FILE).stat().st_size < 2000
    (data / training_images()[0]).unlink()
    assert "class cat: 1 image fewer" in refusal()
