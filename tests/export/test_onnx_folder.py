"""An exported folder samples without torch and without latentdiff, and draws the same images."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import load
from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig
from latentdiff.config.model_stages import ExportStage
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.digest import read_json
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.export import onnx_folder, web_folder
from latentdiff.inference.model import DiffusionModel
from latentdiff.stages import export

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

FILES = {".latentdiff", "README.md", "decoder.onnx", "encoder.onnx", "model.json", "network.onnx", "sample.py"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_model_file):
    """A folder that the stage wrote, and the model's file."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(tiny_model_file, folder)
    export.main([str(folder / "tiny.safetensors"), "--to", "onnx", "--steps=[4,2]", f"--run.folder={folder / 'onnx'}"])
    return folder


def sample_module(folder):
    """The folder's sample.py as a module."""
    spec = importlib.util.spec_from_file_location("exported_sample", folder / "sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(folder, tmp_path, *arguments):
    """The grid that sample.py draws in a process where neither torch nor latentdiff can be imported."""
    blocked = tmp_path / "blocked"
    blocked.mkdir(exist_ok=True)
    for name in ("torch", "latentdiff"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    command = [sys.executable, "sample.py", "--to", str(tmp_path / "grid.png"), *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(blocked)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.array(Image.open(tmp_path / "grid.png"))


def tiles(grid, count, side):
    """The images of a square grid, [count, side, side, ...]."""
    columns = grid.shape[1] // side
    return np.stack([grid[i // columns * side :, i % columns * side :][:side, :side] for i in range(count)])


def assert_same_images(grid, images):
    """At most one pixel in a thousand is off, by one grey level."""
    off = np.abs(
        tiles(grid, len(images), images.shape[-1]).astype(int) - images.permute(0, 2, 3, 1).squeeze(-1).numpy()
    )
    assert off.max() <= 1
    assert (off > 0).mean() <= 1e-3


@pytest.mark.parametrize("shape", [(16,), (2, 7, 7), (1, 28, 28), (4, 8, 8)])
@pytest.mark.parametrize(("seed", "index"), [(0, 0), (3, 5), (2**31, 1)])
def test_noise_is_torchs(shape, seed, index):
    noise = sample_module(Path(onnx_folder.__file__).parent).Noise((seed * 0x9E3779B1 + index) % (1 << 32))
    ours = PerImageNoise(seed, range(index, index + 1), shape)
    for _ in range(2):  # and the noise after it
        drawn_here = noise(shape)
        assert drawn_here.dtype == np.float32
        np.testing.assert_allclose(drawn_here, ours()[0].numpy(), rtol=0, atol=2e-6)


def test_the_graphs_take_any_number_of_images(exported):
    model = load(exported / "tiny.safetensors")
    codec = model.codec.model
    cases = {
        "network": (model.network, lambda n: (torch.randn(n, 2, 5, 5), 999 * torch.rand(n), torch.arange(n) % 4)),
        "encoder": (codec.encode, lambda n: (torch.rand(n, 1, 10, 10),)),
        "decoder": (codec.decode, lambda n: (torch.randn(n, 2, 5, 5),)),
    }
    for name, (function, make) in cases.items():
        session = onnxruntime.InferenceSession(exported / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for inputs in map(make, (1, 2, 7)):  # traced with three
            names = [each.name for each in session.get_inputs()]
            (output,) = session.run(None, {key: x.numpy() for key, x in zip(names, inputs, strict=True)})
            with torch.inference_mode():
                np.testing.assert_allclose(output, function(*inputs).numpy(), rtol=0, atol=5e-6)


def test_the_folder_is_whole_and_says_what_it_is(exported):
    assert {path.name for path in (exported / "onnx").iterdir()} == FILES
    record, signed = read_json(exported / "onnx" / "model.json")
    assert signed
    assert (record["latent_shape"], record["null_label"], record["target"]) == ([2, 5, 5], 3, "v")
    assert [len(record["levels"][steps]) for steps in ("4", "2")] == [5, 3]
    assert record["defaults"]["steps"] == 4
    assert record["latent_std"] == pytest.approx([1.5, 0.7])
    readme = (exported / "onnx" / "README.md").read_text()
    assert len(readme.splitlines()) <= 45
    assert "$" not in readme


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--num-images=9"], {}),
        (
            ["--num-images=4", "--labels=dress", "--guidance-scale=2", "--seed=7", "--steps=2", "--batch-size=3"],
            {"labels": "Dress", "guidance_scale": 2.0, "seed": 7, "steps": 2},
        ),
    ],
)
def test_sample_py_draws_the_same_images_without_torch(exported, tmp_path, arguments, settings):
    images = load(exported / "tiny.safetensors").sample(int(arguments[0][-1]), **{"steps": 4, **settings})
    assert images.float().std() > 3.0
    assert_same_images(drawn(exported / "onnx", tmp_path, *arguments), images)


def test_what_is_there_is_kept_unless_it_is_an_export_and_said_so(exported, tmp_path):
    asked = [str(exported / "tiny.safetensors"), "--steps=[1]"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text("mine")
    for more in ([], ["--run.overwrite"]):
        with pytest.raises(FolderError, match="holds other things"):
            export.main([*asked, f"--run.folder={tmp_path / 'mine'}", *more])
    assert (tmp_path / "mine" / "model.json").read_text() == "mine"
    with pytest.raises(FolderError, match="already holds an export:"):
        export.main([*asked, f"--run.folder={exported / 'onnx'}"])
    assert json.loads((exported / "onnx" / "model.json").read_text())["defaults"]["steps"] == 4


def test_what_cannot_be_exported_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_folder, "onnx_files", lambda model: pytest.fail("it was not refused"))
    with pytest.raises(CheckpointError, match="kind 'autoencoder'"):
        export.main(["checkpoints/fashion-mnist/autoencoder.safetensors"])
    with pytest.raises(ConfigError, match="from 1 to 1000, not 2000"):
        export.main(["--steps=[2000]"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["eps", "x0", "edm", "score"])
def test_sample_py_knows_every_target(target, tmp_path, tiny_model_file):
    tiny = load(tiny_model_file)
    process = {"schedule": "edm", "sigma_data": 0.5} if target == "edm" else {"schedule": "linear"}
    diffusion = DiffusionConfig(target=target, **process)
    model = DiffusionModel(tiny.network, tiny.network_config, diffusion, tiny.codec, tiny.class_names)
    model.save(tmp_path / "tiny.safetensors")
    export.main([str(tmp_path / "tiny.safetensors"), "--steps=[5]", f"--run.folder={tmp_path / 'onnx'}"])
    grid = drawn(tmp_path / "onnx", tmp_path, "--num-images=9", "--guidance-scale=1.5")
    assert_same_images(grid, model.sample(9, steps=5, guidance_scale=1.5))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["fashion-mnist/latent", "fashion-mnist/pixel", "flowers-102/latent", "celeba/latent"])
def test_the_released_models_are_the_same_elsewhere(name, precision, tmp_path):
    export.main([f"checkpoints/{name}.safetensors", f"--precision={precision}", f"--run.folder={tmp_path / 'onnx'}"])
    model = load(f"checkpoints/{name}.safetensors")
    guidance = 1.5 if model.conditional else 1.0
    images = model.sample(16, guidance_scale=guidance, seed=3)
    assert_same_images(drawn(tmp_path / "onnx", tmp_path, f"--guidance-scale={guidance}", "--seed=3"), images)


def test_an_imported_scheduler_goes_out_with_its_model(tmp_path, tiny_model_file):
    """Clean pixels that are not kept within [-1, 1], and noise that begins at 1."""
    tiny = load(tiny_model_file)
    codec = IdentityCodec((2, 6, 6))
    codec.value_range = None
    header = {"sampling": {"unit_noise": True, "spacing": "leading", "variance": "large"}}
    diffusion = DiffusionConfig(target="eps", schedule="linear")
    model = DiffusionModel(tiny.network, tiny.network_config, diffusion, codec, tiny.class_names, header)
    record = onnx_folder.model_record(model, tiny_model_file, ExportStage(model=str(tiny_model_file)))
    assert (record["clips"], record["unit_noise"]) == (False, True)
    assert "ddpm" not in web_folder._samplers(model)
    assert "ddpm" in web_folder._samplers(tiny)
    sampler = sample_module(Path(onnx_folder.__file__).parent).Model.__new__(
        sample_module(Path(onnx_folder.__file__).parent).Model
    )
    levels = {"3": onnx_folder.level_rows(model.schedule.sampling_levels(3, "leading"))}
    sampler.settings, sampler.decoder, sampler.negative = record | {"levels": levels}, None, None

    def run(_, given):
        x, time, labels = (torch.from_numpy(np.asarray(given[key])) for key in ("x", "time", "labels"))
        with torch.inference_mode():
            return [model.network(x, time, labels).numpy()]

    sampler.network = SimpleNamespace(run=run)
    images = model.sample(3, labels=[0, 1, 2], steps=3, seed=5)
    found = sampler.sample(np.array([0, 1, 2]), range(3), 3, 1.0, 5)
    assert np.abs(found.astype(int) - images.numpy().astype(int)).max() <= 1


def test_sample_py_finds_a_class_as_latentdiff_does(exported, tmp_path):
    folder = shutil.copytree(exported / "onnx", tmp_path / "cases")
    record = json.loads((folder / "model.json").read_text())
    names = ["a", "A", "caf\u00e9", *record["class_names"][3:]]
    (folder / "model.json").write_text(json.dumps(record | {"class_names": names}))
    sampler = runpy.run_path(str(folder / "sample.py"))["Model"](folder)
    assert [sampler.label(name) for name in ("a", "A", "Cafe\u0301", "1")] == [0, 1, 2, 1]
    for name in ("\u00b2", "b"):
        with pytest.raises(SystemExit, match="there is no class"):
            sampler.label(name)
    for flags, words in (
        (["--num-images", "0"], "--num-images must be at least 1"),
        (["--to", "nowhere/a.png"], "there is no folder nowhere"),
    ):
        done = subprocess.run([sys.executable, "sample.py", *flags], cwd=folder, capture_output=True, text=True)
        assert done.stderr.startswith(words)


def test_classes_are_not_asked_of_a_model_without(exported, tmp_path):
    folder = shutil.copytree(exported / "onnx", tmp_path / "without")
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"null_label": None, "class_names": []}))
    command = [sys.executable, "sample.py", "--labels", "Dress"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "this model is unconditional: leave out --labels" in done.stderr
