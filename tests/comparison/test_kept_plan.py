from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentdiff.comparison import kept_plan
from latentdiff.comparison.kept_plan import keep_plan
from latentdiff.comparison.training_plan import read_runs
from latentdiff.errors import FolderError
from latentdiff.folder_mark import claim

FOLDER = Path("all")


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """The names of the runs that were measured. Each trains 100 images a second."""
    asked = []

    def rates(missing, _):
        asked.extend(run.name for run in missing)
        return {run.name: 100.0 for run in missing}

    monkeypatch.setattr(kept_plan, "measure_rates", rates)
    claim(FOLDER, [kept_plan.PLAN], "reproduce")
    return asked


def runs(pixel=50_000, **more):
    lengths = {"autoencoder": 50_000, "pixel": pixel} | more
    stages = {name: "autoencoder" if name == "autoencoder" else "diffusion" for name in lengths}
    return read_runs(
        {
            name: [stages[name], f"--trainer.max_images={images}", *["--autoencoder=none"] * (name != "autoencoder")]
            for name, images in lengths.items()
        },
        [],
    )


def test_a_time_is_shared_and_the_share_is_kept(measured):
    share, rates = keep_plan("500s", runs(), runs(), FOLDER)
    assert (share, set(rates)) == (0.5, {"autoencoder", "pixel"})
    assert keep_plan("500s", runs(), runs(), FOLDER) == (share, rates)
    assert sorted(measured) == ["autoencoder", "pixel"]  # once


def test_a_time_is_shared_anew_among_other_runs_until_one_has_trained(measured):
    keep_plan("500s", runs(), runs(), FOLDER)
    share, _ = keep_plan("500s", runs(pixel=150_000), runs(), FOLDER)
    assert share == 0.25
    (FOLDER / "pixel").mkdir()
    (FOLDER / "pixel" / "last.ckpt").touch()
    assert keep_plan("500s", runs(pixel=150_000), runs(), FOLDER)[0] == 0.25
    with pytest.raises(FolderError, match="has shared its 500s among other runs, or among runs with other settings"):
        keep_plan("500s", runs(), runs(), FOLDER)


def test_other_threads_and_places_are_the_same_runs():
    keep_plan("500s", runs(), runs(), FOLDER)
    (FOLDER / "pixel").mkdir()
    (FOLDER / "pixel" / "last.ckpt").touch()
    again = read_runs(
        {run.name: [run.stage, *run.flags] for run in runs()}, ["--trainer.num_threads=2", "--data.root=/elsewhere"]
    )
    assert keep_plan("500s", again, again, FOLDER)[0] == 0.5


def test_a_share_of_the_length_allows_further_runs(measured):
    assert keep_plan("0.1", runs(), runs(), FOLDER)[0] == 0.1
    (FOLDER / "pixel").mkdir()
    (FOLDER / "pixel" / "model.safetensors").touch()
    more = runs(pixel=60_000, wide=10_000)
    assert keep_plan("0.1", more, more, FOLDER)[0] == 0.1
    assert measured.count("autoencoder") == 1
    assert measured.count("pixel") == 2  # it has other settings
    assert measured.count("wide") == 1


def test_a_damaged_plan_says_what_to_do():
    (FOLDER / "plan.json").write_text('{"budget": "1h"}')
    with pytest.raises(FolderError, match=r"plan\.json is damaged \('rates'\)\. With a budget that is a share, remove"):
        keep_plan("1h", runs(), runs(), FOLDER)


def test_a_plan_of_an_earlier_version_is_kept():
    (FOLDER / "plan.json").write_text(json.dumps({"budget": "1h", "share": 0.3, "rates": {"autoencoder": 1.0}}))
    chosen = [run for run in runs() if run.name == "autoencoder"]
    assert keep_plan("1h", runs(), chosen, FOLDER)[0] == 0.3
