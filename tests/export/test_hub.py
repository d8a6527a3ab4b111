"""A model goes to the Hugging Face Hub and comes back, through a stand-in for the Hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from latentdiff import load
from latentdiff.checkpoint import read_header
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.export import hub_folder
from latentdiff.files import file_sha256
from latentdiff.hub import download, name_in_cache, parse_hub_name
from latentdiff.resources import find_checkpoint
from latentdiff.runs.run_folder import folder_name
from latentdiff.stages import export
from tests.export.hub_server import HubServer, Repository

constants = pytest.importorskip("huggingface_hub.constants")
FILES = {"README.md", "config.json", "model.safetensors", "samples.png", "settings.yaml"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, with a token for it and an empty cache."""
    monkeypatch.chdir(tmp_path)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        address = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setattr(hub_folder, "NUM_SAMPLES", 2)
        yield server


def put(hub, name, *files, branch="main"):
    """Files on the Hub that somebody else has uploaded; the commit."""
    repo = hub.repos.setdefault(name, Repository())
    return repo.commit(branch, {Path(file).name: Path(file).read_bytes() for file in files})


def test_a_model_goes_out_and_comes_back(hub, tiny_model_file, tmp_path, capsys):
    export.main([str(tiny_model_file), "--to", "hub", "someone/garments"])
    said = capsys.readouterr().out
    files = hub.repos["someone/garments"].files("main")[1]
    assert set(files) == FILES
    oid = hub.repos["someone/garments"].branches["main"]
    assert f'load("hf:someone/garments@{oid[:12]}")' in said
    for name in ("hf:someone/garments", f"hf:someone/garments@{oid}", Path("hf:someone/garments")):
        assert torch.equal(load(name).sample(2, steps=2), load(tiny_model_file).sample(2, steps=2))
    config = json.loads(files["config.json"])
    folder = tmp_path / "stages" / "export" / "tiny-hub"
    assert config["library_name"] == "latentdiff"
    assert config["sha256"] == {"model.safetensors": file_sha256(folder / "model.safetensors")}
    assert config["network"]["channels"] == [8]
    assert hub.token not in said
    assert not [path for path in folder.rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]


def test_the_card_says_what_is_known(hub, tmp_path):
    """Of a released model, whose autoencoder is in a file of its own."""
    export.main(["checkpoints/flowers-102/latent.safetensors", "--to=hub", "--license=cc-by-4.0"])
    folder = tmp_path / "stages" / "export" / "flowers-102-latent-hub"
    assert {path.name for path in folder.iterdir()} == {".latentdiff", *FILES}
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "cc-by-4.0"
    assert head["library_name"] == "latentdiff"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert head["datasets"] == ["nelorth/oxford-flowers"]
    assert {"latent-diffusion", "class-conditional"} <= set(head["tags"])
    assert "# flowers-102-latent" in text
    assert "Oxford Flowers 102" in text
    assert "matrices and kernels as bf16" in text
    assert not hub.requests  # nothing is asked of the Hub without a repository
    assert read_header(folder / "model.safetensors").get("codec_file") is None
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert settings["data"]["name"] == "flowers-102"


def test_measured_figures_are_on_the_card(hub, tiny_model_file, tmp_path, monkeypatch):
    values = {
        "num_images": 1000,
        "data": {"name": "fashion-mnist"},
        "model": {"sha256": file_sha256(tiny_model_file)},
        "metrics": {"inception": {"fid_test": 12.345678, "kid_test": 0.0042, "precision": 0.7}},
        "sampling": {"sampler": "dpmpp_2m", "steps": 20, "guidance_scale": 2.0, "seed": 0, "images_per_second": 9.0},
    }
    monkeypatch.setattr(hub_folder, "read_evaluation", lambda folder: type("Found", (), {"values": values}))
    monkeypatch.setattr("latentdiff.runs.model_card._results", lambda evaluation: ["FID 12.35"])
    values["command"] = "latentdiff evaluate"
    export.main([str(tiny_model_file), "--to=hub", "--evaluation=[measured]"])
    head = yaml.safe_load((tmp_path / "stages/export/tiny-hub/README.md").read_text().split("---\n")[1])
    (index,) = head["model-index"]
    figures = {each["type"]: each for result in index["results"] for each in result["metrics"]}
    assert figures["fid"]["value"] == 12.34568
    assert figures["fid"]["name"] == "FID to the test images (1,000 images, dpmpp_2m, 20 steps, guidance 2)"
    assert head["metrics"] == ["fid", "kid", "precision"]
    values["model"]["sha256"] = "0" * 64
    with pytest.raises(ConfigError, match="measured another file"):
        export.main([str(tiny_model_file), "--to=hub", "--evaluation=[measured]"])


def test_an_autoencoder_goes_out_too(hub, tmp_path):
    export.main(["checkpoints/fashion-mnist/autoencoder.safetensors", "--to", "hub", "me/vae", "--private"])
    assert hub.repos["me/vae"].private
    assert set(hub.repos["me/vae"].files("main")[1]) == FILES - {"samples.png"}
    assert load("hf:me/vae").latent_shape == (2, 7, 7)


def test_a_branch_is_made_and_main_stays(hub, tiny_model_file):
    export.main([str(tiny_model_file), "--to", "hub", "me/tiny", "--revision=trial"])
    repo = hub.repos["me/tiny"]
    assert set(repo.files("trial")[1]) == FILES
    assert not repo.files("main")[1]
    assert load("hf:me/tiny@trial").class_names[1] == "Dress"
    with pytest.raises(CheckpointError, match=r"me/tiny has no model.safetensors"):
        download("hf:me/tiny")


def test_another_repository_is_not_overwritten(hub, tiny_model_file, tmp_path):
    (tmp_path / "README.md").write_text("of another")
    before = put(hub, "me/bert", tmp_path / "README.md")
    with pytest.raises(ConfigError, match="me/bert holds files that latentdiff did not write"):
        export.main([str(tiny_model_file), "--to", "hub", "me/bert"])
    with pytest.raises(ConfigError, match="me/bert holds files that latentdiff did not write"):  # a branch begins there
        export.main([str(tiny_model_file), "--to", "hub", "me/bert", "--revision=trial"])
    assert hub.repos["me/bert"].branches == {"main": before}
    assert not (tmp_path / "stages").exists()
    for _ in range(2):  # the second time it is ours
        export.main([str(tiny_model_file), "--to", "hub", "me/bert", "--run.overwrite"])
    export.main([str(tiny_model_file), "--to", "hub", "me/bert"])
    export.main([str(tiny_model_file), "--to", "hub", "me/bert", "--revision=trial"])  # and a branch of it
    assert len(hub.objects) == 2  # weights and samples, each uploaded once


@pytest.mark.parametrize("status", [403, 500])
def test_an_upload_that_fails_leaves_the_folder(hub, tiny_model_file, tmp_path, status):
    hub.fail_commits = status
    with pytest.raises(ConfigError, match="hf upload me/tiny") as caught:
        export.main([str(tiny_model_file), "--to", "hub", "me/tiny"])
    folder = tmp_path / "stages" / "export" / "tiny-hub"
    assert {path.name for path in folder.iterdir()} == {".latentdiff", *FILES}
    assert len(str(caught.value).splitlines()) <= 3
    assert str(status) in str(caught.value)
    assert hub.token not in str(caught.value)
    with pytest.raises(ConfigError, match=r"`hf upload me/own \S+ --private --revision trial`"):
        export.main([str(tiny_model_file), "--to", "hub", "me/own", "--private", "--revision=trial"])


def test_a_wrong_token_is_not_shown(hub, tiny_model_file, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "y" * 30)
    with pytest.raises(ConfigError, match="hf auth login") as caught:
        export.main([str(tiny_model_file), "--to", "hub", "me/tiny"])
    assert "yyy" not in str(caught.value)


def test_a_download_goes_on_where_it_was_cut(hub, tiny_model_file, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what is kept of a download comes in whole chunks
    put(hub, "me/tiny", tiny_model_file)
    hub.cut_after = 1000
    assert load("hf:me/tiny/tiny.safetensors").class_names[1] == "Dress"
    ranges = [headers["Range"] for headers in hub.asked("GET", "/resolve/") if "Range" in headers]
    assert ranges == ["bytes=1000-"]


def test_a_released_file_brings_its_autoencoder(hub):
    files = [find_checkpoint(f"fashion-mnist/{name}.safetensors") for name in ("latent", "autoencoder")]
    flowers = [find_checkpoint(f"flowers-102/{name}.safetensors") for name in ("latent", "autoencoder")]
    put(hub, "me/fashion", *files)
    commit = put(hub, "me/flowers", *flowers)
    put(hub, "me/flowers", flowers[0])  # a later commit lacks it; the earlier one counts
    model = load(f"hf:me/flowers/latent.safetensors@{commit}")
    assert model.codec.latent_shape == (4, 16, 16)
    with pytest.raises(CheckpointError, match=r"me/flowers has no autoencoder\.safetensors"):
        load("hf:me/flowers/latent.safetensors")


def test_folders_are_named_after_the_repository(hub, tiny_model_file):
    put(hub, "me/tiny-model", tiny_model_file)
    path = download("hf:me/tiny-model/tiny.safetensors")
    assert folder_name(path) == name_in_cache(path) == "tiny-model-tiny"
    export.main([str(tiny_model_file), "--to", "hub", "me/garments"])
    assert folder_name(download("hf:me/garments")) == "garments"
    assert name_in_cache(tiny_model_file) is None


def test_without_the_hub_the_cache_serves(hub, tiny_model_file, monkeypatch):
    put(hub, "me/tiny", tiny_model_file)
    kept = download("hf:me/tiny/tiny.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("hf:me/tiny/tiny.safetensors") == kept
    with pytest.raises(CheckpointError, match="is not in the Hub's cache"):
        download("hf:me/other")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        export.main([str(tiny_model_file), "--to", "hub", "me/tiny"])


def test_what_is_not_there_is_said_in_a_line(hub, tiny_model_file, tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    put(hub, "me/pipeline", tmp_path / "model_index.json")
    put(hub, "me/tiny", tiny_model_file)
    for name, words in {
        "hf:me/nothing": "no such repository",
        "hf:me/tiny@v9": "has no revision v9",
        "hf:me/tiny": "It has tiny.safetensors: name one, as hf:me/tiny/tiny.safetensors",
        "hf:me/pipeline": 'take "diffusers:me/pipeline"',
    }.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            load(name)
        assert len(str(caught.value)) < 250
    assert len(hub.asked("GET", "/tree/")) == 2


@pytest.mark.parametrize(
    "name", ["hf:", "hf:garments", "hf:a/b@", "hf:a/b/../../c.safetensors", "hf:a b/c", "hf:a/b@x@y"]
)
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(CheckpointError, match="hf:USER/NAME@REVISION"):
        parse_hub_name(name)


@pytest.mark.parametrize("repo", ["garments", "a/b/c", "a--b/c..d", "a/b c"])
def test_a_repository_that_cannot_be_is_refused_before_anything_is_written(hub, tiny_model_file, tmp_path, repo):
    with pytest.raises(ConfigError, match="--repo"):
        export.main([str(tiny_model_file), "--to=hub", f"--repo={repo}"])
    assert not (tmp_path / "stages").exists()
    assert not hub.requests


@pytest.mark.parametrize("flag", ["--repo=a/b", "--private", "--evaluation=[x]", "--license=mit", "--revision=x"])
def test_its_settings_go_with_it_alone(tiny_model_file, flag):
    with pytest.raises(ConfigError, match="is for the Hub: give --to hub too"):
        export.main([str(tiny_model_file), "--to=onnx", flag])


def test_the_extra_is_named(tiny_model_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: load("hf:a/b"), lambda: export.main([str(tiny_model_file), "--to=hub"])):
        with pytest.raises(ConfigError, match=r"pip install 'latentdiff\[hub\]'"):
            call()


@pytest.mark.slow
def test_every_command_takes_a_model_of_the_hub(tiny_model_file, tmp_path):
    """As a user types it, in processes of their own."""
    with HubServer() as hub:
        put(hub, "me/tiny", tiny_model_file)
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        name = "hf:me/tiny/tiny.safetensors"
        for command in (["sample", "--num-images=2", "--steps=2"], ["export", "--to=hub"]):
            model = [f"--model={name}"]
            done = subprocess.run(
                [sys.executable, "-m", "latentdiff", command[0], *model, *command[1:]],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert {path.name for path in (tmp_path / "stages" / "sample").iterdir()} == {"tiny-tiny"}
