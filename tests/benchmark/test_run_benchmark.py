"""Each part once, of the smallest size: what it gives, not how fast. And the stage as a whole."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from latentdiff.benchmark import engine_speed, evaluation_speed, sampling_speed
from latentdiff.benchmark.encoding_speed import measure_encoding
from latentdiff.benchmark.engine_speed import measure_engines
from latentdiff.benchmark.latents_against_pixels import SAME_NETWORK, measure_latents_against_pixels
from latentdiff.benchmark.loader_speed import measure_loader
from latentdiff.benchmark.machine_limits import Work, measure_limits
from latentdiff.benchmark.results import OURS, Contender
from latentdiff.benchmark.run_benchmark import PARTS, build_context, measure_parts
from latentdiff.benchmark.sampling_speed import measure_sampling
from latentdiff.benchmark.sizes import QUICK
from latentdiff.benchmark.timing import Timing
from latentdiff.benchmark.training_speed import (
    diffusion_trainer,
    measure_autoencoder_training,
    measure_diffusion_training,
)
from latentdiff.config.tool_stages import BenchmarkSettings, BenchmarkStage


def checked(measurements):
    """The measurements, whose values and shares of the limit make sense."""
    measurements = list(measurements)
    for measurement in measurements:
        assert all(value.value > 0 and value.low <= value.value <= value.high for value in measurement.values.values())
        assert all(0 < share < 1 for share in measurement.shares_of_limit().values())
    return measurements


def test_autoencoder_training(context):
    (speed,) = checked(measure_autoencoder_training(context))
    assert set(speed.values) == set(speed.shares_of_limit()) == {OURS}
    assert speed.first.parameters > 0


def test_encoding(context):
    (measurement,) = checked(measure_encoding(context))
    assert set(measurement.values) == {OURS}


def test_diffusion_training_beside_a_competitor(context):
    def competitors(context, shape, network, parameters, trainer):
        yield Contender(name="another", call=lambda: 2.0)

    latents, pixels = checked(measure_diffusion_training(context, competitors))
    assert latents.name == "latents, 8 px (2x4x4), batch 2"
    assert pixels.name == "pixels, 8 px (3x8x8), batch 2"
    assert all(each.first.flops > 0 and each.first.limit > 0 for each in (latents, pixels))
    assert latents.values["another"].value == pixels.values["another"].value == 1.0


def test_a_trainer_goes_on_and_takes_one_step_that_is_not_timed(context):
    networks = context.sizes.networks[0]
    trainer = diffusion_trainer(8, None, networks.pixel_network, context.trainer_config(2), 1, context.device)
    trainer()
    assert trainer.module.images_seen == 4
    trainer()
    assert trainer.module.images_seen == 8


def test_sampling(context):
    measurements = checked(measure_sampling(context))
    assert [each.name.rsplit(", batch ", 1)[1] for each in measurements] == ["1", "1", "4", "4", "2", "2"]
    assert ["extrapolated" in each.note for each in measurements] == [False, False, True, True, True, True]


def test_engines_that_are_here_stand_beside_one_another_and_others_are_left_out(context, monkeypatch):
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(engine_speed, "supports_bf16", lambda _: False)
    measurements = checked(measure_engines(context, lambda *_: {"another": lambda request: lambda steps: None}))
    assert [each.name for each in measurements] == [f"latents, 8 px, fp32, batch {batch}" for batch in (1, 4)]
    assert [*measurements[0].values] == [OURS, "engine torch", "engine torch, exact", "another"]
    assert context.left_out["engine onnxruntime, fp32"].startswith("onnxruntime is not installed")


def test_sampling_in_bf16_is_measured_where_training_is_in_it(context, monkeypatch):
    requests, models = [], []
    our_sampler = sampling_speed.our_sampler
    monkeypatch.setattr(
        sampling_speed, "our_sampler", lambda model, request: (requests.append(request), our_sampler(model, request))[1]
    )
    sizes = replace(context.sizes, sampling_batches=(1, 16))
    bf16 = replace(context, dtype=torch.bfloat16, sizes=sizes)
    measurements = checked(measure_sampling(bf16, lambda context, model, dtype: (models.append(dtype), {})[1]))
    batches = [each.name.rsplit(", batch ", 1)[1] for each in measurements]
    assert batches == ["1", "1", "16", "16", "16, bf16", "16, bf16", "2", "2"]
    assert [request.precision for request in requests] == ["fp32"] * 4 + ["bf16"] * 2 + ["fp32"] * 2
    assert models == [torch.float32, torch.bfloat16, torch.float32]


def test_a_repetition_in_which_more_steps_were_faster_is_dropped():
    found = sampling_speed._extrapolated(Timing((1.0, 3.0)), Timing((2.0, 2.0)), (1, 2), 5)
    assert found.seconds == (5.0,)


def test_evaluation_without_the_inception_networks_weights(context, monkeypatch):
    monkeypatch.setattr(evaluation_speed, "find_inception", lambda weights: None)
    (distance,) = checked(evaluation_speed.measure_evaluation(context))
    assert distance.unit == "s"
    assert "weights are not here" in context.left_out["Inception"]


@pytest.mark.slow
def test_features_are_measured_where_the_weights_are(context, inception_file):
    checked([evaluation_speed.measure_features(context, inception_file)])


def test_what_takes_long_is_timed_once(context):
    calls = []
    contenders = [
        Contender(name="short", call=lambda: 1.0),
        Contender(name="long", call=lambda: (calls.append(1), 2.0)[1], once=True),
    ]
    assert context.time_contenders(contenders)["long"].seconds == (2.0,)
    assert len(calls) == 1


def test_latents_against_pixels(context):
    training, sampling = checked(measure_latents_against_pixels(context))
    assert (training.name, sampling.name) == ("training, 8 px, batch 4", "sampling, 8 px, batch 3")
    for measurement in (training, sampling):
        assert list(measurement.values) == ["latents", "pixels", SAME_NETWORK]
        assert set(measurement.shares_of_limit()) == set(measurement.values)


def test_loader(context):
    (measurement,) = checked(measure_loader(context))
    assert set(measurement.values) == {OURS, "DataLoader"}


def test_limits_are_found_for_every_precision():
    found = measure_limits(torch.device("cpu"), 0.01)
    assert found.flops["fp32"] > 0 < found.bandwidth
    assert set(found.flops) == set(found.kernels)
    assert found.seconds(Work(found.flops["fp32"], 2 * found.bandwidth), torch.float32) == 2.0


def test_a_slow_machine_gets_smaller_batches(context, monkeypatch):
    module = "latentdiff.benchmark.run_benchmark"
    monkeypatch.setattr(f"{module}.measure_limits", lambda device, seconds: context.limits)
    monkeypatch.setattr(f"{module}.measure_training_speed", lambda context, networks: 6.0)
    found = build_context(BenchmarkSettings(quick=True, device="cpu"))
    assert (found.quick, found.batch_divisor, found.sizes) == (True, 4, QUICK.divided(4))


def test_the_stage_writes_table_record_and_figure(context, tmp_path, capsys):
    settings = BenchmarkStage(parts=("loader", "encoding"), folder=str(tmp_path / "run"))
    folder = measure_parts(settings, context, "the command")
    record = json.loads((folder / "benchmark.json").read_text())
    assert list(record["seconds"]) == ["encoding", "loader"]
    assert record["command"] == "the command"
    assert "DataLoader" in (folder / "benchmark.md").read_text()
    assert (folder / "benchmark.png").stat().st_size > 1000
    assert "**loading batches**" in capsys.readouterr().out


def test_settings_name_every_part():
    BenchmarkStage(parts=tuple(PARTS))
    with pytest.raises(ValueError, match="parts must be"):
        BenchmarkStage(parts=("everything",))
