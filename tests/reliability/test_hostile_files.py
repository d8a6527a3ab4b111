"""Model files that somebody made by hand: refused in three lines at most, at once, and without their memory."""

from __future__ import annotations

import copy
import json
import random
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentdiff import digest, load
from latentdiff.codec import AutoencoderCodec, load_codec
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.errors import CheckpointError, LatentdiffError
from latentdiff.evaluation.evaluation_record import training_record
from latentdiff.evaluation.feature_nets import ClassifierFeatures
from latentdiff.inference.model import DiffusionModel
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from latentdiff.resources import find_checkpoint
from latentdiff.training.base_module import peak_memory_of_process

# What stands in for a value of a header.
BOMBS: list[Any] = [
    10**9, 10**7, 10**12, 10**30, 0, -1, 2.5, 1e300, True, None, "x", "../../etc/passwd", "/etc/passwd",
    [], {}, [10**9], [10**6, 10**6], [8] * 10_000, [[8]], {"a": 1}, "x" * 100_000,
]  # fmt: skip
# How many edits of each kind of file: 100 in each run of the tests, and many more in the slow ones.
QUICK, MANY = 34, 400
SECONDS, BYTES = 1.0, 2**30


def model_files(folder: Path) -> dict[str, tuple[Path, dict[str, Any], dict[str, torch.Tensor]]]:
    """A small file of each kind, with its header and tensors."""
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=(8, 8), encoder_blocks=1, decoder_blocks=1, attention=False)
    codec = AutoencoderCodec(Autoencoder((1, 8, 8), config), config, torch.zeros(2), torch.ones(2))
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    diffusion = DiffusionConfig(num_train_steps=20)
    made = {
        "data": {"name": "mine", "images": 9, "fingerprint": "f"},
        "images_seen": 64,
        "seconds": 1.5,
        "history": [{"images_seen": 64, "loss": 0.5}],
        "command": "python",
        "config": {"trainer": {"batch_size": 8}},
    }
    codec.provenance = made
    codec.save(folder / "autoencoder.safetensors")
    model = DiffusionModel(build_network(2, 2, network), network, diffusion, codec, ("a", "b"))
    model.save(folder / "diffusion.safetensors", made)
    files = {}
    released = find_checkpoint("fashion-mnist/classifier.safetensors")
    for kind, path in {
        "autoencoder": folder / "autoencoder.safetensors",
        "diffusion": folder / "diffusion.safetensors",
        "classifier": released,
    }.items():
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["latentdiff"])
        header.pop("digest")
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        files[kind] = (folder / "hostile.safetensors", header, tensors)
    return files


def places(values: Any) -> list[tuple[Any, Any]]:
    """Every place in a header: what holds it, and its key."""
    found = []
    for key, item in values.items() if isinstance(values, dict) else enumerate(values):
        found.append((values, key))
        if isinstance(item, dict | list):
            found += places(item)
    return found


def edited(header: dict[str, Any], chance: random.Random) -> tuple[dict[str, Any], str]:
    """The header with one place changed, gone, or new, and what was done."""
    header = copy.deepcopy(header)
    # The long history and the classes' names would be nearly all places otherwise.
    spots = [(holder, key) for holder, key in places(header) if isinstance(key, str) or key == 0]
    holder, key = chance.choice(spots)
    what = chance.random()
    if what < 0.2:
        del holder[key]
        return header, f"without {key}"
    if what < 0.25 and isinstance(holder, dict):
        holder["unknown"] = chance.choice(BOMBS)
        return header, f"an unknown key beside {key}"
    value = chance.choice(BOMBS)
    holder[key] = value
    return header, f"{key} = {str(value)[:40]}"


def write(path: Path, header: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Write a file with a digest that fits: what it holds is meant."""
    save_file(tensors, path, {"latentdiff": digest.header_with_digest(header)})
    digest.sign_tensors(path)


def use(kind: str, path: Path) -> None:
    """Load a file, and use what is loaded."""
    if kind == "classifier":
        ClassifierFeatures(path)
        return
    model = load(path)
    if model.provenance:
        training_record(model.provenance)
    if isinstance(model, DiffusionModel):
        model.sample(1, steps=2)
    else:
        model.decode(torch.zeros(1, *model.latent_shape))


def attack(kind: str, folder: Path, count: int) -> tuple[int, list[str]]:
    """Load ``count`` edited files and use them: how many were refused, and what happened otherwise than it should."""
    path, header, tensors = model_files(folder)[kind]
    peak_before = peak_memory_of_process()
    chance, refused, wrong = random.Random(f"headers of {kind}"), 0, []
    for _ in range(count):
        changed, what = edited(header, chance)
        write(path, changed, tensors)
        start = time.perf_counter()
        try:
            use(kind, path)
        except LatentdiffError as error:
            refused += isinstance(error, CheckpointError)
            if len(str(error).splitlines()) > 3 or len(str(error)) > 1000:
                wrong.append(f"{what}: a message of {len(str(error))} characters")
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:100]}")
        if time.perf_counter() - start > SECONDS:
            wrong.append(f"{what}: {time.perf_counter() - start:.1f} s")
    if peak_memory_of_process() > BYTES + peak_before:
        wrong.append("more than 1 GB of memory")
    return refused, wrong


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion", "classifier"])
def test_a_header_edited_at_one_place(kind, tmp_path):
    refused, wrong = attack(kind, tmp_path, QUICK)
    assert not wrong
    assert refused >= QUICK // 4  # the others changed what does no harm, such as a record


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["autoencoder", "diffusion", "classifier"])
def test_many_edits(kind, tmp_path):
    assert not attack(kind, tmp_path, MANY)[1]


NETWORK_BOMBS = [
    ("network", "channels", [10**9]),
    ("network", "channels", [65_536] * 8),
    ("network", "num_res_blocks", 10**7),
    ("network", "num_res_blocks", 250),
    ("network", "embedding_channels", 10**9),
    ("network", "head_channels", 10**9),
    ("diffusion", "num_train_steps", 10**9),
    ("diffusion", "num_train_steps", 10**12),
    ("image_shape", 1, 10**9),
]


@pytest.mark.parametrize(("part", "key", "value"), NETWORK_BOMBS)
def test_what_would_take_all_memory_is_refused(part, key, value, tmp_path):
    path, header, tensors = model_files(tmp_path)["diffusion"]
    header[part][key] = value
    write(path, header, tensors)
    start = time.perf_counter()
    with pytest.raises(CheckpointError):
        load(path)
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize(
    "name", ["../autoencoder.safetensors", "/etc/passwd", "a/b", "..", ".", "", "c:x", "a\\b", "a\0b", 3, None, ["a"]]
)
def test_an_autoencoder_elsewhere_is_not_even_looked_for(name, tmp_path, monkeypatch):
    path, header, tensors = model_files(tmp_path)["diffusion"]
    tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("network.")}
    write(path, {**header, "codec_file": {"name": name, "sha256": "0" * 64}}, tensors)
    opened, known = [], digest.file_digest
    monkeypatch.setattr(digest, "file_digest", lambda path: opened.append(path) or known(path))
    with pytest.raises(CheckpointError, match=r"codec_file\.name must be the bare name of a file"):
        load(path)
    assert set(map(Path, opened)) <= {path}


def test_a_header_of_absurd_length_is_not_read(tmp_path):
    path = tmp_path / "long.safetensors"
    for length in (2**63, 2**64 - 1, 10**9, 17 * 2**20, 0):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(CheckpointError, match=r"its header would have [\d,]+ bytes"):
            load(path)
    for content in (b"", b"\0", b"\1" + 7 * b"\0", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"null"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load(path)


@pytest.mark.parametrize("text", ["[" * 50_000, "{", "[]", "3", "null", '{"format": NaN}', '{"format": 1, "kind": []}'])
def test_a_header_that_is_no_object(text, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"latentdiff": text})
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_other_names_shapes_and_types(tmp_path):
    path, header, tensors = model_files(tmp_path)["diffusion"]
    first = "network.stem.weight"
    for changed in (
        {**tensors, first: tensors[first][:1]},
        {**tensors, first: tensors[first].to(torch.int8)},
        {name: tensor for name, tensor in tensors.items() if name != first},
        {**tensors, "network.more": torch.zeros(1)},
        {**tensors, "elsewhere.more": torch.zeros(1)},
        {**tensors, "codec.latent_std": torch.zeros(2)},
        {**tensors, "codec.latent_mean": torch.zeros(1)},
        {},
    ):
        write(path, header, changed)
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_the_peak_of_memory_is_that_of_the_file():
    """In a process of its own: torch and the package alone, and then the worst of the headers."""
    code = f"""
import sys, tempfile
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_hostile_files as t
with tempfile.TemporaryDirectory() as folder:
    path, header, tensors = t.model_files(Path(folder))["diffusion"]
    for part, key, value in t.NETWORK_BOMBS:
        other = t.copy.deepcopy(header)
        other[part][key] = value
        t.write(path, other, tensors)
        try:
            t.load(path)
        except t.CheckpointError:
            continue
        sys.exit(f"{{part}} {{key}} was taken")
sys.exit(0 if t.peak_memory_of_process() < 2**30 else "more than 1 GB")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_small_files_themselves_load(tmp_path):
    model_files(tmp_path)
    assert load(tmp_path / "diffusion.safetensors").sample(1, steps=2).shape == (1, 1, 8, 8)
    assert load_codec(tmp_path / "autoencoder.safetensors").latent_shape == (2, 4, 4)
