"""A single flipped bit in any file that is read again is noticed: the file is refused, or made anew."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentdiff import checkpoint, load, run_checkpoint
from latentdiff.config import NetworkConfig
from latentdiff.data import image_cache
from latentdiff.data.decode import CropAndResize
from latentdiff.data.file_list import FileList
from latentdiff.data.files import open_files
from latentdiff.errors import CheckpointError, ReportError
from latentdiff.evaluation import feature_extraction
from latentdiff.latents import _read as read_latents
from latentdiff.models.network import build_network
from latentdiff.report.evaluation import Evaluation, read_evaluation
from latentdiff.report.sampler_record import read_sampler_record, write_sampler_record
from latentdiff.resources import find_checkpoint

# How many flips of each kind of file: a quick share of all in each run of the tests.
QUICK, ALL = 5, 72


def model_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    path, net = folder / "model.safetensors", build_network(1, 2, network)
    header = {
        "image_shape": [1, 8, 8],
        "codec": None,
        "network": {"channels": [8], "num_res_blocks": 1, "attention_levels": [], "head_channels": 8},
        "diffusion": {},
        "class_names": ["a", "b"],
        "provenance": {"command": "python"},
    }
    weights = {f"network.{name}": tensor for name, tensor in net.state_dict().items()}
    checkpoint.save(path, "diffusion", weights, header, torch.bfloat16)
    return path, lambda: checkpoint.read(path)


def released_model(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "vae_baseline.safetensors"
    shutil.copy(find_checkpoint("fashion-mnist/vae_baseline.safetensors"), path)
    return path, lambda: load(path)


def last_checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "last.ckpt"
    state = {"state_dict": {"weight": torch.randn(64, 64)}, "latentdiff": {"images_seen": 64}}
    run_checkpoint.save(state, path)
    return path, lambda: run_checkpoint.read(path)


def latent_cache(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "latents.safetensors"
    checkpoint.write_tensors(path, {"moments": torch.randn(8, 4, 3, 3)}, {"key": "0123456789abcdef", "seconds": 1.5})
    return path, lambda: read_latents(path, "0123456789abcdef")


def feature_cache(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "features.safetensors"
    checkpoint.write_tensors(path, {"pooled": torch.randn(8, 16)}, {"key": "0123456789abcdef"})
    return path, lambda: feature_extraction._read(path, 8)


def image_caches(name: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        (folder / "images").mkdir()
        for number in range(4):
            Image.effect_noise((12, 12), 60).save(folder / "images" / f"{number}.png")
        files = FileList.without_labels("photos", open_files(folder / "images"))
        transform = CropAndResize(8, grey=True)
        image_cache.cached_images(files, transform, folder / "cache")
        (path,) = (folder / "cache").glob("photos*")
        key = json.loads((path / "meta.json").read_text())["key"]
        return path / name, lambda: image_cache._read_cache(path, key)

    return make


def evaluation_record(folder: Path) -> tuple[Path, Callable[[], object]]:
    Image.new("L", (4, 4)).save(grid := BytesIO(), "png")
    data = {"name": "mine", "source": "full", "train_images": 9, "test_images": 9, "image_shape": [1, 8, 8]}
    data |= {"train_fingerprint": "a", "test_fingerprint": "b"}
    values = {"schema": 1, "name": "noise", "kind": "noise", "data": data, "num_images": 9, "grid": "grid.png"}
    values["density"] = {"images": [[0.125] * 256]}
    saved = Evaluation(None, "noise", values, {"grid.png": grid.getvalue()}).save(folder / "evaluation")
    return saved / "evaluation.json", lambda: read_evaluation(saved)


def sampler_table(folder: Path) -> tuple[Path, Callable[[], object]]:
    row = {"sampler": "ddim", "steps": 5, "passes": 5, "distance_test": 0.5}
    record = {"rows": [row] * 5, "model": {"sha256": "a"}, "num_images": 20, "floor": 0.1}
    write_sampler_record(record, folder / "samplers.json")
    return folder / "samplers.json", lambda: read_sampler_record(folder / "samplers.json")


FILES = {
    "weights": model_file,
    "released": released_model,
    "last.ckpt": last_checkpoint,
    "latents": latent_cache,
    "features": feature_cache,
    "images.bin": image_caches("images.bin"),
    "kept.npy": image_caches("kept.npy"),
    "meta.json": image_caches("meta.json"),
    "evaluation.json": evaluation_record,
    "samplers.json": sampler_table,
}


def flips_that_go_unnoticed(kind: str, folder: Path, count: int) -> list[int]:
    """Which of ``count`` flipped bits, of all in the file, its reader does not notice."""
    path, read = FILES[kind](folder)
    assert read() is not None  # whole, it is read
    whole, unnoticed, messages = path.read_bytes(), [], []
    # The seed of a text: Python's own hash of it changes from run to run.
    for bit in random.Random(f"flips of {kind}").sample(range(8 * len(whole)), count):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read()
        except (CheckpointError, ReportError) as error:
            messages.append(str(error))
            found = None
        if found is not None:
            unnoticed.append(bit)
    assert all(len(message.splitlines()) <= 3 for message in messages)
    return unnoticed


@pytest.mark.parametrize("kind", FILES)
def test_a_few_flips(kind, tmp_path):
    assert not flips_that_go_unnoticed(kind, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_many_flips(kind, tmp_path):
    assert not flips_that_go_unnoticed(kind, tmp_path, ALL)
