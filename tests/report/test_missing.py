import html
import json
import re
import shlex

from latentdiff import command_line as cli
from latentdiff.config.comparison_stages import SamplersStage
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.missing import missing_baselines, missing_samplers
from latentdiff.report.page import write_report


def read(*folders):
    return [read_evaluation(folder) for folder in folders]


def from_command(command):
    def change(values):
        values["command"] = command

    return change


def of_file(sha, command=""):
    def change(values):
        values["model"]["sha256"] = sha
        values["command"] = command

    return change


def test_baselines_that_are_not_there_are_said_with_what_makes_them(write):
    pixel = write("pixel", "diffusion", 14.0, 2700.0)
    evaluate = "python -m latentdiff.stages.evaluate --model"
    commands = [missing.command for missing in missing_baselines(read(pixel))]
    assert commands == [
        f"{evaluate} noise --num_images 10000",
        f"{evaluate} gaussian --num_images 10000",
        f"{evaluate} FILE --mode prior --num_images 10000",
    ]
    # Reconstructions bound latent models: without one they are not missed.
    latent = write("latent", "diffusion", 9.0, 1200.0, 1500.0)
    assert [missing.command for missing in missing_baselines(read(pixel, latent))] == [
        *commands,
        f"{evaluate} FILE --num_images 10000",
    ]
    for command in commands:
        assert cli.parse(EvaluateStage, shlex.split(command)[3:]).num_images == 10_000


def test_more_reconstructions_than_there_are_test_images_are_of_the_training_split(write):
    def more(count):
        def change(values):
            values["num_images"] = count

        return change

    def asked(count):
        latent = write(f"latent{count}", "diffusion", 9.0, 1200.0, 1500.0, change=more(count))
        return [missing.command for missing in missing_baselines(read(latent)) if "FILE --mode" not in missing.command]

    evaluate = "python -m latentdiff.stages.evaluate --model"
    (*_, command) = asked(20_000)
    assert command == f"{evaluate} FILE --reconstruct train --num_images 20000"
    assert cli.parse(EvaluateStage, shlex.split(command)[3:]).reconstruct == "train"
    assert not any("FILE" in command for command in asked(70_000))


def test_of_evaluations_from_python_the_commands_name_the_data_set(write):
    def from_python(**data):
        return lambda values: (values.update(command=""), values["data"].update(data))

    slice_ = read(write("pixel", "diffusion", 9.0, change=from_python(source="embedded")))
    assert missing_baselines(slice_)[0].command.endswith("--num_images 10000 --data.source embedded")
    flowers = read(write("flowers", "diffusion", 9.0, change=from_python(name="flowers-102")))
    assert missing_baselines(flowers)[0].command.endswith("--data.name flowers-102")
    own = read(write("own", "diffusion", 9.0, change=from_python(name="shapes")))
    assert missing_baselines(own) == []
    assert missing_samplers(own, []) is None


def test_nothing_is_missing_where_every_role_is_there(full):
    assert missing_baselines(read(*full)) == []


def test_the_commands_take_the_same_real_images(write):
    typed = "python -m latentdiff.stages.evaluate --model=a.safetensors --data.name celeba --data.path='my faces'"
    folder = write("pixel", "diffusion", 9.0, change=from_command(f"{typed} --real_images=50 --steps 5"))
    first = missing_baselines(read(folder))[0]
    assert first.command.endswith("--num_images 10000 --data.name celeba --data.path 'my faces' --real_images 50")
    assert cli.parse(EvaluateStage, shlex.split(first.command)[3:]).data.path == "my faces"
    assert str(first) == f"{first.text} {first.command}"
    folder = write("other", "diffusion", 9.0, change=from_command("typed 'by hand"))
    assert missing_baselines(read(folder))[0].command.endswith("--num_images 10000")


def test_page_and_markdown_say_what_is_missing_once_and_the_json_is_as_it_was(write, tmp_path):
    folders = [write("pixel", "diffusion", 14.0, 2700.0), write("latent", "diffusion", 9.0, 1200.0, 1500.0)]
    pair = read(*folders)
    page = write_report(pair, tmp_path, groups={"one budget": pair, "another": pair}).read_text()
    page = html.unescape(re.sub("</?(span|code)>", "", page))
    markdown = (tmp_path / "report.md").read_text()
    for missing in missing_baselines(pair):
        assert page.count(f"<li>{missing}</li>") == 1
        assert markdown.count(f"{missing.text} `{missing.command}`") == 1
    assert "is not in this report" not in json.loads((tmp_path / "report.json").read_text())["verdict"]


def test_models_whose_samplers_are_not_measured_are_named_in_one_sentence(write):
    samplers = "python -m latentdiff.stages.samplers --model"
    typed = "python -m latentdiff.stages.evaluate --model runs/a/model.safetensors --data.source=embedded"
    latent = write("latent", "diffusion", 9.0, change=of_file("a", typed))
    pixel = write("pixel", "diffusion", 14.0, change=of_file("b"))
    nobody = write("autoencoder", "reconstruction", 7.9, change=of_file("c"))
    rows = read(pixel, latent, nobody)
    one = missing_samplers(rows, ["b"])
    assert one == ("Not measured for latent:", f"{samplers} runs/a/model.safetensors --data.source embedded")
    assert cli.parse(SamplersStage, shlex.split(one.command)[3:]).data.source == "embedded"
    assert missing_samplers(rows, ["a"]) == ("Not measured for pixel:", f"{samplers} pixel.safetensors")
    both = missing_samplers(rows, [])
    assert both.text == "Not measured for pixel (pixel.safetensors), latent (runs/a/model.safetensors), each as FILE:"
    assert both.command.startswith(f"{samplers} FILE")
    assert missing_samplers(rows, ["a", "b"]) is None
    del rows[0].values["model"]["path"]
    assert missing_samplers(rows, ["a"]).command == f"{samplers} FILE"


def test_where_no_classifier_can_measure_samplers_none_are_asked_for(write):
    def without(values):
        values["features"]["classifier"] = values["metrics"]["classifier"] = None

    assert missing_samplers(read(write("latent", "diffusion", 9.0, change=without)), []) is None


def test_the_page_says_in_the_figure_s_place_what_is_not_measured(write, tmp_path):
    rows = read(
        write("pixel", "diffusion", 14.0, 2700.0, change=of_file("b")),
        write("latent", "diffusion", 9.0, 1200.0, 1500.0, change=of_file("a")),
    )
    record = {"num_images": 300, "floor": 0.9, "model": {"sha256": "a"}}
    record["rows"] = [{"sampler": "ddim", "passes": n, "distance_test": 1 + 1 / n} for n in (5, 10, 20)]
    page = re.sub("</?(span|code)>", "", write_report(rows, tmp_path / "page", samplers={"latent": record}).read_text())
    markdown = (tmp_path / "page" / "report.md").read_text()
    missing = missing_samplers(rows, ["a"])
    assert missing.text == "Not measured for pixel:"
    assert page.index("Quality against sampling steps, latent") < page.index(str(missing)) < page.index("<h2>Images")
    assert f"## Quality against sampling steps\n\n{missing.text} `{missing.command}`\n" in markdown
    record["model"]["sha256"] = "b"
    page = write_report(rows[:1], tmp_path / "page", samplers={"pixel": record}).read_text()
    assert "Not measured for" not in page


def test_no_command_is_given_where_a_file_chose_the_images(write):
    typed = "python -m latentdiff.stages.evaluate --model=a.safetensors --config mine.yaml"
    assert missing_baselines(read(write("pixel", "diffusion", 9.0, change=from_command(typed)))) == []
    typed = "python -m latentdiff.stages.evaluate --model=a.safetensors --data mine.yaml"
    assert missing_baselines(read(write("whole", "diffusion", 9.0, change=from_command(typed)))) == []


def test_flags_are_read_as_the_command_line_reads_them(write):
    typed = "python -m latentdiff.stages.evaluate --model a --real-images 200 --data.val-images 5000 --data.hflip"
    first = missing_baselines(read(write("pixel", "diffusion", 9.0, change=from_command(typed))))[0]
    settings = cli.parse(EvaluateStage, shlex.split(first.command)[3:])
    assert (settings.real_images, settings.data.val_images, settings.data.hflip) == (200, 5000, True)
