"""The evaluate stage with an Inception of random weights: everything that hangs on it, up to the page."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from latentdiff.stages import compare, evaluate

# Distances in 2,048 dimensions, a dozen of them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory, inception_file):
    """evaluation.json of the embedded test images' Gaussian, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("evaluated")
    arguments = ["--model=gaussian", "--data.source=embedded", "--num_images=100", "--real_images=100"]
    arguments += [f"--inception_weights={inception_file}", "--inception_taps=[64]", "--fid_infinity=true"]
    arguments += ["--lpips=off", f"--features_folder={folder / 'features'}", f"--run.folder={folder / 'gaussian'}"]
    evaluate.main(arguments)
    return json.loads((folder / "gaussian" / "evaluation.json").read_text()), folder


def test_every_figure_of_inception_is_there(measured):
    values, folder = measured
    found, floor = values["metrics"]["inception"], values["floors"]["inception"]
    assert found["fid_test"] > floor["fid_test"] > 0
    assert found["taps"]["64"]["fid_test"] > found["taps"]["64"]["floor"] > 0
    assert set(found["fid_infinity"]) >= {"value", "residual"}
    assert {"precision", "recall", "density", "coverage", "kid_test", "memorisation"} <= set(found)
    assert found["inception_score"]["mean"] >= 1  # the random weights have a head
    assert values["features"]["inception"]["weights_sha256"]
    assert any("fewer than the 2,048 features" in warning for warning in values["warnings"])
    assert any("not those that published FIDs use" in warning for warning in values["warnings"])
    assert len(list((folder / "features").iterdir())) == 6  # both splits for Inception, its tap and the classifier
    assert (folder / "gaussian" / "config.yaml").is_file()


def test_kids_subsets_are_a_setting(measured, inception_file):
    _, folder = measured
    usual = ["--model=gaussian", "--data.source=embedded", "--num_images=100", "--real_images=100", "--lpips=off"]
    usual += [f"--inception_weights={inception_file}", f"--features_folder={folder / 'features'}"]
    usual += ["--fid_infinity=false", f"--run.folder={folder / 'subsets'}"]
    with pytest.raises(ValueError, match="a subset of 101 cannot be drawn from 100 images and 100 real ones"):
        evaluate.main([*usual, "--kid_subset_size=101"])
    assert not (folder / "subsets").exists()
    evaluate.main([*usual, "--kid_subset_size=50", "--kid_subsets=10"])
    found = json.loads((folder / "subsets" / "evaluation.json").read_text())
    for values in (found["metrics"], found["floors"]):
        assert (values["inception"]["kid_test"]["subsets"], values["inception"]["kid_test"]["subset_size"]) == (10, 50)


def test_the_report_of_it_follows_the_schema(measured, tmp_path):
    _, folder = measured
    compare.main([str(folder / "gaussian"), f"--run.folder={tmp_path / 'report'}"])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    schema = json.loads((resources.files("latentdiff.report") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    text = Path(tmp_path / "report" / "report.md").read_text()
    assert "fewer than the 2,048 features" in text
    assert "not those that published FIDs use" in text
