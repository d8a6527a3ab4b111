"""The folder of a Space holds all that its app needs, and the app starts from it."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
import zipfile

import pytest
import torch
import yaml

from latentdiff import load
from latentdiff.app.catalogue import Catalogue
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.export import space_folder
from latentdiff.resources import find_checkpoint
from latentdiff.stages import export

gradio = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")
FILES = {".latentdiff", "README.md", "app.py", "latentdiff.zip", "requirements.txt"}


@pytest.fixture(scope="module")
def space(tmp_path_factory, tiny_model_file):
    """A Space of a released model and of one's own."""
    folder = tmp_path_factory.mktemp("space")
    shutil.copy(tiny_model_file, folder / "mine.safetensors")
    models = ["checkpoints/fashion-mnist/latent.safetensors", str(folder / "mine.safetensors")]
    export.main([*models, "--to=space", f"--run.folder={folder / 'space'}"])
    return folder / "space"


def test_the_folder_is_whole(space):
    there = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    names = (f"fashion-mnist-{name}.{kind}" for name in ("latent", "vae_baseline") for kind in ("safetensors", "md"))
    assert there == {*FILES, *(f"models/{name}" for name in names), "models/mine.safetensors"}
    _, front, text = (space / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert (said["sdk"], said["sdk_version"], said["app_file"]) == ("gradio", gradio.__version__, "app.py")
    assert len(said["short_description"]) <= 60  # more is refused by the Hub
    assert "mine.safetensors" in text
    assert "$" not in text
    requirements = (space / "requirements.txt").read_text().splitlines()
    named = {re.split(r"[=<>]", line)[0] for line in requirements if not line.startswith("--")}
    assert {"torch", "safetensors", "pillow", "gradio", "matplotlib"} <= named
    assert not named & {"lightning", "pytest", "onnx"}


def test_its_models_are_the_same(space):
    for name, original in (
        ("fashion-mnist-latent", "checkpoints/fashion-mnist/latent.safetensors"),
        ("mine", space.parent / "mine.safetensors"),
    ):
        ours, theirs = (load(path).sample(2, steps=2) for path in (space / "models" / f"{name}.safetensors", original))
        assert torch.equal(ours, theirs)
    catalogue = Catalogue([str(path) for path in sorted((space / "models").glob("*.safetensors"))])
    assert catalogue.names == ["Fashion-MNIST, latent", "mine"]
    assert catalogue.get("Fashion-MNIST, latent").baseline.latent_shape == (32, 1, 1)
    assert catalogue.get("mine").baseline_kind == "own"


def test_a_model_is_whole_without_its_files_beside(tmp_path):
    """The released Flowers-102 model has its autoencoder in a file of its own."""
    export.main(["checkpoints/flowers-102/latent.safetensors", "--to=space"])
    (folder,) = (tmp_path / "stages" / "export").iterdir()
    assert folder.name == "flowers-102-latent-space"
    (model,) = (folder / "models").glob("*.safetensors")
    released = [find_checkpoint(f"flowers-102/{name}.safetensors").stat().st_size for name in ("latent", "autoencoder")]
    assert model.stat().st_size < 1.02 * sum(released)
    assert load(model).codec.latent_shape == (4, 16, 16)
    with zipfile.ZipFile(folder / "latentdiff.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith(".xz")]


def test_the_program_is_all_of_the_package(space):
    content = (space / "latentdiff.zip").read_bytes()
    assert content == space_folder.program_archive(with_images=True)  # twice the same bytes
    names = set(zipfile.ZipFile(io.BytesIO(content)).namelist())
    assert {"latentdiff/__init__.py", "latentdiff/app/style.css", "latentdiff/app/paint_mask.js"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".safetensors"))]


def test_it_can_be_written_anew_and_nothing_else(space, tmp_path):
    asked = [str(space.parent / "mine.safetensors"), "--to=space", f"--run.folder={tmp_path / 'again'}"]
    export.main(asked)
    export.main([*asked, "--run.overwrite"])
    (tmp_path / "again" / "notes.txt").write_text("mine")
    export.main([*asked, "--run.overwrite"])
    assert (tmp_path / "again" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        (["--precision=int8"], ConfigError, "does not support --precision int8"),
        (["--serve"], ConfigError, "--serve is for a page"),
        (["--model=missing.safetensors"], CheckpointError, "missing"),
        (["--model=checkpoints/fashion-mnist/autoencoder.safetensors"], CheckpointError, "autoencoder"),
    ],
)
def test_what_cannot_be_a_space_is_refused_before_anything_is_written(tmp_path, flags, error, words):
    with pytest.raises(error, match=words):
        export.main(["--to=space", *flags])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_app_starts_from_the_folder_alone(space, tmp_path):
    """In a process that can import neither this latentdiff nor what trains."""
    folder = shutil.copytree(space, tmp_path / "space")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("latentdiff", "lightning", "torchmetrics", "torch_fidelity", "lpips", "tensorboard", "onnx"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(blocked), "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(unpacked)}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    program = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment, **said)
    try:
        assert program.stdout.readline().startswith(f"the app is at http://127.0.0.1:{port}/")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "Fashion-MNIST, latent" in page
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as web:
            numbers = {each["api_name"]: each["id"] for each in web.get("/config").json()["dependencies"]}
            asked = {
                "data": ["mine", "Dress", 4, 3, 1.5, "dpmpp_2m", 0, "", ""],
                "fn_index": numbers["draw"],
                "session_hash": "a",
            }
            assert web.post("/gradio_api/queue/join", json=asked).status_code == 200
            assert (
                "mine: Dress, seed 0, 3 steps" in web.get("/gradio_api/queue/data", params={"session_hash": "a"}).text
            )
    finally:
        program.terminate()
        rest, _ = program.communicate(timeout=20)
    assert "Traceback" not in rest
    assert not [path for path in unpacked.rglob("*") if path.is_file()]  # of the program, or of uploads
