"""Each setting refuses what is out of its range, alike from the shell, from YAML and from Python, and in words."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import time
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from latentdiff import command_line, config
from latentdiff.config import comparison_stages, model_stages, tool_stages, training_stages
from latentdiff.config.checks import UNIONS, checked, hints_of, is_settings, split_annotated
from latentdiff.config.options import REQUIRED, options_of
from latentdiff.config.ranges import Range
from latentdiff.errors import ConfigError
from latentdiff.inference.request import SamplingRequest

STAGES = [
    cls
    for module in (training_stages, model_stages, comparison_stages, tool_stages)
    for cls in vars(module).values()
    if isinstance(cls, type) and cls.__name__.endswith("Stage") and cls.__module__ == module.__name__
]
FAMILIES = [cls for cls in vars(config).values() if isinstance(cls, type) and cls.__name__.endswith("Config")]
FAMILIES += [comparison_stages.BudgetConfig, tool_stages.BenchmarkSettings, SamplingRequest]
REQUIRED_FLAGS = {"ReleaseStage": ["--model=a", "--to=b"]}


def arms(hint):
    """The types that an annotation joins, with their marks, and whether None is one of them."""
    base, marks = split_annotated(hint)
    return [part for arm in get_args(base) for part in arms(arm)] if get_origin(base) in UNIONS else [(base, marks)]


def number(hint):
    """The number in an annotation: its type and ranges, None, or how many entries a tuple of it has."""
    for base, marks in arms(hint):
        if base in (int, float):
            return base, [mark for mark in marks if isinstance(mark, Range)], 0
        if get_origin(base) is tuple and (found := number(get_args(base)[0])):
            return found[0], found[1], len(get_args(base)) if Ellipsis not in get_args(base) else 1
    return None


def is_optional(hint):
    return any(base is type(None) for base, _ in arms(hint))


def bad_values(hint):
    """What a number's annotation must refuse: each value by the name of what is wrong with it."""
    kind, ranges, entries = number(hint)
    found = {"nan": math.nan, "minus infinity": -math.inf, "text": "many", "bool": True}
    for limits in ranges:
        step = 1 if kind is int else max(abs(limits.low), 1) * 1e-3
        found["below"] = limits.low if limits.above else limits.low - step
        if not math.isinf(limits.high):
            found["above"] = limits.high if limits.below else limits.high + max(step, limits.high * 1e-3)
            found["infinity"] = math.inf
    if kind is int:
        found["fraction"] = 1.5
        found["above"] = int(found["above"])
    found = {name: [value] * entries if entries else value for name, value in found.items()}
    if entries:
        found["text itself"] = "many"
    if not is_optional(hint):
        found["null"] = None
    return found


def good_values(hint):
    kind, ranges, entries = number(hint)
    for limits in ranges:
        edges = [] if limits.above else [limits.low]
        edges += [] if limits.below or math.isinf(limits.high) else [limits.high]
        for value in [*edges, *([float(edge) for edge in edges] if kind is int else [])]:
            yield [value] * entries if entries else value


def numbers_of(cls):
    return [field.name for field in dataclasses.fields(cls) if number(hints_of(cls)[field.name])]


def in_yaml(value):
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


def shell_options():
    """Each numeric setting of the command line once, with a stage that has it."""
    found = {}
    for stage in STAGES:
        for option in options_of(stage).values():
            if number(option.hint) and option.name != "labels":
                name = option.name.split(".")[-1]
                owner = next(base for base in option.owner.__mro__[::-1] if name in hints_of(base))
                found.setdefault((owner, name), (stage, option))
    return list(found.values())


def test_every_number_declares_a_range():
    without = [
        f"{cls.__name__}.{name}"
        for cls in {*FAMILIES, *STAGES}
        for name in numbers_of(cls)
        if not number(hints_of(cls)[name])[1]
    ]
    # Their range is the data set's, and a text is one too.
    assert sorted(without) == ["SampleStage.labels", "SamplingRequest.labels"]


@pytest.mark.parametrize("cls", [*FAMILIES, *STAGES], ids=lambda cls: cls.__name__)
def test_python_refuses_each_number_that_is_out_of_range(cls):
    needed = {SamplingRequest: {"num_images": 1}, config.PhaseConfig: {"start": 0.5}}.get(cls, {})
    needed |= dict(flag[2:].split("=") for flag in REQUIRED_FLAGS.get(cls.__name__, []))
    for name in numbers_of(cls):
        hint = hints_of(cls)[name]
        if name == "labels":
            continue
        for what, value in bad_values(hint).items():
            with pytest.raises(ConfigError, match=rf"^{name} must be ") as refused:
                cls(**{**needed, name: value})
            assert "\n" not in str(refused.value), what
        for value in good_values(hint) if name != "log_sigma_normal" else ():
            checked(value, hint, name)


def test_shell_and_yaml_refuse_each_number_before_a_folder_is_touched(tmp_path, monkeypatch, record_property):
    monkeypatch.chdir(tmp_path)
    file = tmp_path.parent / f"{tmp_path.name}.yaml"
    tries, slowest = 0, 0.0
    for stage, option in shell_options():
        main = importlib.import_module(f"latentdiff.stages.{stage.__name__.removesuffix('Stage').lower()}").main
        for what, value in bad_values(option.hint).items():
            name = option.name.split(".")
            lines = "\n".join(f"{'  ' * depth}{part}:" for depth, part in enumerate(name))
            file.write_text(f"{lines} {in_yaml(value)}\n")
            for where, arguments in {
                f"--{option.name}": [f"--{option.name}={in_yaml(value)}"],
                f"{option.name} in {file}": ["--config", str(file)],
            }.items():
                begun = time.perf_counter()
                with pytest.raises(ConfigError) as refused:
                    main([*REQUIRED_FLAGS.get(stage.__name__, []), *arguments])
                slowest = max(slowest, time.perf_counter() - begun)
                assert str(refused.value).startswith(f"{where} must be "), (what, str(refused.value))
                assert len(str(refused.value).splitlines()) <= 3
                tries += 1
    assert not list(tmp_path.iterdir())
    assert tries >= 1200
    record_property("settings refused", tries)
    print(f"{tries} settings of {len(shell_options())} numbers were refused, the slowest in {slowest:.3f} s")


@pytest.mark.parametrize("stage", STAGES, ids=lambda cls: cls.__name__)
def test_every_setting_reads_back_what_print_config_shows(stage, capsys, tmp_path):
    flags = REQUIRED_FLAGS.get(stage.__name__, [])
    with pytest.raises(SystemExit):
        command_line.parse(stage, [*flags, "--print_config"])
    file = tmp_path / "all.yaml"
    file.write_text(capsys.readouterr().out)
    assert command_line.parse(stage, ["--config", str(file)]) == command_line.parse(stage, flags)
    assert all(option.default is not REQUIRED or flags for option in options_of(stage).values())


@pytest.mark.parametrize(
    ("stage", "flag"),
    [
        ("diffusion", "--trainer.max_images=-5"),
        ("diffusion", "--trainer.images_per_epoch=-1"),
        ("diffusion", "--trainer.max_seconds=.nan"),
        ("diffusion", "--trainer.max_seconds=-1"),
        ("diffusion", "--validation_images=-1"),
        ("diffusion", "--sample_every=0"),
        ("diffusion", "--trainer.num_threads=-1"),
        ("diffusion", "--network.channels=[0]"),
        ("diffusion", "--network.channels=[1000000,1000000]"),
        ("autoencoder", "--network.channels=[1000000,1000000]"),
        ("sample", "--num_images=1000000000000"),
        ("sample", "--steps=0"),
        ("sample", "--guidance_scale=.inf"),
        ("sample", "--corrector_snr=.nan"),
        ("diffusion", "--trainer.grad_clip=-1"),
        ("diffusion", "--diffusion.class_dropout=.nan"),
        ("diffusion", "--diffusion.class_dropout=2"),
        ("diffusion", "--trainer.ema_half_life=-1"),
        ("diffusion", "--trainer.ema_warmup=.nan"),
        ("diffusion", "--name=../../.."),
        ("autoencoder", "--name=.."),
        ("diffusion", "--name=$HOME"),
        ("sweep", "--name=a/b"),
    ],
)
def test_what_was_once_taken_is_refused(stage, flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^{flag.partition('=')[0]} must be "):
        importlib.import_module(f"latentdiff.stages.{stage}").main([flag])
    assert not list(tmp_path.iterdir())


def test_whole_numbers_are_exact_and_numbers_are_floats():
    assert config.TrainerConfig(max_images=1e5).max_images == 100_000
    assert type(config.TrainerConfig(max_images=3.0).max_images) is int
    assert type(config.TrainerConfig(lr=1).lr) is float
    assert config.NetworkConfig(channels=[8.0, 16]).channels == (8, 16)
    with pytest.raises(ConfigError, match=r"max_images must be a whole number from 1 to .* or None, not '5'"):
        config.TrainerConfig(max_images="5")
    with pytest.raises(ConfigError, match=r"max_images .* not True"):
        config.TrainerConfig(max_images=True)


def test_other_wrong_types_are_refused_in_words():
    with pytest.raises(
        ConfigError, match=r"trainer must be a TrainerConfig, as in TrainerConfig\(...\), not \{'max_im"
    ):
        training_stages.DiffusionStage(trainer={"max_images": 5})
    with pytest.raises(ConfigError, match=r"phases must be a tuple of PhaseConfig, as in PhaseConfig\(...\), not \["):
        training_stages.AutoencoderStage(phases=[{"start": 0.5}])
    with pytest.raises(ConfigError, match="hflip must be True or False, not 1"):
        config.DataConfig(hflip=1)
    with pytest.raises(ConfigError, match="root must be a path or None, not 5"):
        config.DataConfig(root=5)
    with pytest.raises(ConfigError, match="mix must be a tuple of texts, not 'mnist'"):
        config.DataConfig(mix="mnist")


def test_a_path_is_expanded_wherever_it_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNS", "here")
    assert config.RunConfig(folder="~/$RUNS").folder == f"{tmp_path}/here"
    assert config.DataConfig(root=Path("~/${RUNS}")).root == f"{tmp_path}/here"
    parsed = command_line.parse(training_stages.DiffusionStage, ["--init=~/a", "--autoencoder=$RUNS"])
    assert (parsed.init, parsed.autoencoder) == (f"{tmp_path}/a", "here")
    with pytest.raises(ConfigError, match=r"--run.folder is '\$NOWHERE/x', and the environment variable NOWHERE"):
        command_line.parse(training_stages.DiffusionStage, ["--run.folder=$NOWHERE/x"])
    (tmp_path / "$NOWHERE").mkdir()
    assert (
        config.RunConfig(folder=tmp_path / "$NOWHERE").folder == f"{tmp_path}/$NOWHERE"
    )  # as it is spelt, it is there


def test_settings_have_a_path_type_where_they_name_a_file():
    paths = ("folder", "path", "root", "model", "models", "to", "init", "guide", "table", "weights")
    missing = [
        f"{cls.__name__}.{name}"
        for cls in {*FAMILIES, *STAGES}
        for name, hint in hints_of(cls).items()
        if name.rpartition("_")[2] in paths
        and not is_settings(hint)
        and get_origin(hint) is not Literal
        and "PathText" not in str(hint)
    ]
    assert missing == []


def test_python_functions_refuse_wrong_types_before_they_read_anything(monkeypatch):
    from latentdiff import evaluate, train_autoencoder, train_diffusion

    with pytest.raises(ConfigError, match=r"^trainer must be a TrainerConfig"):
        train_diffusion("absent", trainer={"max_images": 5})
    with pytest.raises(ConfigError, match=r"^network must be a NetworkConfig"):
        train_diffusion("absent", network={"channels": [8]})
    with pytest.raises(ConfigError, match=r"^loss must be an AutoencoderLossConfig"):
        train_autoencoder("absent", loss={"kl_weight": 5})
    with pytest.raises(ConfigError, match=r"^validation_images must be a whole number"):
        train_autoencoder("absent", validation_images="many")
    with pytest.raises(ConfigError, match=r"^sampling must be a SamplingConfig"):
        evaluate("noise", "absent", sampling={"steps": 5})


def test_a_network_that_no_memory_holds_is_refused_before_it_is_built():
    from latentdiff.config import AutoencoderConfig, NetworkConfig
    from latentdiff.models.autoencoder import Autoencoder
    from latentdiff.models.network import build_network

    widths = (65_536,) * 3
    with pytest.raises(ConfigError, match=r"make a network of [\d,]+ parameters. Its weights take [\d,]+ GB"):
        build_network(3, 0, NetworkConfig(channels=widths, attention_levels=(), num_res_blocks=2))
    with pytest.raises(ConfigError, match=r"make a network of [\d,]+ parameters. Its weights take [\d,]+ GB"):
        Autoencoder((3, 64, 64), AutoencoderConfig(channels=widths, attention=False))
