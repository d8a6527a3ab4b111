"""Every file under configs/ trains, on a few made images laid out as its data set wants them; released files load."""

from __future__ import annotations

import importlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from latentdiff.data.mnist import MNIST
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.inference.model import load

CONFIGS = Path(__file__).parents[2] / "configs"
RELEASED = sorted((CONFIGS.parent / "checkpoints").rglob("*.safetensors"))
FOLDERS = (
    "fashion-mnist",
    "fashion-mnist-coloured",
    "celeba",
    "flowers-102",
    "cifar-10",
    "oxford-iiit-pet",
    "mixed",
    "demo",
    "sources",
)
# Of files that are no settings of a stage: spaces of a search, which tests/comparison/test_search_space.py reads.
SPACES = ("sweeps",)
TWO_STEPS = [
    "--trainer.max_images=4",
    "--trainer.max_seconds=null",
    "--trainer.images_per_epoch=4",
    "--trainer.batch_size=2",
    "--trainer.accelerator=cpu",
    "--trainer.num_threads=1",
    "--data.max_train_images=16",
    "--validation_images=2",
]


def draw(path: Path, seed: int, size: tuple[int, int] = (40, 44)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Every data set in miniature, where LATENTDIFF_DATA says; no server answers."""
    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: False)
    monkeypatch.setattr("latentdiff.models.lpips.server_answers", lambda *_: False)
    monkeypatch.setattr("latentdiff.training.diffusion_epoch_end.GRID", 1)  # of 100 images it takes most of the time
    monkeypatch.setenv("LATENTDIFF_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    root = tmp_path / "data"
    for index in range(40):
        draw(root / "celeba" / "img_align_celeba" / f"{index:06d}.jpg", index)
        draw(root / "flowers-102" / "jpg" / f"image_{index + 1:05d}.jpg", index)
        draw(root / "oxford-iiit-pet" / "images" / f"{('Abyssinian', 'beagle')[index % 2]}_{index}.jpg", index)
        for split in ("train", "test"):
            draw(root / "cifar-10" / split / ("cat", "dog")[index % 2] / f"{index}.png", index, (32, 32))
    classes = np.repeat([1, 2], 20)[None]
    savemat(root / "flowers-102" / "imagelabels.mat", {"labels": classes})
    ids = np.arange(1, 41)[None]
    savemat(root / "flowers-102" / "setid.mat", {"trnid": ids[:, ::2], "valid": ids[:, 1::4], "tstid": ids[:, 3::4]})
    names = [path.stem for path in sorted((root / "oxford-iiit-pet" / "images").iterdir())]
    annotations = root / "oxford-iiit-pet" / "annotations"
    annotations.mkdir()
    for name, part in {"trainval": names[:30], "test": names[30:]}.items():
        (annotations / f"{name}.txt").write_text("\n".join(f"{each} 1 1 1" for each in part))
    raw = root / MNIST.folder
    raw.mkdir(parents=True)
    for split, stem in {"train": "train", "test": "t10k"}.items():
        monkeypatch.setitem(MNIST.counts, split, 40)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
        for name, array in {"images-idx3": pixels, "labels-idx1": np.arange(40, dtype=np.uint8) % 10}.items():
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / f"{stem}-{name}-ubyte").write_bytes(header + array.tobytes())


def train(name: str, inception: Path | None = None) -> None:
    """Take two steps with a file's settings; ``inception`` measures what no classifier that is shipped does."""
    path = CONFIGS / name
    if name.endswith("sweep.yaml"):
        runs = '--runs={"before": [], "eps": ["--diffusion.target=eps", "--diffusion.schedule=linear"]}'
        flags = "--flags=[--trainer.batch_size=2,--data.max_train_images=16,--quality_images=0,--validation_images=2]"
        few = ["--seconds=0.1", "--jobs=1", "--num_images=4", "--finalists=0", "--data.source=embedded"]
        importlib.import_module("latentdiff.stages.sweep").main(["--config", str(path), runs, flags, *few])
        return
    if name.endswith("reproduce.yaml"):
        small = [f"--flags={json.dumps(TWO_STEPS)}", "--only=vae_baseline", "--num_images=4"]
        source = ["--data.source=embedded"] if name.startswith("fashion-mnist") else []
        with pytest.MonkeyPatch.context() as patch:
            if not source:  # no classifier of these images is shipped
                patch.setenv("LATENTDIFF_INCEPTION", str(inception))
            importlib.import_module("latentdiff.stages.reproduce").main(["--config", str(path), *small, *source])
        return
    is_autoencoder = "autoencoder" in path.stem or path.stem == "vae_baseline"
    flags = [] if is_autoencoder else ["--quality_images=0", "--sample_every=1000"]
    if (yaml.safe_load(path.read_text()).get("data") or {}).get("name", "fashion-mnist").startswith("fashion-mnist"):
        flags.append("--data.source=embedded")
    # Smaller than 64 pixels, but where released autoencoders of 28 may be taken, and where seven levels need all 64.
    if name.split("/")[0] not in ("fashion-mnist", "fashion-mnist-coloured", "demo") and path.stem != "vae_baseline":
        flags.append("--data.size=16")
    stage = importlib.import_module(f"latentdiff.stages.{'autoencoder' if is_autoencoder else 'diffusion'}")
    folder = [] if path.parent.name != "demo" else [f"--run.folder=demo/{path.stem}"]
    if path.parent.name == "gpu":
        flags += small_networks(path)
        folder = [f"--run.folder={name.removesuffix('.yaml')}"]
    stage.main(["--config", str(path), *TWO_STEPS, *flags, *folder])


def small_networks(path: Path) -> list[str]:
    """Flags for as many resolutions as a file's networks have, and few channels: those for a GPU have millions."""
    flags = [f"--network.channels={[32] * len(yaml.safe_load(path.read_text())['network']['channels'])}"]
    if path.stem == "autoencoder":
        return [*flags, "--loss.perceptual_weight=0", "--loss.discriminator_channels=8"]
    codec = path.with_name("autoencoder") / "model.safetensors"
    own = [] if path.stem == "pixel" else [f"--autoencoder={codec.relative_to(CONFIGS)}"]
    return [*flags, *own, "--network.head_channels=32"]


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_released_file_loads(path):
    model = ClassifierFeatures(path) if path.stem == "classifier" else load(path)
    assert model is not None


def test_a_file_that_starts_from_released_weights_fits_them(data):
    train("mixed/autoencoder.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_trains(folder, data, inception_file):
    for path in sorted(
        (CONFIGS / folder).rglob("*.yaml"), key=lambda path: ("autoencoder" not in path.stem, path.name)
    ):
        train(str(path.relative_to(CONFIGS)), inception_file)


def test_every_folder_is_known():
    assert sorted((*FOLDERS, *SPACES)) == sorted(path.name for path in CONFIGS.iterdir())
