"""What a search may change: ranges within the settings' own, choices that the settings take, and refusals by name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from latentdiff.comparison.search_space import read_space, with_settings
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def space(tmp_path):
    """Reads a text as the file of a space."""

    def read(text):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return {dimension.name: dimension for dimension in read_space(str(path)).dimensions}

    return read


def test_a_range_is_as_given_and_its_ends_are_the_settings_own_where_left_out(space):
    found = space(
        "trainer.lr: {low: 1e-4, high: 1e-2, log: true}\n"
        "trainer.weight_decay:\n"
        "network.dropout:\n"
        "network.num_res_blocks: {high: 3}\n"
        "trainer.batch_size: {low: 32, high: 128, step: 32}\n"
    )
    lr, decay, dropout = (found[name] for name in ("trainer.lr", "trainer.weight_decay", "network.dropout"))
    assert (lr.low, lr.high, lr.log, lr.whole) == (1e-4, 1e-2, True, False)
    assert (decay.low, decay.high) == (0, 100)
    # Below 1, and 1 itself left out.
    assert dropout.low == 0
    assert dropout.high == math.nextafter(1, 0)
    blocks, batch = found["network.num_res_blocks"], found["trainer.batch_size"]
    assert (blocks.low, blocks.high, blocks.whole) == (1, 3, True)
    assert type(blocks.low) is int
    assert batch.step == 32


def test_the_numbers_that_a_setting_may_have(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "trainer.lr: {low: 1e-4, high: 1e-2}\n"
        "together:\n  length:\n    as it is: {trainer.batch_size: 8}\n"
        "    short: {trainer.batch_size: 4, trainer.lr_warmup_images: 100}\n"
    )
    found, stage = read_space(str(tmp_path / "space.yaml")), DiffusionStage()
    assert found.range_of("trainer.lr", stage) == (1e-4, 1e-2)
    assert found.range_of("trainer.lr_warmup_images", stage) == (100, stage.trainer.lr_warmup_images)
    assert found.range_of("trainer.max_images", stage) == (stage.trainer.max_images,) * 2


def test_names_and_truths_are_all_their_choices_where_nothing_is_given(space):
    found = space("diffusion.target:\nnetwork.middle_attention:\nnetwork:\n  channels: {choices: [[8], [8, 16]]}\n")
    assert list(found["diffusion.target"].choices) == ["eps", "x0", "v", "edm", "score"]
    assert found["network.middle_attention"].settings("false") == {"network.middle_attention": False}
    assert found["network.channels"].settings("[8, 16]") == {"network.channels": (8, 16)}


def test_settings_of_a_group_go_together(space):
    found = space(
        "together:\n  process:\n    as it is:\n    edm: {diffusion.schedule: edm, diffusion.num_train_steps: null}\n"
    )
    process = found["process"]
    assert process.settings("as it is") == {}
    assert process.settings("edm") == {"diffusion.schedule": "edm", "diffusion.num_train_steps": None}
    stage = with_settings(DiffusionStage(), {**process.settings("edm"), "trainer.lr": 0.5, "name": "mine"})
    assert (stage.diffusion.schedule, stage.diffusion.num_train_steps) == ("edm", None)
    assert (stage.trainer.lr, stage.name) == (0.5, "mine")
    assert replace(stage, diffusion=DiffusionStage().diffusion, trainer=DiffusionStage().trainer) == replace(
        DiffusionStage(), name="mine"
    )


def test_settings_are_found_in_a_space_or_not(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "trainer.lr: {low: 1e-4, high: 1e-2}\nnetwork.channels: {choices: [[8], [64, 96]]}\n"
        "together: {process: {edm: {diffusion.target: edm}, v: {diffusion.target: v}}}\n"
    )
    space = read_space(str(path))
    assert space.values_of(DiffusionStage()) == {"trainer.lr": 1e-3, "network.channels": "[64, 96]", "process": "v"}
    for name, value in (("trainer.lr", 0.5), ("network.channels", (16,)), ("diffusion.target", "x0")):
        assert space.values_of(with_settings(DiffusionStage(), {name: value})) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainer.learning_rat: {low: 1}", "there is no such setting. Did you mean"),
        ("trainer.rl: {low: 1}", "trainer.rl in .*: there is no such setting"),
        ("network.chanels: {choices: [[8], [16]]}", "Did you mean network.channels"),
        ("trainer.max_seconds: {low: 1, high: 2}", "is the same for all trials, and cannot be searched"),
        ("data.size: {low: 8, high: 16}", "is the same for all trials"),
        (
            "trainer.lr: {low: 1e-3, high: 200}",
            "trainer.lr in .*: high 200 is outside of the setting's own range, from 0 to",
        ),
        ("network.dropout: {low: 0, high: 1}", "at least 0 and below 1"),
        ("trainer.lr: {low: -1, high: 1}", "low -1 is outside"),
        ("trainer.lr: {low: .nan, high: 1}", "low nan is outside"),
        ("trainer.lr: {low: 1, high: 1}", "low 1 must be below high 1"),
        ("trainer.lr: {log: true}", "must begin above 0, but low is 0: give low"),
        ("trainer.lr: {low: 1e-4, high: 1, log: true, step: 0.1}", "a range with log cannot have a step"),
        ("trainer.lr: {low: a}", "low must be a number, not 'a'"),
        ("trainer.lr: {lowest: 1}", "has the unknown key lowest; known are low, high, log, step, choices"),
        ("trainer.lr: 0.1", "must have low and high, or choices"),
        ("trainer.batch_size: {low: 1.5, high: 3}", "low must be a whole number"),
        ("trainer.batch_size: {low: 1, high: 3, step: 0}", "step must be a whole number above 0"),
        ("network.channels: {low: 1, high: 3}", "is not a number: give choices"),
        ("network.channels:", "give choices, each of them a list of 1 to 16"),
        ("diffusion.target: {low: 1}", "is not a number: give choices"),
        ("diffusion.target: {choices: [v, w]}", "diffusion.target in .* must be eps, x0, v, edm or score, not 'w'"),
        ("diffusion.target: {choices: [v]}", "a list of at least two values"),
        ("diffusion.target: {choices: [v, v]}", "has a choice twice"),
        ("diffusion.target: {choices: [v, x0], low: 1}", "has choices and a range"),
        ("together: {process: {a: {}}}", "at least two choices"),
        ("together: {process: {a: {}, b: {diffusion.targe: v}}}", "Did you mean diffusion.target"),
        ("diffusion.target:\ntogether: {process: {a: {}, b: {diffusion.target: v}}}", "is given twice"),
        ("together: [a]", "together in .* must map the name of each group"),
        ("", "is empty: give the settings to search"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(space, text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        space(text)
    assert len(str(refused.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"--space nowhere\.yaml: there is no such file"):
        read_space("nowhere.yaml")


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "sweeps").glob("*.yaml")))
def test_the_shipped_spaces_are_read_by_name_and_all_their_settings_are_taken(name):
    space = read_space(f"sweeps/{name}")
    for dimension in space.dimensions:
        for value in dimension.choices or (dimension.low, dimension.high):
            with_settings(DiffusionStage(), dimension.settings(value))
