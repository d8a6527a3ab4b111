"""diffusers:USER/NAME: a pipeline of the Hub, served by a stand-in on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from latentdiff import load
from latentdiff.errors import CheckpointError
from tests.export.hub_server import HubServer, Repository

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, with an empty cache."""
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        address = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def put(hub, name, folder):
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.*")}
    return hub.repos.setdefault(name, Repository()).commit("main", files)


def test_a_pipeline_is_fetched_by_diffusers(hub, pixel_pipeline):
    commit = put(hub, "someone/ddpm", pixel_pipeline.removeprefix("diffusers:"))
    expected = load(pixel_pipeline).sample(1, steps=2)
    assert torch.equal(load("diffusers:someone/ddpm").sample(1, steps=2), expected)
    assert torch.equal(load(f"diffusers:someone/ddpm,revision={commit}").sample(1, steps=2), expected)


def test_a_pipeline_of_old_is_fetched_too(hub, pixel_pipeline, tmp_path):
    source = Path(pixel_pipeline.removeprefix("diffusers:"))
    for path in source.rglob("*.*"):
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / "old" / path.name).write_bytes(path.read_bytes())
    put(hub, "someone/old", tmp_path / "old")
    assert torch.equal(load("diffusers:someone/old").sample(1, steps=2), load(pixel_pipeline).sample(1, steps=2))


@pytest.mark.parametrize("name", ["someone/nothing", "someone/ddpm,revision=nowhere"])
def test_what_is_not_there_is_an_error_in_a_line(hub, pixel_pipeline, name):
    put(hub, "someone/ddpm", pixel_pipeline.removeprefix("diffusers:"))
    with pytest.raises(CheckpointError) as error:
        load(f"diffusers:{name}")
    assert "\n" not in str(error.value)
    assert name.split(",")[0] in str(error.value)
    print(error.value)
