"""Files of settings: what is none is refused at once and in a line, and no text becomes a number by surprise."""

from __future__ import annotations

import resource

import pytest

from latentdiff.command_line import parse
from latentdiff.config import PhaseConfig
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.config.yaml_text import dump_yaml, parse_yaml
from latentdiff.errors import ConfigError

LEVELS = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
LEVELS += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\n".join(LEVELS), "more than 20,000 values, including those that its aliases repeat"),
        ("name: &a [*a]", "nested too deeply, or holds itself"),
        ("name: " + "[" * 50_000, "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("name: x\n# " + "x" * 10**6, "larger than the 100,000 bytes"),
        (bytes(range(256)), "not text in UTF-8"),
        ("name: x".encode("utf-16"), "not text in UTF-8"),
        ("name: \x01", "not text"),
        ("- a\n- b", "holds no settings"),
        ("hello", "holds no settings"),
        ("trainer:\n  lr: 1\n  lr: 2", "line 3: lr is given twice"),
        ("trainer:\n\tlr: 1", "line 2"),
        ("name: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("[1]: 2", "a key is not a name"),
        ("trainer: {lr: !!int text}", "text"),
    ],
)
def test_what_is_no_file_of_settings_is_refused_at_once(tmp_path, content, said):
    file = tmp_path / "my.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as refused:
        parse(DiffusionStage, ["--config", str(file)])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"--config {file}")
    assert len(str(refused.value).splitlines()) <= 3
    assert str(refused.value).count(str(file)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "."], r"--config \. is a folder"),
        (["--config", "absent.yaml"], "--config absent.yaml: there is no such file"),
        (["--config", "x" * 5000], "File name too long"),
        (["--config", "a\0b"], "null character"),
        (["--config"], "--config needs a value"),
        (["--config="], "is empty"),
        (["--config", "$NOWHERE/a.yaml"], "NOWHERE is not set"),
    ],
)
def test_what_is_no_file_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said) as refused:
        parse(DiffusionStage, arguments)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("trainer: {lr: null}", "trainer.lr in my.yaml must be a number from 0 to 100, not null"),
        ("trainer: {lr: '1e-3'}", "trainer.lr in my.yaml must be a number from 0 to 100, not '1e-3'"),
        ("trainer: {seed: 010}", "trainer.seed in my.yaml must be a whole number from 0 to .*, not '010'"),
        ("trainer: {max_seconds: 1:30}", "trainer.max_seconds in my.yaml must be .*, not '1:30'"),
        ("trainer: 5", "trainer in my.yaml holds several settings, and not 5"),
        ("trainer.lr: 1\ntrainer: {lr: 2}", "trainer.lr in my.yaml is given twice"),
        ("name: 5", "name in my.yaml must be text, not 5: put it in quotes"),
        ("data: {mix: mnist}", "data.mix in my.yaml must be a list of texts, not 'mnist'"),
        ("trainer: {learning_rate: 1}", r"trainer.learning_rate in my.yaml: .* Did you mean trainer.lr"),
        ("max_images: 1", r"max_images in my.yaml: there is no such setting. Did you mean trainer.max_images"),
        ("phases: [{kl_weight: 1}]", r"phases\[0\].start in my.yaml must be given"),
        ("phases: [{start: 2}]", r"phases\[0\].start in my.yaml must be a number above 0 and below 1, not 2"),
        (
            "phases: [{start: 0.5, kl_weigt: 2}]",
            r"phases\[0\].kl_weigt in my.yaml: .* Did you mean phases",
        ),
        ("phases: [0.5]", r"phases in my.yaml must be a list of mappings of settings, not \[0.5\]"),
        ("1: 2", "1 in my.yaml: there is no such setting"),
    ],
)
def test_a_value_of_a_file_is_refused_by_its_name_and_file(content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"^{said}"):
        parse(AutoencoderStage if "phases" in content else DiffusionStage, ["--config", "my.yaml"])


def test_a_file_says_what_it_says(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(
        "\ufeffautoencoder: null\nnetwork:\ndata: {hflip: yes, classes: no}\nname: 2024-01-01\n"
        "trainer: &t {max_images: 1e5, lr: 3e-4, max_seconds: null, monitor: null}\n"
    )
    read = parse(DiffusionStage, [f"--config={file}"])
    assert (read.autoencoder, read.network, read.name) == ("none", DiffusionStage().network, "2024-01-01")
    assert (read.data.hflip, read.data.classes) == (True, "no")
    assert (read.trainer.max_images, read.trainer.lr, read.trainer.monitor) == (100_000, 3e-4, None)
    file.write_text("")
    assert parse(DiffusionStage, [f"--config={file}"]) == DiffusionStage()


def test_a_list_of_settings_is_read(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("phases:\n- {start: 0.25, kl_weight: 1e-3}\n- {start: 0.5, frozen_encoder: yes}\n")
    phases = parse(AutoencoderStage, [f"--config={file}"]).phases
    assert phases == (PhaseConfig(start=0.25, kl_weight=1e-3), PhaseConfig(start=0.5, frozen_encoder=True))
    assert parse(AutoencoderStage, ['--phases=[{"start": 0.25, "kl_weight": 0.001}]']).phases == phases[:1]


def test_a_section_can_be_a_file_or_json(tmp_path):
    file = tmp_path / "trainer.yaml"
    file.write_text("lr: 0.5\n")
    assert parse(DiffusionStage, [f"--trainer={file}"]).trainer.lr == 0.5
    assert parse(DiffusionStage, ["--trainer", '{"lr": 0.25}', "--trainer.seed=3"]).trainer.lr == 0.25
    with pytest.raises(ConfigError, match=r"^--trainer holds several settings: give one as --trainer.SETTING VALUE"):
        parse(DiffusionStage, ["--trainer", "5"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e5", 1e5), ("1E-3", 1e-3), ("1_000", 1000), ("0x10", 16), (".5", 0.5), ("-.inf", -float("inf"))],
        *[("~", None), ("", None), ("true", True)],
        *[("no", "no"), ("010", "010"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01")],
    ],
)
def test_plain_texts(text, value):
    found = parse_yaml(text, "it")
    assert found == value
    assert type(found) is type(value)


WRITTEN = ["1e-3", "3E4", "1_000", "12", "true", "null", "~", "0x1f", "text", 0.001, 1e-05, 3, None, True]


@pytest.mark.parametrize("value", WRITTEN)
def test_what_is_written_is_read_back(value):
    assert parse_yaml(dump_yaml({"name": value}), "it") == {"name": value}
