"""``latentdiff env``: what a bug report needs, and nothing that must stay with the user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latentdiff import __version__, environment
from latentdiff.stages import env

SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "LATENTDIFF_TOKEN")


@pytest.fixture
def record(capsys):
    """What the command prints with ``--json``."""
    env.main(["--json"])
    return json.loads(capsys.readouterr().out)


def test_the_record_tells_versions_devices_and_threads(record):
    assert record["versions"]["latentdiff"] == __version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["threads"]["torch"] == torch.get_num_threads()
    assert record["devices"][0]["kind"] == "cpu"
    assert record["devices"][0]["memory"] > 2**28
    assert len(record["devices"]) == 1 + torch.cuda.device_count()


def test_lines_say_the_same(capsys):
    env.main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["latentdiff", __version__] for line in lines)
    assert any(line.startswith("decoded images") and "none yet in stages/data" in line for line in lines)


def test_no_secret_is_printed(capsys, monkeypatch, tmp_path):
    for name in (*SECRETS, *environment.NUMBERS):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("LATENTDIFF_DATA", str(tmp_path / "hush-hush"))
    for flags in ([], ["--json"]):
        env.main(flags)
        printed = capsys.readouterr().out
        assert "hush-hush" not in printed
        assert "OMP_NUM_THREADS" in printed
        assert "set, but nothing is there" in printed


def test_the_size_of_a_cache_is_that_of_its_files(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "graphs").mkdir(parents=True)
    (tmp_path / "cache" / "graphs" / "a.onnx").write_bytes(bytes(3000))
    (tmp_path / "cache" / "b.json").write_bytes(bytes(500))
    found = environment.environment_record()
    assert found["caches"]["graphs of engines"] == 3500
    assert found["caches"]["latents"] is None


def test_a_path_in_the_home_folder_is_shown_without_the_user(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    monkeypatch.setenv("LATENTDIFF_CACHE", "/home/somebody/.cache/latentdiff")
    assert environment.environment_record()["folders"]["graphs of engines"] == "~/.cache/latentdiff"


def test_extras_list_their_packages_with_versions():
    lines = [
        "torch>=2.11",
        "numpy>=1; extra == 'onnx'",
        'no-such-package-here>=1; extra == "wandb"',
        "pytest>=8; extra == 'test'",
        "latentdiff[onnx]; extra == 'openvino'",
    ]
    found = environment.extras(lines)
    assert set(found) == {"onnx", "wandb"}
    assert found["onnx"]["numpy"]
    assert found["wandb"] == {"no-such-package-here": None}
