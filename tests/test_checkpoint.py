from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentdiff import checkpoint, digest
from latentdiff.errors import CheckpointError
from latentdiff.files import write_atomically

CLASSIFIER = {
    "network": {"image_shape": [1, 8, 8], "num_classes": 2, "channels": [3]},
    "class_names": ["a", "b"],
    "data": {"name": "é"},
    "test_accuracy": 0.5,
}


def test_round_trip_keeps_values_and_casts_only_floats(tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    tensors = {"w": torch.randn(3, 4), "steps": torch.tensor([7])}
    checkpoint.save(path, "classifier", tensors, CLASSIFIER, torch.bfloat16)
    header, back = checkpoint.read(path, "classifier")
    assert header == {"format": 1, "kind": "classifier", **CLASSIFIER}
    assert back["w"].dtype == torch.float32
    torch.testing.assert_close(back["w"], tensors["w"], rtol=8e-3, atol=0)
    assert torch.equal(back["steps"], tensors["steps"])
    assert os.listdir(path.parent) == [path.name]


def test_bad_files_are_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="there is no model file"):
        checkpoint.read(path)
    long = (checkpoint.MAX_HEADER_BYTES + 1).to_bytes(8, "little")
    for start, size, message in (
        (b"no weights", 10, "damaged"),
        (b"short", 5, "its header would have 0 bytes"),
        (long, checkpoint.MAX_HEADER_BYTES + 99, "its header would have 16,777,217 bytes"),
    ):
        path.write_bytes(start)
        os.truncate(path, size)
        with pytest.raises(CheckpointError, match=message):
            checkpoint.read(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not one that latentdiff wrote"):
        checkpoint.read(path)
    path.unlink()
    checkpoint.save(path, "autoencoder", {"w": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="'autoencoder' where 'diffusion'"):
        checkpoint.read(path, "diffusion")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


@pytest.mark.parametrize("name", ["thesis.tex", "another.safetensors", "folder"])
def test_a_file_of_the_users_is_not_replaced_by_a_model(tmp_path, name):
    path, weights = tmp_path / name, {"w": torch.zeros(1)}
    if name == "folder":
        path.mkdir()
    elif path.suffix == ".safetensors":
        save_file({"theirs": torch.ones(1)}, path)
    else:
        path.write_text("precious")
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(CheckpointError, match=f"{name} is not written: .* would be lost"):
        checkpoint.save(path, "autoencoder", weights, {})
    assert (path.read_bytes() if path.is_file() else None) == before
    checkpoint.save(tmp_path / "model", "autoencoder", weights, {})
    checkpoint.save(tmp_path / "model", "autoencoder", weights, {})  # its own is
    if path.is_file():
        (tmp_path / ".latentdiff").write_text("{}")  # and a run's own model, though it is damaged, but no other file
        checkpoint.save(path.rename(tmp_path / "model.safetensors"), "autoencoder", weights, {})
        path.write_text("precious")
        with pytest.raises(CheckpointError, match="would be lost"):
            checkpoint.save(path, "autoencoder", weights, {})


def test_a_type_that_does_not_hold_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="int16 does not hold weights"):
        checkpoint.save(tmp_path / "a", "classifier", {"w": torch.randn(3, 4)}, CLASSIFIER, torch.int16)
    assert not (tmp_path / "a").exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("old")

    def fail(name):
        name.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(value, tmp_path, monkeypatch):
    path, tensors = tmp_path / "model.safetensors", {"w": torch.tensor([1.0, value]), "steps": torch.tensor([7])}
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is not written: the weights in w are NaN or infinite"
    ):
        checkpoint.save(path, "classifier", tensors, CLASSIFIER)
    assert not list(tmp_path.iterdir())
    checkpoint.write_tensors(path, tensors, {"format": 1, "kind": "classifier", **CLASSIFIER})
    with pytest.raises(CheckpointError, match=r"model\.safetensors are NaN or infinite \(w\): its training diverged"):
        checkpoint.read(path)


def test_large_weights_are_finite():
    assert checkpoint.name_of_not_finite({"w": torch.full((4,), 3e38), "n": torch.tensor([1])}) is None
    assert checkpoint.name_of_not_finite({}) is None


def test_a_file_without_a_digest_is_read_with_a_note_once(tmp_path, capsys):
    path = tmp_path / "older.safetensors"
    header = {"format": 1, "kind": "classifier", **CLASSIFIER}
    save_file({"w": torch.zeros(2)}, path, {"latentdiff": json.dumps(header)})
    for _ in range(2):
        assert checkpoint.read(path)[0] == header
    assert (
        capsys.readouterr().out
        == f"{path} has no digest, like files of earlier versions: damage to it would go unnoticed\n"
    )


def test_every_released_file_has_a_digest_that_fits():
    files = sorted(Path(checkpoint.__file__).parents[1].glob("checkpoints/*/*.safetensors"))
    assert len(files) >= 10
    for file in files:
        assert digest.check_tensors(file), file


def test_weights_of_another_network_are_refused_in_a_short_message():
    state = {f"layers.{index}.convolution.weight": torch.zeros(1) for index in range(1000)}
    with pytest.raises(CheckpointError, match="the weights in w do not fit the network: Unexpected key") as refused:
        checkpoint.load_weights(torch.nn.Identity(), state, "w")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("state", "difference"),
    [
        ({"weight": torch.zeros(2, 3)}, r"bias is absent, not \[2\]"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.ones(1)}, r"more is \[1\], not absent"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2).int()}, r"bias is whole numbers \[2\], not \[2\]"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(state, difference):
    with pytest.raises(CheckpointError, match=f"the weights in w do not fit the network: {difference}"):
        checkpoint.build_with_weights(lambda: torch.nn.Linear(3, 2), state, "w")
