"""Commands take ``--model diffusers:…``: the model becomes a file of ours in the cache folder, by its content."""

from __future__ import annotations

import pytest
import torch

from latentdiff import load
from latentdiff.inference.model_file import find_model
from latentdiff.stages import sample


def test_a_model_becomes_a_file_once(pixel_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    path = find_model(pixel_pipeline)
    assert path.suffix == ".safetensors"
    assert path.is_relative_to(tmp_path / "cache")
    before = path.stat().st_mtime_ns
    assert find_model(pixel_pipeline) == path
    assert path.stat().st_mtime_ns == before
    assert torch.equal(load(path).sample(1, steps=2), load(pixel_pipeline).sample(1, steps=2))
    assert find_model("checkpoints/fashion-mnist/latent.safetensors").is_file()


@pytest.mark.slow
def test_sample_draws_with_it_and_goes_on(pixel_pipeline, tmp_path):
    given = ["--model", pixel_pipeline, "--steps=2", "--pngs=true", "--device=cpu", f"--run.folder={tmp_path / 'run'}"]
    sample.main([*given, "--num_images=2"])
    sample.main([*given, "--num_images=3", "--run.resume=true"])
    assert len(list((tmp_path / "run").rglob("*.png"))) == 4  # and the grid


@pytest.mark.slow
def test_other_engines_and_precisions(pixel_pipeline, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path))
    model = load(pixel_pipeline)
    images = model.sample(4, steps=3)
    graph = load(pixel_pipeline, engine="onnxruntime")
    assert (graph.sample(4, steps=3).int() - images.int()).abs().max() <= 1
    many = graph.sample(66, steps=1, batch_size=66)  # diffusers makes maps contiguous from 64 images on
    assert (many.int() - model.sample(66, steps=1, batch_size=66).int()).abs().max() <= 1
    half = model.sample(4, steps=3, precision="bf16")
    assert (half.int() - images.int()).abs().float().mean() < 3
