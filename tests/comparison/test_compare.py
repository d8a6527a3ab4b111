"""compare from Python: the same report as the command's, of anything that can be evaluated."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest

from latentdiff import compare, evaluate, load, load_dataset
from latentdiff.config import DataConfig, SamplingConfig
from latentdiff.errors import ConfigError, FolderError, ReportError
from latentdiff.stages import compare as stage

LATENT = "checkpoints/fashion-mnist/latent.safetensors"
SETTINGS = {"num_images": 20, "real_images": 20, "inception": "off", "lpips": "off"}


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataConfig(source="embedded"))


@pytest.fixture(scope="module")
def noise(data):
    return evaluate("noise", data, **SETTINGS)


def test_the_command_and_the_call_write_the_same_report(data, noise, tmp_path):
    latent = evaluate(LATENT, data, sampling=SamplingConfig(steps=2, batch_size=20), **SETTINGS)
    folders = [str(noise.save(tmp_path / "noise")), str(latent.save(tmp_path / "latent"))]
    stage.main([*folders, f"--run.folder={tmp_path / 'asked'}"])
    called = compare([noise, latent], folder=tmp_path / "called")
    assert called.folder == tmp_path / "called"
    for name in ("report.json", "report.md", "index.html"):
        assert (tmp_path / "asked" / name).read_bytes() == (tmp_path / "called" / name).read_bytes()
    with pytest.raises(FolderError, match="already holds a comparison:"):
        compare(folders, folder=tmp_path / "called")
    assert compare(folders).table == called.table


def test_models_that_are_not_evaluated_are_evaluated_alike(data, noise):
    model = load(LATENT)
    report = compare([model, noise, data.test.images[:20]], data, sampling=SamplingConfig(steps=2, batch_size=20))
    assert [row["name"] for row in report.table] == ["noise", "images", "latent", "real images"]
    assert {evaluation.values["num_images"] for evaluation in report.evaluations} == {20}
    assert all(evaluation.get("features", "inception") is None for evaluation in report.evaluations)
    assert report.table[0]["distance_test"] == noise.metrics["classifier"]["distance_test"]


def test_a_report_shows_itself_and_is_saved(noise, tmp_path):
    report = compare([noise, noise, replace(noise)], title="Twice & more")
    assert report.verdict.startswith("Whether the latent space paid off cannot be said")
    assert str(report).startswith(report.verdict)
    assert "Twice &amp; more" in report._repr_html_()
    assert "http" not in report._repr_html_()
    assert [row["name"] for row in report.table] == ["noise (1)", "noise (2)", "real images"]
    assert repr(report) == "Report('Twice & more': noise (1), noise (2))"
    page = report.save(tmp_path / "page")
    assert page == tmp_path / "page" / "index.html"
    found = json.loads((tmp_path / "page" / "report.json").read_text())
    schema = json.loads((resources.files("latentdiff.report") / "report.schema.json").read_text())
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    assert found["verdict"] == report.verdict


def test_what_cannot_be_compared_is_named(data, noise):
    with pytest.raises(ReportError, match="there is nothing to compare"):
        compare([], data)
    with pytest.raises(ConfigError, match="1 of the 2 models are not evaluated yet: give data"):
        compare([noise, LATENT])
    with pytest.raises(ReportError, match="there is no model or evaluation at nowhere"):
        compare([noise, "nowhere"], data)
    fewer = evaluate("noise", data, name="fewer", **{**SETTINGS, "num_images": 10})
    with pytest.raises(ReportError, match="noise and fewer do not compare, the number of images differs: 20 against"):
        compare([noise, fewer])
