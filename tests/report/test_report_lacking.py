import html
import json
import re
import shlex

from latentdiff.report import read_evaluation, write_report
from latentdiff.report.lacking import lacking_baselines
from latentdiff.stages import cli
from latentdiff.stages.evaluate import EvaluateStage


def read(*folders):
    return [read_evaluation(folder) for folder in folders]


def from_command(command):
    def change(values):
        values["command"] = command

    return change


def test_baselines_that_are_not_there_are_said_with_what_makes_them(write):
    pixel = write("pixel", "diffusion", 14.0, 2700.0)
    evaluate = "python -m latentdiff.stages.evaluate --checkpoint"
    commands = [lack.command for lack in lacking_baselines(read(pixel))]
    assert commands == [
        f"{evaluate} noise --num_images 10000",
        f"{evaluate} gaussian --num_images 10000",
        f"{evaluate} FILE --mode prior --num_images 10000",
    ]
    # Reconstructions bound latent models: without one they are not missed.
    latent = write("latent", "diffusion", 9.0, 1200.0, 1500.0)
    assert [lack.command for lack in lacking_baselines(read(pixel, latent))] == [
        *commands,
        f"{evaluate} FILE --num_images 10000",
    ]
    for command in commands:
        assert cli.parse(EvaluateStage, shlex.split(command)[3:]).num_images == 10_000


def test_nothing_is_lacking_where_every_role_is_there(full):
    assert lacking_baselines(read(*full)) == []


def test_the_commands_take_the_same_real_images(write):
    typed = "python -m latentdiff.stages.evaluate --checkpoint=a.safetensors --data.name celeba --data.path='my faces'"
    folder = write("pixel", "diffusion", 9.0, change=from_command(f"{typed} --real_images=50 --steps 5"))
    first = lacking_baselines(read(folder))[0]
    assert first.command.endswith("--num_images 10000 --data.name celeba --data.path 'my faces' --real_images 50")
    assert cli.parse(EvaluateStage, shlex.split(first.command)[3:]).data.path == "my faces"
    assert str(first) == f"{first.text} {first.command}"
    folder = write("other", "diffusion", 9.0, change=from_command("typed 'by hand"))
    assert lacking_baselines(read(folder))[0].command.endswith("--num_images 10000")


def test_page_and_markdown_say_what_is_lacking_once_and_the_json_is_as_it_was(write, tmp_path):
    folders = [write("pixel", "diffusion", 14.0, 2700.0), write("latent", "diffusion", 9.0, 1200.0, 1500.0)]
    pair = read(*folders)
    page = write_report(pair, tmp_path, groups={"one budget": pair, "another": pair}).read_text()
    page = html.unescape(re.sub("</?(span|code)>", "", page))
    markdown = (tmp_path / "report.md").read_text()
    for lack in lacking_baselines(pair):
        assert page.count(f"<li>{lack}</li>") == 1
        assert markdown.count(f"{lack.text} `{lack.command}`") == 1
    assert "is not in this report" not in json.loads((tmp_path / "report.json").read_text())["verdict"]
