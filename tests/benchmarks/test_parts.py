"""Each part once, of the smallest size, with whichever peers are installed."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks import growth_with_side, lightning_overhead, parts, peak_memory, scaling_projection, whole_processes
from benchmarks import sampling as peer_sampling
from benchmarks.diffusers_on_onnxruntime import NAME as ON_ONNXRUNTIME
from benchmarks.evaluation import FIDELITY, SCIPY, TORCHMETRICS, torch_fidelity_features
from benchmarks.several_processes import measure_several_processes
from latentdiff.benchmark import evaluation_speed
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import untrained_model
from latentdiff.benchmark.peers import DDP, DIFFUSERS, find_peer
from latentdiff.benchmark.results import OURS, Growth, Measurement
from latentdiff.benchmark.timing import Timing
from latentdiff.benchmark.training_speed import diffusion_trainer
from latentdiff.inference.request import SamplingRequest


@pytest.fixture
def memory_in_this_process(monkeypatch):
    """Memory is made up: a process for each case takes seconds. One test measures it."""

    def made_up(cases):
        for case in cases:
            case.build(*case.arguments)()
        return [peak_memory.PeakMemory(2e6 * (1 + index), 1e6) for index in range(len(cases))]

    monkeypatch.setattr(peak_memory, "peak_memories", made_up)
    monkeypatch.setattr(growth_with_side, "peak_memories", made_up)


def installed(context, *names):
    """Ours, and those of the peers that are installed."""
    return {OURS, *(name for name in names if find_peer(context, name))}


def checked(measurements):
    measurements = list(measurements)
    for measurement in measurements:
        assert all(value.value > 0 and value.low <= value.value <= value.high for value in measurement.values.values())
    return measurements


def test_autoencoder_training(context, memory_in_this_process):
    speed, memory = checked(parts.autoencoder_training(context))
    assert set(speed.values) == set(memory.values) == installed(context, DIFFUSERS)
    assert (speed.target.min_ratio, memory.target.min_ratio) == (parts.AUTOENCODER_TRAINING, None)


def test_encoding(context):
    (measurement,) = checked(parts.encoding(context))
    assert set(measurement.values) == installed(context, DIFFUSERS)


@pytest.mark.slow
def test_diffusion_training(context):
    latents, pixels = checked(parts.diffusion_model_training(context))
    assert set(latents.values) == set(pixels.values) == installed(context, DIFFUSERS, DDP)
    assert (latents.target.min_ratio, pixels.target.min_ratio) == (parts.LATENT_TRAINING, parts.PIXEL_TRAINING)
    for measurement in (latents, pixels):
        for value in measurement.values.values():
            assert abs(value.parameters / measurement.first.parameters - 1) <= 0.05
            assert value.flops > 0


def test_sampling(context):
    measurements = checked(parts.sampling(context))
    assert len(measurements) == 6
    assert all(set(each.values) == installed(context, DIFFUSERS) for each in measurements)


@pytest.mark.slow
def test_diffusers_samples_in_bf16_where_training_is_in_it(context, monkeypatch):
    pytest.importorskip("diffusers")
    dtypes = []
    use_fastest_layout = peer_sampling.DiffusersLatentModel.use_fastest_layout
    monkeypatch.setattr(
        peer_sampling.DiffusersLatentModel,
        "use_fastest_layout",
        lambda theirs: (dtypes.append(theirs.unet.dtype), use_fastest_layout(theirs)),
    )
    sizes = replace(context.sizes, sampling_batches=(16,))
    checked(parts.sampling(replace(context, dtype=torch.bfloat16, sizes=sizes)))
    assert dtypes == [torch.float32, torch.bfloat16]


def test_the_distance_is_measured_beside_the_others(context, monkeypatch):
    monkeypatch.setattr(evaluation_speed, "find_inception", lambda weights: None)
    (measurement,) = checked(parts.evaluation(context))
    assert list(measurement.values) == [OURS, TORCHMETRICS, SCIPY]
    assert measurement.values[SCIPY].repetitions == 1


@pytest.mark.slow
def test_features_are_measured_beside_torch_fidelity(context, inception_file):
    measurement = evaluation_speed.measure_features(context, inception_file, torch_fidelity_features)
    checked([measurement])
    assert set(measurement.values) == {OURS, FIDELITY}


@pytest.mark.slow
def test_growth_with_side(context, monkeypatch, memory_in_this_process):
    monkeypatch.setattr(growth_with_side, "SIDES", (8, 16))
    found = list(growth_with_side.measure_growth(context))
    measurements, fits = ([each for each in found if isinstance(each, kind)] for kind in (Measurement, Growth))
    checked(measurements)
    assert [each.name for each in measurements] == [
        "training, 8 px, batch 2",
        "sampling, 8 px, batch 3",
        "peak memory of training, 8 px, batch 2",
        "training, 16 px, batch 2",
        "sampling, 16 px, batch 3",
        "peak memory of training, 16 px, batch 2",
    ]
    assert [fit.name for fit in fits] == ["training", "sampling", "peak memory of training"]
    assert all(set(fit.exponents) == {"latents", "pixels"} for fit in fits)
    assert fits[0].values["pixels"][1] == 1 / measurements[3].values["pixels"].value
    assert not list(growth_with_side.measure_growth(replace(context, quick=True)))


def test_growth_exponent_is_that_of_the_power_law():
    sides = [32.0, 64.0, 128.0, 256.0]
    assert growth_with_side.growth_exponent(sides, [0.3 * side**2.1 for side in sides]) == pytest.approx(2.1)
    with pytest.raises(ValueError, match="two sides"):
        growth_with_side.growth_exponent([32.0], [1.0])


@pytest.mark.slow
def test_overhead_is_the_median_over_the_rounds(context, monkeypatch):
    timings = {OURS: Timing((2.0, 3.0, 9.0)), lightning_overhead.PLAIN_LOOP: Timing((1.0, 2.0, 8.0))}
    with monkeypatch.context() as patch:
        patch.setattr(BenchmarkContext, "time", lambda self, calls, min_rounds=0: timings)
        _, overhead = lightning_overhead.measure_lightning_overhead(context)
    assert overhead.first.value == pytest.approx(50.0)
    step, _ = lightning_overhead.measure_lightning_overhead(context)
    checked([step])


def test_the_plain_loop_trains_a_copy(context):
    networks = context.sizes.networks[0]
    trainer = diffusion_trainer(8, None, networks.pixel_network, context.trainer_config(2), 1, context.device)
    before = [p.clone() for p in trainer.module.network.parameters()]
    lightning_overhead.plain_steps(trainer.module, trainer.tensors, torch.float32)()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.module.network.parameters(), strict=True))


def test_scaling_projection():
    link = scaling_projection.Link(bytes_per_second=1e9, latency=1e-3)
    assert scaling_projection.ring_all_reduce_seconds(2, 1e9, link) == pytest.approx(1.002)
    assert scaling_projection.efficiency(3.0, 1.0) == 0.75


@pytest.mark.slow
def test_memory_is_that_of_another_process():
    case = peak_memory.MemoryCase(partial, (operator.mul, b"x", 50_000_000), (print,))
    (peak,) = peak_memory.peak_memories([case])
    assert 45e6 < peak.added < 80e6, "the kernel counts a little late"
    assert peak.peak > peak.before
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        peak_memory.peak_memories([peak_memory.MemoryCase(partial, (operator.truediv, 1, 0))])


@pytest.mark.slow
def test_whole_processes(context):
    measurements = checked(whole_processes.measure_whole_processes(replace(context, quick=True)))
    assert [(each.name, each.target.max_value) for each in measurements] == [
        ("import", 0.3),
        ("--help", 1.0),
        ("first 16 images, cold", 6.0),
    ]
    assert set(measurements[-1].values) == installed(context, DIFFUSERS)


@pytest.mark.slow
def test_several_processes_are_jobs_of_their_own(context):
    strong, weak, all_reduce = checked(measure_several_processes(context))
    assert set(strong.values) == set(weak.values) == {"2 processes", "one process of one thread"}
    assert all_reduce.first.value > 0


@pytest.mark.slow
def test_diffusers_on_onnxruntime_draws_what_it_draws_by_torch(context):
    pytest.importorskip("onnxscript")
    pytest.importorskip("diffusers")
    networks = context.sizes.networks[0]
    model = untrained_model(networks.side, networks.autoencoder, networks.latent_network, context.device)
    samplers = peer_sampling.diffusers_engines(context, model, torch.float32)
    images = []
    for name in (DIFFUSERS, ON_ONNXRUNTIME):
        torch.manual_seed(0)
        images.append(samplers[name](SamplingRequest(num_images=5, guidance_scale=2.0))(3))
    assert images[0].float().std() > 1
    assert (images[0].int() - images[1].int()).abs().max() <= 1
