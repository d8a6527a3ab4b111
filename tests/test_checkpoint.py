from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from latentdiff import checkpoint
from latentdiff.errors import CheckpointError
from latentdiff.files import write_atomically


def test_round_trip_keeps_values_and_casts_only_floats(tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    tensors = {"w": torch.randn(3, 4), "steps": torch.tensor([7])}
    checkpoint.save(path, "classifier", tensors, {"name": "é"}, torch.bfloat16)
    header, back = checkpoint.read(path, "classifier")
    assert header["name"] == "é"
    assert back["w"].dtype == torch.float32
    torch.testing.assert_close(back["w"], tensors["w"], rtol=8e-3, atol=0)
    assert torch.equal(back["steps"], tensors["steps"])
    assert os.listdir(path.parent) == [path.name]


def test_bad_files_are_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="there is no model file"):
        checkpoint.read(path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not one that latentdiff wrote"):
        checkpoint.read(path)
    checkpoint.save(path, "autoencoder", {"w": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="'autoencoder' where 'diffusion'"):
        checkpoint.read(path, "diffusion")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


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
