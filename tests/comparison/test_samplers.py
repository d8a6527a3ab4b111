from __future__ import annotations

import json

import pytest

from latentdiff import resources as shelf
from latentdiff.comparison.samplers import compare_samplers
from latentdiff.config import DataConfig, RunConfig
from latentdiff.config.comparison_stages import SamplersStage
from latentdiff.errors import FolderError

RELEASED = shelf.find_checkpoint("fashion-mnist/latent.safetensors")


def stage(folder, **settings):
    run = RunConfig(folder=str(folder), **settings.pop("run", {}))
    data = DataConfig(source="embedded")
    defaults = {"samplers": ("ddim", "heun"), "steps": (1, 2), "num_images": 20, "data": data, "run": run}
    return SamplersStage(**{**defaults, "features_folder": str(folder.parent / "features"), **settings})


@pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")
def test_every_pair_is_measured_once_and_a_resumed_run_adds_what_is_missing(tmp_path, capsys):
    folder = compare_samplers(stage(tmp_path / "run", steps=(2,)))
    first = json.loads((folder / "samplers.json").read_text())
    assert [(row["sampler"], row["steps"], row["passes"]) for row in first["rows"]] == [("ddim", 2, 2), ("heun", 2, 2)]
    assert (folder / "samplers.png").stat().st_size > 1000
    compare_samplers(stage(tmp_path / "run", run={"resume": True}))
    second = json.loads((folder / "samplers.json").read_text())
    assert second["rows"][:2] == first["rows"]
    assert len(second["rows"]) == 4
    text = (folder / "samplers.md").read_text()
    assert "| Steps | ddim | heun |" in text
    assert "Standard errors from" in text
    with pytest.raises(FolderError, match="already holds a comparison of samplers:"):
        compare_samplers(stage(tmp_path / "run"))


@pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")
@pytest.mark.parametrize("changes", [{"num_images": 30}, {"seed": 1}, {"guidance_scale": 2.0}])
def test_measurements_under_other_conditions_are_not_joined(tmp_path, changes):
    folder = compare_samplers(stage(tmp_path / "run", samplers=("ddim",), steps=(1,)))
    (folder / "config.yaml").unlink()  # what the message of a damaged one advises
    with pytest.raises(FolderError, match=r"start anew with --run\.overwrite"):
        compare_samplers(stage(tmp_path / "run", samplers=("ddim",), steps=(2,), run={"resume": True}, **changes))
