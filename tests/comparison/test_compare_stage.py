"""The comparisons that make what they compare: of the released models, and of both paths at one budget."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from latentdiff import load
from latentdiff import resources as shelf
from latentdiff.comparison import cached_runs, equal_budget, source_projects
from latentdiff.comparison import compare as compare_module
from latentdiff.comparison import source_projects as sources
from latentdiff.comparison.cached_runs import EvaluationConditions
from latentdiff.comparison.compare import find_evaluations, sampler_records
from latentdiff.config import DataConfig
from latentdiff.config.comparison_stages import CompareStage
from latentdiff.data.load import check_settings
from latentdiff.errors import CheckpointError, ConfigError, FolderError, ReportError
from latentdiff.files import file_sha256
from latentdiff.report.evaluation import Evaluation
from latentdiff.stages import autoencoder, compare, evaluate

TINY = ["--data.source=embedded", "--trainer.max_images=32", "--trainer.batch_size=16", "--trainer.accelerator=cpu"]
CODEC = [
    "--network.channels=[8,16,16]",
    "--network.decoder_blocks=1",
    "--network.attention=false",
    "--validation_images=16",
]
CODEC += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0"]
UNET = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
UNET += ["--network.head_channels=8", "--quality_images=0", "--validation_images=16", "--trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def without_a_network(tmp_path, monkeypatch):
    for module in ("evaluation.feature_nets", "models.lpips"):
        monkeypatch.setattr(f"latentdiff.{module}.server_answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))


def report():
    found = json.loads(Path("stages/compare/fashion-mnist/report.json").read_text())
    schema = json.loads((resources.files("latentdiff.report") / "report.schema.json").read_text())
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    return found


def evaluations_made(capsys):
    return capsys.readouterr().out.count("$ python -m latentdiff.stages.evaluate")


@pytest.mark.slow
def test_compare_alone_measures_the_released_models_once(capsys):
    arguments = ["--num_images=20", "--data.source=embedded"]
    compare.main(arguments)
    names = [row["name"] for row in report()["rows"]]
    assert names == ["noise", "gaussian", "vae_baseline", "pixel", "latent", "autoencoder", "real images"]
    assert evaluations_made(capsys) == 6
    compare.main(arguments)  # evaluated already: another page
    assert evaluations_made(capsys) == 0
    assert Path("stages/compare/fashion-mnist-2/index.html").is_file()
    with pytest.raises(FolderError, match="already holds a comparison:"):
        compare.main([*arguments, "--run.folder=stages/compare/fashion-mnist"])
    folder = Path("stages/released/fashion-mnist/20-images-without-inception/latent")
    (folder / "evaluation.json").unlink()  # as if it had been interrupted there
    compare.main([*arguments, "--run.overwrite"])
    assert evaluations_made(capsys) == 1
    with pytest.raises(ReportError, match="no released model of mnist"):
        compare.main(["--data.name=mnist"])


@pytest.mark.slow
def test_both_paths_at_equal_images_steps_and_seconds(trainings, capsys):
    autoencoder.main([*TINY, *CODEC])
    asked = ["--budget.images=64", "--budget.steps=4", "--budget.seconds=0.2", "--budget.stage_one_too=true"]
    asked += ["--data.source=embedded", "--num_images=20"]
    flags = [*UNET, "--trainer.batch_size=16"]
    arguments = [*asked, f"--budget.flags={json.dumps(flags)}"]
    trainings.fail_at = 3
    with pytest.raises(KeyboardInterrupt):
        compare.main(arguments)
    trainings.fail_at = None
    compare.main(arguments)
    # 64 images are 4 steps: two runs serve both; then two of equal seconds, and pixel with the autoencoder's on top.
    assert len(trainings) == 5
    found = report()
    seen = {row["name"]: row["cells"]["images_seen"]["value"] for row in found["rows"] if row["role"] != "floor"}
    assert seen["latent-64-images"] == seen["pixel-64-images"] == 64
    baselines = {"noise", "gaussian", "vae_baseline", "autoencoder"}
    assert baselines < seen.keys()
    assert len(seen) == 5 + len(baselines)
    for words in ("64 images seen by each, which are 4 optimiser steps of each", "0.2 seconds of training for each"):
        assert found["verdict"].count(f"At {words}") == 1
    assert "the autoencoder's and the encoding's counted" in found["verdict"]
    steps = {row["name"]: row["cells"]["optimiser_steps"]["value"] for row in found["rows"] if row["role"] != "floor"}
    assert steps["latent-64-images"] == 4
    page = Path("stages/compare/fashion-mnist/index.html").read_text()
    assert page.count('<p class="finding">') == 3
    capsys.readouterr()
    compare.main([*arguments, "--run.overwrite"])
    assert len(trainings) == 5
    assert evaluations_made(capsys) == 0
    changed = json.dumps([*flags, "--diffusion.target=x0"])
    with pytest.raises(FolderError, match=r"other settings: diffusion\.target was v, is x0"):
        compare.main([*asked, f"--budget.flags={changed}", "--run.overwrite"])


@pytest.mark.slow
def test_the_sources_are_trained_and_their_tables_written(trainings, monkeypatch, capsys):
    kept = ("ddpm_unet", "karras_class", "denoising_autoencoder", "score_ve_latent")
    tiny = {
        "ddpm_unet": [*UNET[:4], "--network.attention_levels=[]"],
        "karras_class": ["--network.channels=[8]", "--network.num_res_blocks=1"],
        "denoising_autoencoder": CODEC,
        "score_ve_latent": [*UNET[:4], "--network.attention_levels=[]"],
    }
    runs = tuple(
        replace(source, flags=(*source.flags, *tiny[source.name], "--validation_images=16"), sampling=("--steps=2",))
        for source in sources.RUNS
        if source.name in kept
    )
    monkeypatch.setattr(sources, "RUNS", runs)
    monkeypatch.setattr(sources, "_is_available", lambda data, otherwise: False)
    flags = ["--trainer.images_per_epoch=16", "--trainer.batch_size=16", "--trainer.accelerator=cpu"]
    arguments = ["--preset=sources", "--budget.seconds=0.8", "--data.source=embedded", "--num_images=40"]
    arguments.append(f"--budget.flags={json.dumps(flags)}")
    compare.main(arguments)
    assert len(trainings) == 4
    text = Path("stages/compare/fashion-mnist-sources/results.md").read_text()
    for title in (
        "The models",
        "Classifier distance within each class",
        "Noise, VAE and diffusion: fashion-mnist",
        "Course of `ddpm_unet`",
    ):
        assert f"## {title}\n" in text
    assert "Published" not in text  # These are FIDs: without Inception there is nothing to put beside them.
    for table in text.split("## ")[1:]:
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1
    assert "cannot be said" not in capsys.readouterr().out  # the verdict is on the released models
    compare.main([*arguments, "--run.overwrite"])
    assert len(trainings) == 4


@pytest.mark.parametrize("source", ["auto", "embedded"])
def test_every_source_can_be_trained_with_the_data_settings_that_are_given(source, tmp_path):
    for run in sources.RUNS:
        own = source_projects._arguments(
            run, DataConfig(source=source), tmp_path, "5", ("--trainer.num_threads=1",), True
        )
        config = cached_runs.parse_settings(run.stage, own)
        check_settings(config.data)
        assert config.trainer.max_seconds == 5.0
        assert config.data.name == ("mnist" if run.name == sources.FINE_TUNING_START else "fashion-mnist")


def test_a_setting_that_one_of_the_sources_does_not_have_is_refused_before_the_first_is_trained(trainings):
    with pytest.raises(ConfigError, match="quality_images"):
        compare.main(["--preset=sources", "--data.source=embedded", "--budget.flags=[--quality_images=0]"])
    assert not trainings


def test_the_thirds_vae_is_trained_where_none_is_released(trainings, monkeypatch, tmp_path):
    made, conditions = [], EvaluationConditions([], 40, ("a", "b"), {})
    monkeypatch.setattr(sources, "THIRD_PROJECT_DATA_SETS", ("fashion-mnist",))
    monkeypatch.setattr(sources, "_is_available", lambda *_: True)
    monkeypatch.setattr(sources.EvaluationConditions, "on_this_machine", lambda *_: conditions)
    monkeypatch.setattr(sources, "evaluate_released", lambda *_: [tmp_path / "released"])
    monkeypatch.setattr(sources, "train_once", lambda *arguments: made.append(arguments) or tmp_path / "vae" / "model")
    monkeypatch.setattr(sources, "evaluate_once", lambda asked, folder, *_: folder)
    monkeypatch.setattr(shelf, "find_checkpoint", lambda name: None if "vae" in name else tmp_path)
    found = source_projects.run_third_project(DataConfig(), 7.0)
    assert [path.name for path in found["fashion-mnist"]] == ["released", "vae"]
    ((stage, settings, folder),) = made
    assert (stage, folder.name) == ("autoencoder", "vae_baseline-7-seconds")
    assert cached_runs.parse_settings(stage, settings).trainer.max_seconds == 7.0


def test_budgets_that_the_same_runs_answer_are_one():
    found = {"64 images": [Path("a"), Path("b")], "4 steps": [Path("a"), Path("b")], "9 s": [Path("c"), Path("d")]}
    merged = {"64 images, which are 4 steps": [Path("a"), Path("b")], "9 s": [Path("c"), Path("d")]}
    assert equal_budget._merge_equal_budgets(found) == merged


def test_evaluations_by_fewer_nets_lie_elsewhere():
    both = EvaluationConditions([], 40, ("a", "b"), {"classifier": "c", "inception": "i"})
    assert both.folder == "40-images"
    assert EvaluationConditions([], 40, ("a", "b"), {"classifier": "c"}).folder != both.folder


def test_what_was_measured_on_other_images_is_left_out_and_named_ones_take_no_data_settings(capsys):
    usual = ["--num_images=20", "--real_images=20", "--data.source=embedded", "--inception=off", "--lpips=off"]
    evaluate.main([*usual, "--model=noise"])
    assert [path.name for path in find_evaluations(DataConfig())] == ["noise"]
    assert not find_evaluations(DataConfig(source="full"))
    for name, text in (("other", '{"data": {"name": "mnist"}}'), ("unknown", "no JSON")):
        Path(f"stages/evaluate/{name}").mkdir()
        Path(f"stages/evaluate/{name}/evaluation.json").write_text(text)
    capsys.readouterr()
    assert [path.name for path in find_evaluations(DataConfig())] == ["noise"]
    assert capsys.readouterr().out.count("left out: ") == 2
    Path("stages/evaluate/other/evaluation.json").write_text('{"data": {"name": "fashion-mnist"}}')
    with pytest.raises(ReportError, match="has schema None"):
        find_evaluations(DataConfig())
    with pytest.raises(ValueError, match="leave out --data"):
        compare.main(["stages/evaluate/noise", "--data.source=full"])


def test_what_is_compared_is_never_overwritten_and_counts_once(capsys):
    usual = ["--num_images=20", "--real_images=20", "--data.source=embedded", "--inception=off", "--lpips=off"]
    evaluate.main([*usual, "--model=noise"])
    noise = "stages/evaluate/noise"
    with pytest.raises(FolderError, match="is read from it"):
        compare.main([noise, f"--run.folder={noise}", "--run.overwrite"])
    assert Path(noise, "evaluation.json").is_file()
    for number, damaged in enumerate(("no JSON", "{}")):
        Path("stages/samplers/mine").mkdir(parents=True, exist_ok=True)
        Path("stages/samplers/mine/samplers.json").write_text(damaged)
        capsys.readouterr()
        compare.main([noise, f"./{noise}/", f"--run.folder=twice-{number}"])
        said = capsys.readouterr().out
        assert "left out: stages/samplers/mine/samplers.json" in said
        for missing in ("gaussian", "FILE --mode prior"):
            command = f"python -m latentdiff.stages.evaluate --model {missing} --num_images 20 "
            assert command + "--real_images 20 --data.source embedded" in said
        assert "--model noise" not in said
        rows = json.loads(Path(f"twice-{number}/report.json").read_text())["rows"]
        assert [row["name"] for row in rows] == ["noise", "real images"]


@pytest.mark.parametrize("second", ["nowhere", "damaged.safetensors"])
def test_every_path_is_checked_before_the_first_model_is_evaluated(second):
    Path("damaged.safetensors").write_bytes(b"no model")
    with pytest.raises((ReportError, CheckpointError), match=second):
        compare.main(["checkpoints/fashion-mnist/latent.safetensors", second, "--data.source=embedded"])
    assert not Path("stages").exists()


def test_samplers_of_two_models_of_one_name_are_both_found():
    evaluations = []
    for key in ("a", "b"):
        row = {"sampler": "ddim", "steps": 5, "passes": 5, "distance_test": 0.5}
        record = {"rows": [row], "model": {"sha256": key}, "num_images": 20, "floor": 0.1}
        Path("stages/samplers", key).mkdir(parents=True)
        Path("stages/samplers", key, "samplers.json").write_text(json.dumps(record))
        values = {"kind": "diffusion", "data": {"name": "somewhere"}, "model": {"sha256": key}}
        evaluations.append(Evaluation(Path(key), "latent", values))
    found = sampler_records(evaluations)
    assert {name: record["model"]["sha256"] for name, record in found.items()} == {"latent (a)": "a", "latent (b)": "b"}


def test_amounts_are_whole_numbers_where_they_are():
    amounts = (64, 1_234_567, 10_000_000, 600.0, 0.2)
    assert [equal_budget.TrainingLength("images", amount).text for amount in amounts] == [
        "64",
        "1234567",
        "10000000",
        "600",
        "0.2",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget.images=0"], "--budget.images must be a whole number from 1"),
        (["--budget.images=64", "--budget.stage_one_too=true"], "adds to budget.seconds"),
        (["somewhere", "--budget.images=64"], "cannot be combined"),
        (["somewhere", "--preset=sources"], "cannot be combined"),
        (["--budget.stage_one_too=true"], "no amount"),
        (["--preset=sources", "--budget.images=64"], "takes only budget.seconds"),
        (["--preset=sources", "--budget.seconds=0"], "above 0"),
        (
            ["--data.source=embedded", "--budget.images=64", "--num_images=1"],
            "num_images must be a whole number",
        ),
        (["--data.source=embedded", "--num_images=0"], "num_images must be a whole number"),
    ],
)
def test_budgets_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare.main(arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--budget.pixel=nowhere.yaml"], "nowhere.yaml"),
        (["--budget.flags=[--nonsense=3]"], "nonsense"),
        (["--budget.pixel=fashion-mnist/latent.yaml"], "it is not for the pixel path"),
        (["--budget.latent=fashion-mnist/pixel.yaml"], "it is not for the latent path"),
        (["--budget.pixel=flowers-102/pixel.yaml"], "is for flowers-102, but fashion-mnist is compared"),
    ],
)
def test_settings_of_either_path_are_refused_before_the_other_is_trained(settings, message, trainings):
    with pytest.raises(ConfigError, match=re.escape(message)):
        compare.main(["--data.source=embedded", "--num_images=20", "--budget.images=64", *settings])
    assert not trainings


def test_the_bare_flag_means_three_budgets(monkeypatch):
    asked = []
    monkeypatch.setattr("latentdiff.comparison.compare.compare_with_settings", asked.append)
    compare.main(["--budget", "--data.source=embedded", "--budget.seconds=60"])
    (config,) = asked
    assert (config.budget.images, config.budget.steps, config.budget.seconds) == (20480, 160, 60.0)
    assert config.data.source == "embedded"


@pytest.mark.parametrize(("model", "samplers"), [("latent", 5), ("pixel", 1)])
def test_the_released_models_samplers_come_with_them(model, samplers):
    path = shelf.find_checkpoint(f"fashion-mnist/{model}.safetensors")
    values = {"model": {"sha256": file_sha256(path), "path": str(path)}, "data": {"name": "fashion-mnist"}}
    evaluation = Evaluation(Path(model), "mine", values | {"kind": "diffusion"})
    record = sampler_records([evaluation])["mine"]
    assert len({row["sampler"] for row in record["rows"]}) >= samplers
    assert len({row["steps"] for row in record["rows"]}) >= 4


LIKE = {"num_images": 50, "real_images": 70, "inception": "auto", "lpips": "off"}


def test_two_models_of_one_name_are_two_rows_measured_like_the_evaluation_beside_them(monkeypatch, tiny_model_file):
    made = []

    def evaluate(flags, folder, model, conditions):
        made.append((folder, conditions.flags))
        return folder

    monkeypatch.setattr(compare_module, "evaluate_once", evaluate)
    monkeypatch.setattr(compare_module, "_settings_like", lambda _: LIKE)
    done = Evaluation(Path("done"), "done", {})
    monkeypatch.setattr(compare_module, "_read_if_evaluated", lambda path: done if path.name == "done" else None)
    for run in ("a", "b"):
        Path(run).mkdir()
        load(tiny_model_file).save(f"{run}/best.safetensors", {"command": run})
    named = [Path("a/best.safetensors"), Path("b/best.safetensors"), Path("done")]
    settings = CompareStage(data=DataConfig(source="embedded"))
    folders = compare_module._evaluations_of_named(named, settings)
    assert len({folder for folder, _ in made}) == 2
    assert folders == [made[0][0], made[1][0], Path("done")]
    assert made[0][1][:6] == ["--num_images", "50", "--real_images", "70", "--lpips", "off"]
    assert "50-images-against-70" in str(made[0][0])


def test_samplers_are_named_after_the_row_of_their_guidance():
    evaluations = []
    for name, scale in (("plain", 1.0), ("guided", 1.5)):
        values = {"kind": "diffusion", "data": {"name": "somewhere"}, "model": {"sha256": "a"}}
        evaluations.append(Evaluation(Path(name), name, values | {"sampling": {"guidance_scale": scale}}))
    for scale in (1.0, 1.5, 3.0):
        row = {"sampler": "ddim", "steps": 5, "passes": 5, "distance_test": 0.5}
        record = {"rows": [row], "model": {"sha256": "a"}, "num_images": 20, "floor": 0.1, "guidance_scale": scale}
        folder = Path("stages/samplers", str(scale))
        folder.mkdir(parents=True)
        (folder / "samplers.json").write_text(json.dumps(record))
    assert {name: record["guidance_scale"] for name, record in sampler_records(evaluations).items()} == {
        "plain": 1.0,
        "guided, guidance 1.5": 1.5,
        "plain, guidance 3": 3.0,
    }
