from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from latentdiff import checkpoint, load
from latentdiff.command_line import parse
from latentdiff.comparison import training_plan
from latentdiff.comparison.recipe import read_recipe
from latentdiff.comparison.reproduce import _can_be_guided, _check_release, _command, reproduce
from latentdiff.comparison.training_plan import (
    clock,
    describe_plan,
    measure_rates,
    parse_budget,
    read_runs,
    share_left,
)
from latentdiff.config import DataConfig, TrainerConfig
from latentdiff.config.comparison_stages import ReproduceStage
from latentdiff.errors import ConfigError, FolderError
from latentdiff.folder_mark import Mark, write_mark
from latentdiff.stages import reproduce as stage

RECIPES = ("celeba", "fashion-mnist", "flowers-102")


def recipe(tiny):
    """A recipe of models that train in a moment, as flags."""
    network = [*tiny.unet, "--validation_images=0"]
    values = {
        "runs": {
            "latent": ["diffusion", *network],
            "guide": ["diffusion", *network],
            "pixel": ["diffusion", *network, "--autoencoder=none"],
            "autoencoder": ["autoencoder", *tiny.codec],
        },
        "evaluations": {
            "autoencoder": [],
            "latent": [],
            "latent-guided": ["--guide", "guide", "--guidance_scale", "2"],
            "pixel": [],
        },
        "int8": ["guide"],
        "flags": tiny.trainer[1:],
        "num_images": 20,
        "data": {"source": "embedded"},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    return ["--config", "recipe.yaml", "--budget", "0.5"]


@pytest.mark.slow
def test_everything_is_made_by_one_command_that_goes_on(tiny, trainings, monkeypatch, capsys):
    for module in ("evaluation.feature_nets", "models.lpips"):
        monkeypatch.setattr(f"latentdiff.{module}.server_answers", lambda *_: False)
    trainings.fail_at = 2
    with pytest.raises(KeyboardInterrupt):
        stage.main(recipe(tiny))
    said = capsys.readouterr().out
    assert "4 training runs, about" in said
    assert "32 images" in said  # half of 64
    trainings.fail_at = None
    stage.main(recipe(tiny))
    assert len(trainings) == 4  # the first two are kept
    assert "2 training runs, about" in capsys.readouterr().out
    folder = Path("stages/reproduce/fashion-mnist")
    latent = folder / "release" / "latent.safetensors"
    assert load(latent).provenance["images_seen"] == 32
    # The autoencoder is released once, beside the models that decode with it.
    assert checkpoint.read_header(latent)["codec_file"]["name"] == "autoencoder.safetensors"
    assert "matrices and kernels in 8 bits" in latent.with_name("guide.md").read_text()
    card = latent.with_suffix(".md").read_text()
    # A recipe of one's own has no name to be made by.
    assert "Trained by\n\n    python -m latentdiff.stages.diffusion" in card
    assert "--guide stages/reproduce/fashion-mnist/release/guide.safetensors" in card
    report = json.loads((folder / "report" / "report.json").read_text())
    assert "latent-guided" in json.dumps(report)
    # The same command has nothing left to do, and releases the same bytes.
    before = latent.read_bytes()
    stage.main([*recipe(tiny), "--only", "latent"])
    assert len(trainings) == 4
    assert latent.read_bytes() == before
    with pytest.raises(FolderError, match=r"was begun with --budget 0\.5: give the same"):
        stage.main([*recipe(tiny), "--budget", "0.25"])


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2h", (7200.0, True)),
        ("45m", (2700.0, True)),
        ("6min", (360.0, True)),
        ("1.5 s", (1.5, True)),
        (".1", (0.1, False)),
    ],
)
def test_budget_is_a_time_or_a_share(text, amount):
    assert parse_budget(text) == amount


@pytest.mark.parametrize("text", ["", "0", "2d", "-1", "nan", "h", "1e400"])
def test_no_other_budget_is_taken(text):
    with pytest.raises(ConfigError, match="budget must be a time such as 2h"):
        parse_budget(text)


def test_plan_says_what_is_trained_and_how_long():
    runs = read_runs(
        {
            "latent": ["diffusion", "--trainer.max_images=null", "--trainer.max_seconds=600"],
            "autoencoder": ["autoencoder", "--trainer.max_images=36000", "--trainer.lr_warmup_images=1000"],
        },
        [],
    )
    assert [run.name for run in runs] == ["autoencoder", "latent"]  # which the latents need
    text = describe_plan(runs, {"autoencoder": 10.0}, [])
    assert text.splitlines()[0] == "2 training runs, about 1 h 10 min on this machine, measured over 20 seconds:"
    assert "36,000 images" in text
    assert "1 training run, about 10 min" in describe_plan(runs, {"autoencoder": 10.0}, ["autoencoder"])
    half = [run.scaled(0.5) for run in runs]
    assert [run.seconds(10.0) for run in half] == [1800.0, 300.0]
    assert half[0].settings.trainer.lr_warmup_images == 500
    whole = runs[0].settings.loss
    assert half[0].settings.loss.adversarial_start == whole.adversarial_start / 2
    assert half[0].settings.loss.discriminator_warmup == whole.discriminator_warmup / 2
    assert half[0].settings.trainer.lr_step_images == runs[0].settings.trainer.lr_step_images  # of no use here
    assert clock(80) == "80 s"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the recipe has no runs"),
        ({"runs": {"a": ["sample"]}}, r"runs\.a must begin with its stage"),
        ({"runs": {"a": ["autoencoder", "--network.wide=3"]}}, r"runs\.a: .*no such setting"),
        ({"runs": {"a": ["autoencoder", "--trainer.max_images=null"]}}, r"runs\.a: a run needs an end"),
        ({"runs": {"a": ["diffusion", "--diffusion.target=eps"]}}, r"runs\.a: the eps target does not go with"),
        ({"runs": {"a": ["autoencoder", '--phases=[{"start":0.5},{"start":0.4}]']}}, r"runs\.a: phases must start"),
        ({"runs": {"latent": ["diffusion"]}}, "no run named autoencoder"),
        ({"runs": {"a": ["autoencoder"]}, "only": ("b",)}, "only names b, but the recipe has a"),
        ({"runs": {"a": ["autoencoder"]}, "int8": ("b",)}, "int8 names b, but the recipe has a"),
        ({"runs": {"a": ["autoencoder"]}, "evaluations": {"b": []}}, r"evaluations\.b: its name"),
        ({"runs": {"a": ["autoencoder"]}, "evaluations": {"a": ["--guide", "x"]}}, "--guide x is not a run"),
        ({"runs": {"a": ["autoencoder"]}, "budget": "soon"}, "budget must be a time"),
    ],
)
def test_recipe_that_cannot_be_meant_is_refused_before_any_work(settings, said):
    with pytest.raises(ConfigError, match=said):
        reproduce(ReproduceStage(**settings))
    assert not Path("stages").exists()


def test_a_folder_of_another_is_refused_before_the_machine_is_measured(monkeypatch):
    monkeypatch.setattr("latentdiff.comparison.kept_plan.measure_rates", lambda *_: pytest.fail("measured"))
    for name in ("mine", "theirs"):
        Path(name).mkdir()
    Path("mine/plan.json").write_text("my own plan")
    write_mark(Path("theirs"), Mark("autoencoder"))
    recipe = {"runs": {"a": ["autoencoder"]}, "num_images": 20, "data": DataConfig(source="embedded")}
    for name, said in (("mine", "holds other things"), ("theirs", "made by the stage autoencoder")):
        with pytest.raises(FolderError, match=said):
            reproduce(ReproduceStage(folder=name, **recipe))
    assert Path("mine/plan.json").read_text() == "my own plan"


def test_first_word_is_a_recipe_a_data_set_or_a_folder(tmp_path):
    expand = stage._expand_arguments
    Path("my.yaml").write_text("runs: {pixel: [diffusion, --autoencoder=none]}")
    assert expand(["fashion-mnist", "--budget", "1h"]) == ["--config", "fashion-mnist/reproduce.yaml", "--budget", "1h"]
    assert expand(["fashion-mnist", "--preset=medium"])[:2] == ["--data.name", "fashion-mnist"]
    Path("celeba").mkdir()
    assert expand(["celeba"]) == ["--config", "celeba/reproduce.yaml"]
    for own in ("./celeba", "celeba/"):
        assert expand([own])[:4] == ["--data.name", "folder", "--data.path", own]
    assert expand(["mnist"]) == ["--data.name", "mnist", "--preset", "small"]
    own = ["--data.name", "folder", "--data.path", str(tmp_path), "--preset", "small"]
    assert expand([str(tmp_path)]) == own
    assert expand([str(tmp_path), "--config", "my.yaml"]) == [*own[:4], "--config", "my.yaml"]
    assert expand(["celeba", "--config=my.yaml"]) == ["--data.name", "celeba", "--config=my.yaml"]
    Path("my.yaml").write_text("budget: 1h")  # it only adds to the recipe, or to the preset
    assert expand(["fashion-mnist", "--config=my.yaml"])[:2] == ["--config", "fashion-mnist/reproduce.yaml"]
    assert expand(["mnist", "--config=my.yaml"])[2:4] == ["--preset", "small"]
    with pytest.raises(ConfigError, match=r"must be fashion-mnist, .*mnist,.*not 'nothing'"):
        stage.main(["nothing"])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_be_read(name):
    recipe = read_recipe(parse(ReproduceStage, ["--config", f"{name}/reproduce.yaml"]))
    assert {each.run for each in recipe.evaluations} | {each.guide for each in recipe.evaluations} - {None} == {
        run.name for run in recipe.runs
    }


def test_what_an_interrupted_run_has_left_is_planned():
    [run] = read_runs({"autoencoder": ["autoencoder", "--trainer.max_images=36000"]}, [])
    folder = Path("autoencoder")
    folder.mkdir()
    (folder / "metrics.csv").write_text("images_seen,seconds\n9000,90\n27000,270\n")
    assert share_left(run, folder) == 1.0  # without a checkpoint it begins anew
    (folder / "last.ckpt").touch()
    assert share_left(run, folder) == 0.25
    assert "1 training run, about 15 min" in describe_plan([run], {"autoencoder": 10.0}, [], {"autoencoder": 0.25})
    (folder / "metrics.csv").write_text("")
    assert share_left(run, folder) == 1.0


def test_the_time_of_a_run_is_that_of_its_phases_together(monkeypatch):
    asked = []

    def train(data, *, loss, phases, **_):
        asked.append((loss.adversarial_start, [(phase.perceptual_weight, phase.frozen_encoder) for phase in phases]))
        return SimpleNamespace(metrics=[{"images_per_second": [400.0, 100.0, 50.0][len(asked) - 1]}])

    monkeypatch.setattr(training_plan, "train_autoencoder", train)
    phases = [{"start": 0.5, "perceptual_weight": 0.5}, {"start": 0.75, "frozen_encoder": True}]
    flags = ["autoencoder", "--data.source=embedded", f"--phases={json.dumps(phases)}"]
    runs = read_runs({"autoencoder": flags}, [])
    assert measure_rates(runs, runs) == {"autoencoder": pytest.approx(1 / (0.5 / 400 + 0.25 / 100 + 0.25 / 50))}
    assert asked == [(0, []), (0, [(0.5, None)]), (0, [(0.5, True)])]  # a later phase keeps what an earlier one set


def test_the_release_of_the_run_itself_is_written_again(tiny_model_file):
    Path("run").mkdir()
    model = load(tiny_model_file)
    made = {"images_seen": 64, "seconds": 1.5, "command": "trained"}
    model.save("run/model.safetensors", made)
    model.save("shelf.safetensors", made, torch.bfloat16)
    _check_release(Path("shelf.safetensors"), Path("run/model.safetensors"))
    _check_release(Path("new.safetensors"), Path("run/model.safetensors"))
    model.save("shelf.safetensors", made | {"seconds": 1.6}, torch.bfloat16)
    with pytest.raises(FolderError, match="is another model"):
        _check_release(Path("shelf.safetensors"), Path("run/model.safetensors"))


@pytest.mark.parametrize("name", ["latent.jpg", "latent.md"])
def test_a_picture_or_text_that_no_model_has_left_is_not_overwritten(name):
    Path(name).write_text("mine")
    with pytest.raises(FolderError, match=rf"{name} is there without a model"):
        _check_release(Path("latent.safetensors"), Path("run/model.safetensors"))


def test_a_missing_autoencoder_that_no_run_makes_is_named():
    runs = read_runs({"latent": ["diffusion", "--autoencoder=typo.safetensors", "--data.source=embedded"]}, [])
    with pytest.raises(ConfigError, match=r"runs\.latent: there is no autoencoder typo\.safetensors"):
        measure_rates(runs, runs)


def test_what_can_be_guided_by_classes():
    shelf = Path(__file__).parents[2] / "checkpoints"
    guided = {name: _can_be_guided(shelf / name / "latent.safetensors") for name in ("fashion-mnist", "celeba")}
    assert guided == {"fashion-mnist": True, "celeba": False}


def test_no_tracker_hears_of_the_measuring():
    assert training_plan._for_seconds(TrainerConfig(loggers=("mlflow",)), 1.0).loggers == ()


def test_a_model_of_another_run_is_not_overwritten(tiny_model_file):
    Path("mine").mkdir()
    model = Path("mine/latent.safetensors")
    model.write_bytes(tiny_model_file.read_bytes())
    settings = {
        "runs": {"latent": ["diffusion"], "autoencoder": ["autoencoder"]},
        "data": DataConfig(source="embedded"),
    }
    with pytest.raises(FolderError, match=r"mine/latent\.safetensors is another model, and would be overwritten"):
        reproduce(ReproduceStage(**settings, release_folder="mine"))
    assert model.read_bytes() == tiny_model_file.read_bytes()
    assert not Path("stages").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "fashion-mnist --only latent"),
        ({"budget": "0.5"}, "fashion-mnist --budget 0.5 --only latent"),
        ({"flags": ("--trainer.seed=1",)}, """fashion-mnist --flags '["--trainer.seed=1"]' --only latent"""),
        ({"data": {"source": "embedded", "root": "/here"}}, "fashion-mnist --data.source embedded --only latent"),
        ({"data": {"val_images": None}}, "fashion-mnist --data.val_images null --only latent"),
        ({"preset": "small", "int8": (), "data": {"val_images": None}}, "fashion-mnist --preset small --only latent"),
        ({"int8": ("pixel",)}, """fashion-mnist --int8 '["pixel"]' --only latent"""),
    ],
)
def test_a_card_names_the_command_that_makes_the_model(changes, said):
    shipped = parse(ReproduceStage, ["--config", "fashion-mnist/reproduce.yaml"])
    if "data" in changes:
        changes = changes | {"data": replace(shipped.data, **changes["data"])}
    assert _command(replace(shipped, **changes), "latent") == f"python -m latentdiff.stages.reproduce {said}"
    own = replace(shipped, runs={"latent": ["diffusion"]}, **changes)
    assert (_command(own, "latent") is None) == ("preset" not in changes)
