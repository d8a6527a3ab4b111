"""A search from its command line: what it refuses before it begins, and a miniature one with all that it leaves."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from latentdiff import extras, load
from latentdiff.command_line import parse
from latentdiff.comparison import search
from latentdiff.comparison.search_space import read_space
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import SEARCH_SETTINGS, SweepStage
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import ConfigError, FolderError, LatentdiffError, StageError
from latentdiff.resources import find_config
from latentdiff.stages import diffusion, sweep

SHORT = ["--network.channels=[8]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
SHORT += ["--network.middle_attention=false", "--trainer.accelerator=cpu", "--trainer.batch_size=16"]
DATA = ["--data.source=embedded", "--data.max_train_images=48"]
SPACE = "trainer.lr: {low: 1e-4, high: 1e-2, log: true}\nnetwork.channels: {choices: [[8], [16]]}\n"
LENGTH = ["--images=32", "--num_images=16", "--looks=2", "--trials=3"]
KID = ["--quality_net=inception", "--data.val_images=10"]


@pytest.fixture
def arguments():
    """Of a miniature search of the pixel model."""
    Path("space.yaml").write_text(SPACE)
    return [
        "--search=optuna",
        "--space=space.yaml",
        "--settings=demo/pixel.yaml",
        f"--flags={json.dumps(SHORT)}",
        *DATA,
    ]


def test_a_list_refuses_what_a_search_heeds_and_a_search_what_a_list_heeds(arguments):
    assert {name for name in SEARCH_SETTINGS if hasattr(SweepStage(), name)} == set(SEARCH_SETTINGS)
    for flag in ("--trials=9", "--space=space.yaml", "--pruner=none", "--flops=1e9"):
        with pytest.raises(ConfigError, match=rf"{flag.partition('=')[0]} is for a search: add --search optuna"):
            sweep.main([flag, '--runs={"a": [], "b": []}'])
    pytest.importorskip("optuna")
    for flags, said in (
        (["--finalists=1"], "--finalists is for a list of runs"),
        (['--runs={"a": []}'], "--runs is for a list of runs"),
        (["--images=32", "--flops=1e9"], "a trial has one length"),
        (["--images=32", "--seconds=5"], "a trial has one length"),
        (["--space=null"], "a search needs --space"),
        (["--space=nowhere.yaml"], r"--space nowhere\.yaml: there is no such file"),
        (
            ['--flags=["--network.channels=[48]", "--network.attention_levels=[0]"]'],
            "all trials start from: 48 channels",
        ),
        (['--flags=["--init=nothing.safetensors"]'], r"there is no model file nothing\.safetensors"),
        (['--flags=["--autoencoder=nothing.safetensors"]'], r"there is no model file nothing\.safetensors"),
        (
            ["--flags=[--trainer.devices=2]"],
            "one process: leave out --trainer.devices, and run several trials at a time with --jobs",
        ),
        (["--data.name=cifar-10", "--data.source=auto", "--data.root=nowhere"], "CIFAR-10|cifar-10"),
    ):
        with pytest.raises(LatentdiffError, match=said):
            sweep.main([*arguments, *flags])
        assert sorted(os.listdir()) == ["space.yaml"], flags


def test_a_missing_optuna_is_one_line_with_the_extra(arguments, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(ConfigError, match=r"^optuna is not installed: pip install 'latentdiff\[optuna\]'$"):
        sweep.main(arguments)
    assert os.listdir() == ["space.yaml"]


def test_each_budget_has_a_folder_of_its_own():
    names = [
        search.search_folder(SweepStage(**length)).name
        for length in ({}, {"seconds": 12.5}, {"images": 20_000}, {"flops": 1e15})
    ]
    assert names == ["search-300-seconds", "search-12.5-seconds", "search-20000-images", "search-1e15-flops"]


def test_a_budget_of_operations_may_be_as_large_as_any(arguments):
    pytest.importorskip("optuna")
    settings = {"search": "optuna", "space": "space.yaml", "settings": "demo/pixel.yaml"}
    config = SweepStage(**settings, flops=1e20)
    _, stage = search.check_search(config)
    assert search.with_budget(stage, config, 3e10).trainer.max_images == int(1e20 / 3e10)
    assert search.with_budget(stage, config, 1e30).trainer.max_images == 1


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"images": 20_000}, {"max_images": 20_000, "max_seconds": None}),
        ({"seconds": 12.5}, {"max_images": None, "max_seconds": 12.5}),
        ({"flops": 4e11}, {"max_images": 1234, "max_seconds": None}),
    ],
)
def test_the_best_settings_have_the_length_of_their_trial(arguments, length, expected):
    """Whatever length the settings have that the search began from, and whatever would have ended them early."""
    pytest.importorskip("optuna")
    flags = ("--trainer.max_seconds=99", "--trainer.max_images=77", "--trainer.stop_patience=3")
    config = SweepStage(search="optuna", space="space.yaml", settings="demo/pixel.yaml", flags=flags, **length)
    _, stage = search.check_search(config)
    amount, unit = search.budget_of(config)
    trial = {"number": 4, "value": 1.5, "facts": {"max_images": 1234, "images_seen": 1248}}
    record = {"trials": [trial], "best": 4, "metric": "distance", "sampler": "tpe"}
    record["budget"] = {"amount": amount, "unit": unit}
    text = search.best_settings(config, stage, {"trainer.lr": 0.002}, record)
    Path("best.yaml").write_text(text)
    found = parse(DiffusionStage, ["--config", "best.yaml"]).trainer
    assert {name: getattr(found, name) for name in expected} == expected
    assert (found.lr, found.stop_patience, found.monitor) == (0.002, None, stage.trainer.monitor)


@pytest.mark.parametrize(
    ("settings", "space", "images", "said"),
    [
        ({"images": 32}, "", 32, "it will learn little. Lower trainer.lr_warmup_images in --flags, or raise --images."),
        ({"flops": 1e9}, "", 32, "it will learn little. Lower trainer.lr_warmup_images in --flags, or raise --flops."),
        ({"images": 4000}, "", 4000, None),
        ({}, "", None, None),
        (
            {"images": 4000},
            "trainer.lr_warmup_images: {low: 2000, high: 2001}",
            4000,
            "up to 2,001 images, and a trial has 4,000: some trials will learn little. Lower trainer.lr_warmup_images "
            "in --space, or raise --images.",
        ),
    ],
)
def test_a_warm_up_of_more_than_half_a_trial_is_told(settings, space, images, said):
    """That of configs/demo/pixel.yaml is 2,000 images."""
    Path("space.yaml").write_text(space or SPACE)
    config = SweepStage(search="optuna", space="space.yaml", settings="demo/pixel.yaml", **settings)
    stage = parse(DiffusionStage, ["--config", str(find_config("demo/pixel.yaml"))])
    training = SimpleNamespace(stage=stage, first_length=lambda: images)
    words = search.warmup_words(config, read_space("space.yaml"), training)
    assert (words is None) == (said is None)
    assert said is None or words.endswith(said)


@pytest.mark.slow
def test_a_warm_up_that_is_longer_than_a_trial_is_said_once_before_the_search(arguments, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.setattr(search, "_run_trials", lambda *_: None)
    for times in (1, 0):  # and not again where it goes on
        with pytest.raises(StageError, match="no trial was completed"):
            sweep.main([*arguments, "--flops=1e9", "--num_images=16"])
        printed = capsys.readouterr().out
        said = re.findall(r"the learning rate rises over 2,000 images, and a trial has ([\d,]+): it will", printed)
        assert len(said) == times
        assert all(16 < int(images.replace(",", "")) < 4000 for images in said)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataConfig(name="folder", path="own", size=8), r"folder has none\. .* use --data\.split fractions"),
        (DataConfig(source="embedded", max_train_images=48), None),
    ],
)
def test_images_to_choose_by_are_found_or_it_is_said_how(data, said):
    for split in ("train", "test"):
        for label in ("a", "b"):
            folder = Path("own") / split / label
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (len(split) * 20, ord(label), 0)).save(folder / "0.png")
    if said is None:
        assert len(search._with_validation(data).val) == 2000
        return
    with pytest.raises(ConfigError, match=said):
        search._with_validation(data)


@pytest.mark.slow
def test_a_miniature_search_leaves_a_page_and_settings_that_train(arguments, capsys):
    pytest.importorskip("optuna")
    sweep.main([*arguments, *LENGTH])
    folder = Path("stages/sweep/fashion-mnist-sweep/search-32-images")
    record = json.loads((folder / "search.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 3
    assert all(trial["facts"]["images_seen"] == 32 for trial in record["trials"])
    assert all(list(trial["looks"]) == ["1", "2"] for trial in record["trials"])
    best = min(record["trials"], key=lambda trial: trial["value"])
    assert record["best"] == best["number"]
    assert (record["metric"], record["num_images"]) == ("distance", 16)
    printed = capsys.readouterr().out
    assert "2,000 training images of fashion-mnist are set apart as validation images" in printed
    assert f"trial {best['number']}: distance {best['value']:.4g}" in printed
    assert "UNet: " in (folder / "trials.log").read_text()
    assert "UNet: " not in printed
    assert (folder / "index.html").read_text().rstrip().endswith("</html>")

    # Its settings train as they are, and as long as the trial did.
    settings = yaml.safe_load((folder / "best.yaml").read_text())
    assert settings["trainer"]["lr"] == pytest.approx(best["values"]["trainer.lr"])
    assert settings["network"]["channels"] == json.loads(best["values"]["network.channels"])
    assert "val_images" not in settings["data"]
    diffusion.main(["--config", str(folder / "best.yaml"), "--quality_images=0", "--validation_images=2"])
    trained = load("stages/diffusion/fashion-mnist-sweep-best/model.safetensors")
    assert trained.provenance["images_seen"] == best["facts"]["images_seen"]

    # The same folder goes on, by its own settings too; what differs is refused.
    sweep.main(["--config", str(folder / "config.yaml"), "--trials=4"])
    assert len(json.loads((folder / "search.json").read_text())["trials"]) == 4
    with pytest.raises(FolderError, match="num_images was 16, is 20"):
        sweep.main([*arguments, *LENGTH, "--num_images=20"])


@pytest.mark.slow
@pytest.mark.parametrize("length", [["--flops=2e9"], ["--seconds=0.5"]])
def test_other_budgets_and_samplers_end_and_prune(arguments, length):
    pytest.importorskip("optuna")
    flags = [*arguments, *length, "--num_images=16", "--looks=3", "--trials=5", "--pruner=hyperband", "--sampler=gp"]
    sweep.main(flags)
    record = json.loads(next(Path("stages/sweep").rglob("search.json")).read_text())
    assert len(record["trials"]) == 5
    seen = {trial["values"]["network.channels"]: trial["facts"]["images_seen"] for trial in record["trials"]}
    if record["budget"]["unit"] == "flops" and len(seen) == 2:
        assert seen["[8]"] > seen["[16]"]


@pytest.mark.slow
def test_kid_chooses_where_inception_is_asked_for(arguments, inception_file, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.setenv("LATENTDIFF_INCEPTION", str(inception_file))
    sweep.main([*arguments, "--images=32", "--num_images=4", "--looks=1", "--trials=2", *KID])
    record = json.loads(next(Path("stages/sweep").rglob("search.json")).read_text())
    assert (record["metric"], len(record["trials"])) == ("kid", 2)
    assert "set apart as validation images" not in capsys.readouterr().out


@pytest.mark.slow
def test_several_jobs_share_the_trials_and_a_failing_one_is_told(arguments, monkeypatch):
    pytest.importorskip("optuna")
    environment = {"PYTHONPATH": str(Path(search.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sweep.main([*arguments, *LENGTH, "--trials=4", "--jobs=2"])
    folder = Path("stages/sweep/fashion-mnist-sweep/search-32-images")
    record = json.loads((folder / "search.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 4
    (folder / "journal.log").write_text("not a journal\nat all\n")
    with pytest.raises(FolderError, match="is damaged"):
        sweep.main([*arguments, *LENGTH, "--trials=4", "--jobs=2"])
    monkeypatch.setattr(search.sys, "executable", "/bin/false")
    with pytest.raises(StageError, match=r"2 of 2 processes failed"):
        sweep.main([*arguments, "--images=64", "--num_images=16", "--jobs=2"])


def test_a_folder_of_another_is_not_touched(arguments):
    pytest.importorskip("optuna")
    folder = Path("stages/sweep/fashion-mnist-sweep/search-32-images")
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match="holds other things than a search"):
        sweep.main([*arguments, *LENGTH])
    assert os.listdir(folder) == ["mine.txt"]


@pytest.mark.slow
def test_a_search_without_a_whole_trial_is_an_error(arguments, monkeypatch):
    pytest.importorskip("optuna")

    def fail(*_):
        raise ConfigError("it cannot be")

    monkeypatch.setattr(search.TrialTraining, "__call__", fail)
    with pytest.raises(StageError, match=r"no trial was completed, so there is no best\.yaml"):
        sweep.main([*arguments, *LENGTH])


def test_an_autoencoder_of_other_images_is_refused_before_any_trial(arguments):
    pytest.importorskip("optuna")
    released = "checkpoints/flowers-102/autoencoder.safetensors"
    flags = json.dumps([*SHORT, f"--autoencoder={released}"])
    with pytest.raises(ConfigError, match="is for images of 3x64x64, but fashion-mnist has 1x28x28"):
        sweep.main([*(each for each in arguments if "--flags" not in each), f"--flags={flags}", *LENGTH])
    assert not Path("stages/sweep").exists()
