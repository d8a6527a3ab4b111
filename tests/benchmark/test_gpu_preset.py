"""The preset gpu in miniature on a CPU: everything that it measures, and what it says where there is no GPU."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import pytest
import torch

from latentdiff.benchmark import gpu_preset, run_benchmark
from latentdiff.benchmark.gpu_preset import (
    GPU_PARTS,
    compare_compiled,
    gpu_sizes,
    measure_coding,
    measure_compiled_training,
    measure_host_time,
    measure_many_samples,
)
from latentdiff.benchmark.machine_limits import MachineLimits
from latentdiff.command_line import parse
from latentdiff.config.tool_stages import BenchmarkSettings, BenchmarkStage
from latentdiff.errors import ConfigError
from latentdiff.stages import benchmark
from latentdiff.training import compiling
from tests.benchmark.test_run_benchmark import checked


def test_a_gpu_s_sizes_are_those_of_its_configs():
    sizes = gpu_sizes()
    (networks,) = sizes.networks
    assert (networks.side, networks.pixel_batch, networks.latent_batch) == (64, 256, 512)
    assert networks.pixel_network.channels == (128, 256, 256, 256)
    assert sizes.sampling_batches == (1, 16, 256, 10_000)


def test_host_time_is_a_part_of_the_step(context):
    found = checked(measure_host_time(context))
    assert [each.name for each in found] == ["latents, batch 2", "pixels, batch 2", "autoencoder, batch 2"]
    for measurement in found:
        assert 0 < measurement.values["host"].value <= measurement.values["step"].value


def test_many_images_are_sampled_in_batches_and_once(context, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_preset, "SAMPLED_AT_ONCE", 3)
    sampler = gpu_preset.our_sampler
    monkeypatch.setattr(
        gpu_preset,
        "our_sampler",
        lambda model, request, whole: (asked.append(request), sampler(model, request, whole))[1],
    )
    found = checked(measure_many_samples(context))
    assert [each.name for each in found] == [
        "latents, 8 px, 1 image",
        "latents, 8 px, 4 images",
        "pixels, 8 px, 1 image",
    ]
    assert [request.batch_size for request in asked] == [1, 3, 1]
    assert found[1].first.repetitions == 1


def test_encoding_and_decoding(context):
    encoding, decoding = checked(measure_coding(context))
    assert encoding.name.startswith("encoding, 8 px")
    assert set(decoding.shares_of_limit()) == {"latentdiff"}
    # The decoder has about as much to do as the encoder.
    assert 0.2 < encoding.first.limit / decoding.first.limit < 5


@pytest.mark.slow
def test_compiled_training_stands_beside_plain_and_a_failure_is_noted(context, monkeypatch):

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    first, speed = [next(found) for found in [compare_compiled(context)] for _ in range(2)]
    assert (first.name, first.unit) == ("latents, first turn of compiled steps", "s")
    assert list(checked([speed])[0].shares_of_limit()) == ["compiled", "plain"]
    monkeypatch.setattr(compiling, "BACKEND", lambda *_: (_ for _ in ()).throw(OSError("no compiler")))
    torch._dynamo.reset()
    assert not list(compare_compiled(context))
    assert "no compiler" in context.left_out["compiled training, pixels"]
    assert not list(measure_compiled_training(context))  # on a CPU
    assert context.left_out["compiled training"] == "torch.compile is for a GPU here"


def test_no_measurement_begins_when_the_time_is_over(context, tmp_path):
    begun = []

    def part(context):
        for name in ("first", "second"):
            begun.append(name)
            yield from measure_coding(context)

    late = replace(context, ends_at=time.perf_counter() - 1)
    settings = BenchmarkSettings(folder=str(tmp_path / "late"))
    folder = run_benchmark.measure_parts(settings, late, parts={"coding": part})
    record = json.loads((folder / "benchmark.json").read_text())
    assert (begun, record["measurements"]) == ([], [])
    assert record["left_out"] == {"what was left of coding": "the time was over (--seconds)"}


@pytest.mark.slow
def test_the_command_without_a_gpu_measures_in_miniature_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("latentdiff.benchmark.evaluation_speed.find_inception", lambda weights: None)
    for name in ("diffusers", "denoising_diffusion_pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    limits = MachineLimits({"fp32": 1e15, "bf16": 1e15}, {"fp32": "a product", "bf16": "a product"}, 1e15)
    monkeypatch.setattr(run_benchmark, "measure_limits", lambda device, seconds: limits)
    benchmark.main(["--preset=gpu", "--device=cpu", "--seconds=300", "--threads=1", f"--folder={tmp_path / 'gpu'}"])
    said = capsys.readouterr().out
    assert said.startswith("no GPU here: the measurements are made in miniature on the CPU")
    assert 'diffusers is left out: not installed: pip install ".[peers]"' in said
    record = json.loads((tmp_path / "gpu" / "benchmark.json").read_text())
    assert (record["preset"], list(record["seconds"])) == ("gpu", list(GPU_PARTS))
    parts = {measurement["part"] for measurement in record["measurements"]}
    assert parts == {
        "training the diffusion model",
        "training the autoencoder",
        "host time",
        "sampling",
        "encoding and decoding",
        "evaluation",
    }


def test_a_preset_goes_with_no_choice_of_parts():
    for flags in (["--quick"], ["--parts=[loader]"]):
        with pytest.raises(ConfigError, match="leave out --quick and --parts"):
            run_benchmark.run_benchmark(parse(BenchmarkStage, ["--preset=gpu", *flags]))
