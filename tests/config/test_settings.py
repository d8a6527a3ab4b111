"""Names that a setting does not know are refused from Python as they are on a command line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args, get_type_hints

import pytest

from latentdiff.config import (
    AutoencoderLossConfig,
    DataConfig,
    DiffusionConfig,
    NetworkConfig,
    SamplerName,
    SamplingConfig,
    Settings,
    TrainerConfig,
    from_dict,
    to_dict,
)
from latentdiff.config.comparison_stages import SamplersStage
from latentdiff.config.model_stages import EvaluateStage, SampleStage
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import ALPHA_BARS, SPACINGS
from latentdiff.diffusion.target import TARGETS
from latentdiff.inference.request import SamplingRequest

CONFIGS = (DataConfig, AutoencoderLossConfig, NetworkConfig, DiffusionConfig, TrainerConfig, SamplingConfig)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, field.name)
        for cls in (*CONFIGS, DiffusionStage, SampleStage, EvaluateStage)
        for field in fields(cls)
        if "Literal" in str(get_type_hints(cls)[field.name])
    ],
)
def test_every_choice_refuses_a_name_that_it_does_not_have(cls, name):
    with pytest.raises(ValueError, match=f"^{name} must be .* or .*, not 'magic'$"):
        cls(**{name: "magic"})


def test_the_message_names_the_setting_the_value_and_the_choices():
    with pytest.raises(ValueError, match="conditioning must be scale_shift, additive, batch_norm or none, not 'film'"):
        NetworkConfig(conditioning="film")
    with pytest.raises(ValueError, match=r"^variance must be small, large, learned or None, not 'fixed'$"):
        SamplingRequest(num_images=1, variance="fixed")
    with pytest.raises(ValueError, match=r"^samplers must be a tuple of ddpm, .* or .*, not \('ddim', 'plms'\)$"):
        SamplersStage(samplers=("ddim", "plms"))
    with pytest.raises(ValueError, match=r"^inception_taps must be a tuple of 64, 192 or 768, not \(65,\)$"):
        EvaluateStage(inception_taps=(65,))
    with pytest.raises(ValueError, match="precision must be auto, fp32 or bf16, not 'fp16'"):
        replace(TrainerConfig(), precision="fp16")


def test_nested_settings_and_those_of_old_files_are_checked_alike():
    with pytest.raises(ValueError, match="target must be"):
        DiffusionStage(diffusion=from_dict(DiffusionConfig, {"target": "noise"}))
    for cls in CONFIGS:
        assert from_dict(cls, to_dict(cls())) == cls()
    # Files hold only the settings of their day; tuples come back from JSON as lists.
    assert from_dict(NetworkConfig, {"channels": [8, 16]}).channels == (8, 16)


def test_other_annotations_are_left_alone():
    @dataclass(frozen=True, kw_only=True)
    class Mixed(Settings):
        count: int | Literal["all"] = "all"
        sizes: tuple[int, ...] | None = None

    assert Mixed(count=3, sizes=(1,)) == Mixed(count=3, sizes=(1,))


def test_the_names_are_those_that_are_built():
    spacing, _ = get_args(get_type_hints(SamplingConfig)["spacing"])
    process = get_type_hints(DiffusionConfig)
    assert get_args(SamplerName) == tuple(SAMPLERS)
    assert get_args(spacing) == SPACINGS
    assert get_args(process["target"]) == tuple(TARGETS)
    assert get_args(process["schedule"]) == (*ALPHA_BARS, "edm", "ve")
