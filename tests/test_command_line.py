from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from latentdiff import command_line as cli
from latentdiff import resources as shelf
from latentdiff.config import comparison_stages, model_stages, to_dict, tool_stages, training_stages
from latentdiff.config.model_stages import SampleStage
from latentdiff.config.options import OTHER_NAMES, options_of
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.runs import run_folder

STAGES = {
    cls.__name__.removesuffix("Stage").lower(): cls
    for module in (training_stages, model_stages, comparison_stages, tool_stages)
    for cls in vars(module).values()
    if isinstance(cls, type) and cls.__name__.endswith("Stage")
}


def options(cls, prefix=""):
    for field in dataclasses.fields(cls):
        kind = field.default_factory if field.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(kind):
            yield from options(kind, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("stage", list(STAGES))
def test_help_documents_every_option(stage, capsys):
    cls = STAGES[stage]
    with pytest.raises(SystemExit) as end:
        cli.parse(cls, ["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for option in options(cls):
        index = next(i for i, line in enumerate(lines) if line.strip().startswith(f"--{option} "))
        # What follows the option, up to the next one, must hold words before the type and the default.
        following = []
        for line in lines[index : index + 8]:
            if following and line.strip().startswith("--"):
                break
            following.append(line.strip())
        words = " ".join(following).removeprefix(f"--{option}").split("(type:")[0].split("(default")[0]
        assert len(words.split()) >= 4, f"--{option} of {stage} is not documented"


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("name: mine\ntrainer:\n  lr: 0.5\n  batch_size: 7\n")
    config = cli.parse(DiffusionStage, ["--config", str(file), "--trainer.batch_size", "9", "--run.overwrite"])
    assert (config.name, config.trainer.lr, config.trainer.batch_size) == ("mine", 0.5, 9)
    assert config.run.overwrite is True
    assert config.diffusion == DiffusionStage().diffusion
    assert cli.parse(DiffusionStage, ["--trainer.batch_size", "9", "--config", str(file)]).trainer.batch_size == 9


@pytest.mark.parametrize("name", ["diffusion.prediction_type", "trainer.max_grad_norm", "network.block_out_channels"])
def test_a_name_of_another_library_leads_to_ours(name):
    section, _, theirs = name.partition(".")
    with pytest.raises(ConfigError, match=f"Did you mean --{section}.{OTHER_NAMES[theirs]}"):
        cli.parse(DiffusionStage, [f"--{name}", "1"])


def test_every_name_of_another_library_means_a_setting_that_there_is():
    stages = (DiffusionStage, AutoencoderStage, SampleStage)
    ours = {option.rpartition(".")[2] for stage in stages for option in options_of(stage)}
    assert set(OTHER_NAMES.values()) <= ours
    assert not set(OTHER_NAMES) & ours


def test_dashes_and_released_config_names_are_understood():
    config = cli.parse(DiffusionStage, ["--config", "configs/fashion-mnist/pixel.yaml", "--trainer.max-images=5"])
    assert (config.autoencoder, config.trainer.max_images) == ("none", 5)


@pytest.mark.parametrize(
    "arguments",
    [["--trainer.speed", "3"], ["--trainer.max_image", "3"], ["--trainer.lr", "fast"], ["--config", "absent.yaml"]],
)
def test_unknown_keys_and_bad_values_are_refused_by_name(arguments):
    with pytest.raises(ConfigError) as refused:
        cli.parse(DiffusionStage, arguments)
    assert arguments[-1 if "absent" in arguments[1] else 0].removeprefix("--") in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--trainer.max_image=3"],
            r"--trainer.max_image: there is no .* Did you mean --trainer.max_images\?",
        ),
        (["--trainer.learning_rate=3"], r"Did you mean --trainer.lr(\?| or )"),
        (["--max-images=3"], r"--max_images: there is no such setting. Did you mean --trainer.max_images(\?| or )"),
        (["--batch_siz", "3"], r"Did you mean --trainer.batch_size\?"),
        (["--" + "q" * 10**5, "3"], "there is no such setting"),
        (["--trainer.lr"], "--trainer.lr needs a value: it must be a number from 0 to 100"),
        (["--trainer.lr="], "--trainer.lr must be a number from 0 to 100, not ''"),
        (["--trainer.max_images="], "--trainer.max_images must be a whole number from 1 to .* or null, not ''"),
        (["--data.mix", "mnist", "cifar-10"], "'cifar-10' belongs to no setting"),
        (["--data.fractions", "[0.8,", "0.2]"], "a list with spaces needs quotes"),
        (["-x"], "'-x' belongs to no setting"),
        (["--print_config=all"], "--print_config takes no value"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_answered_in_two_lines(arguments, said):
    with pytest.raises(ConfigError, match=said) as refused:
        cli.parse(DiffusionStage, arguments)
    first, second = str(refused.value).splitlines()
    assert len(first) < 250
    assert second.endswith("diffusion --help lists all settings.")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/latentdiff", "latentdiff diffusion"),
        ("/lib/latentdiff/__main__.py", "python -m latentdiff diffusion"),
        ("/lib/latentdiff/stages/diffusion.py", "python -m latentdiff.stages.diffusion"),
    ],
)
def test_messages_and_help_name_the_command_as_it_was_typed(program, command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [program])
    with pytest.raises(ConfigError, match=rf"\n{command} --help lists"):
        cli.parse(DiffusionStage, ["--nonsense"])
    with pytest.raises(SystemExit):
        cli.parse(DiffusionStage, ["-h"])
    assert capsys.readouterr().out.startswith(f"usage: {command} [--config FILE]")


def test_what_must_be_given_is_named():
    with pytest.raises(ConfigError, match=r"^--model and --to must be given\n"):
        cli.parse(model_stages.ReleaseStage, [])


def test_lists_need_no_brackets():
    parsed = cli.parse(DiffusionStage, ["--network.channels=32,64", "--data.fractions", "1,0,0", "--data.mix=mnist"])
    assert parsed.network.channels == (32, 64)
    assert parsed.data.fractions == (1, 0, 0)
    assert parsed.data.mix == ("mnist",)
    swept = cli.parse(comparison_stages.SweepStage, ["--flags=--network.channels=[32,64]"])
    assert swept.flags == ("--network.channels=[32,64]",)


def test_unknown_key_in_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "my.yaml").write_text("trainer:\n  learning_rate: 0.5\n")
    with pytest.raises(ConfigError, match="learning_rate"):
        cli.parse(DiffusionStage, ["--config", str(tmp_path / "my.yaml")])


def test_recorded_config_reads_back_to_the_same_without_the_run(tmp_path):
    flags = ["--network.channels=[16,32]", "--data.source", "embedded"]
    config = cli.parse(DiffusionStage, [*flags, "--run.overwrite"])
    run_folder.record_config(config, tmp_path)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["network"]["channels"] == [16, 32]
    assert cli.parse(DiffusionStage, [f"--config={tmp_path / 'config.yaml'}"]) == cli.parse(DiffusionStage, flags)


CONFIGS = Path(__file__).parents[1] / "configs"
# But for spaces of a search, which hold no settings.
SETTINGS = [path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml") if path.parent.name != "sweeps"]


@pytest.mark.parametrize("name", sorted(map(str, SETTINGS)))
def test_every_config_parses_and_holds_only_what_differs(name):
    stem = Path(name).stem
    module = "autoencoder" if "autoencoder" in stem or stem == "vae_baseline" else "diffusion"
    module = stem if stem in ("sweep", "reproduce") else module
    cls = STAGES[module]
    config = cli.parse(cls, ["--config", name])
    assert getattr(config, "name", stem) == stem
    defaults, own = run_folder.flatten(to_dict(cls())), yaml.safe_load(shelf.find_config(name).read_text())
    if name.startswith("sources/"):  # Other people's models stay what they are, whatever our defaults become.
        stated = {"trainer.batch_size", "trainer.lr", "trainer.lr_schedule", "trainer.weight_decay"}
        if module == "diffusion":
            stated |= {"network.architecture", "network.channels", "network.conditioning", "network.class_conditional"}
            stated |= {"diffusion.schedule", "diffusion.num_train_steps", "diffusion.target", "diffusion.loss_weight"}
        assert stated <= run_folder.flatten(own).keys()
        return
    assert all(defaults.get(key) != value for key, value in run_folder.flatten(own).items() if key != "name")


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "sources").glob("*.yaml")))
def test_every_source_builds(name):
    from latentdiff.codec import AutoencoderCodec, IdentityCodec
    from latentdiff.config import AutoencoderConfig
    from latentdiff.config.training_stages import AutoencoderStage
    from latentdiff.models.autoencoder import Autoencoder
    from latentdiff.training.autoencoder_module import AutoencoderModule
    from latentdiff.training.diffusion_module import DiffusionModule
    from latentdiff.training.trainer import check_settings

    if "autoencoder" in name:
        config = cli.parse(AutoencoderStage, ["--config", f"sources/{name}"])
        AutoencoderModule((1, 28, 28), config.network, config.loss, config.trainer, None)
    else:
        config = cli.parse(DiffusionStage, ["--config", f"sources/{name}", "--trainer.accelerator", "cpu"])
        codec = IdentityCodec((1, 28, 28))
        if config.autoencoder != "none":
            model = Autoencoder((1, 28, 28), AutoencoderConfig())
            codec = AutoencoderCodec(model, AutoencoderConfig(), torch.zeros(2), torch.ones(2))
        DiffusionModule(codec, 10, config.network, config.diffusion, config.trainer)
    check_settings(config.trainer)
