"""A batch that does not fit into memory is computed in parts: as many as it needs, and the same gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentdiff.errors import ConfigError
from latentdiff.stages import diffusion
from latentdiff.training import residence
from latentdiff.training.dry_run import data_bytes, largest, phase_costs
from latentdiff.training.memory_limit import fit_memory
from tests.training.test_dry_run import denoiser, judged_autoencoder
from tests.training.test_host_reads import NETWORK as TINY
from tests.training.test_host_reads import diffusion as diffusion_module

FP32 = torch.float32


def total(module, sample, images):
    return largest(phase_costs(module, sample, FP32)).total + data_bytes(sample, images)


@pytest.mark.slow
@pytest.mark.parametrize("build", [denoiser, judged_autoencoder])
def test_a_batch_is_computed_in_parts_that_fit(build, capsys):
    module, sample = build()
    settings = module.settings = replace(module.settings, precision="fp32")
    whole = total(module, sample, 16)
    module.settings = replace(settings, memory=whole)
    fit_memory(module, sample, 16)
    assert module.settings.gradient_accumulation_steps == 1
    assert not capsys.readouterr().out
    limit = int(0.4 * whole)
    module.settings = replace(settings, memory=limit)
    fit_memory(module, sample, 16)
    parts = module.settings.gradient_accumulation_steps
    assert 2 < parts < 16
    assert (module.settings.batch_size, module.settings.lr) == (settings.batch_size, settings.lr)
    # The whole step with as many parts fits, as the estimate from two and three parts said.
    assert total(module, sample, 16) <= 1.02 * limit
    (said,) = capsys.readouterr().out.splitlines()
    assert f"its 16 images are computed in {parts} parts" in said
    assert "Batch size and learning rate do not change." in said


@pytest.mark.slow
def test_what_does_not_fit_image_by_image_is_refused():
    module, sample = diffusion_module(settings={"memory": 1000})
    with pytest.raises(
        ConfigError, match=r"needs .* MiB of memory and may use 0\.0 MiB, even image by image: use a smaller"
    ):
        fit_memory(module, sample, 96)


def test_a_whole_batch_that_is_normalised_is_not_taken_apart():
    network = replace(TINY, conditioning="batch_norm")
    module, sample = diffusion_module(network=network, settings={"memory": 1000})
    with pytest.raises(ConfigError, match="conditioning batch_norm does not allow splitting a batch: lower"):
        fit_memory(module, sample, 96)


def test_all_processes_take_the_parts_of_the_first(monkeypatch):
    """One process with less free memory would keep its data off the device, and count no bytes for it."""
    module, sample = denoiser()
    module.settings = replace(module.settings, memory="auto", precision="fp32")
    module.dtype_of_run = FP32
    of_the_first = iter([total(module, sample, 16) - 1, data_bytes(sample, 16)])
    monkeypatch.setattr("latentdiff.training.memory_limit.distributed.broadcast", lambda own: next(of_the_first))
    monkeypatch.setattr("latentdiff.training.memory_limit.stays_on_device", lambda *_: False)
    fit_memory(module, sample, 16)
    assert module.settings.gradient_accumulation_steps > 1


@pytest.mark.slow
def test_auto_is_a_share_of_what_is_free(monkeypatch, capsys):
    free = 2 * 10**7
    monkeypatch.setattr(residence, "free_memory", lambda device: free)
    module, sample = denoiser()
    module.settings = replace(module.settings, memory="auto", precision="fp32")
    fit_memory(module, sample, 16)
    assert f"may use {0.65 * free / 2**20:,.1f} MiB" in capsys.readouterr().out
    assert module.settings.gradient_accumulation_steps > 1


def test_free_memory_of_a_gpu_and_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 8))
    assert residence.free_memory(torch.device("cuda")) == 5
    assert 2**20 < residence.free_memory(torch.device("cpu")) < 2**50


@pytest.mark.slow
def test_a_run_that_was_made_to_fit_learns_what_another_does(tiny, tmp_path, capsys):
    common = [*tiny.trainer, *tiny.unet, "--autoencoder=none", "--quality_images=0", "--trainer.precision=fp32"]
    plain, fitted = (tmp_path / name / "metrics.csv" for name in ("plain", "fitted"))
    diffusion.main([*common, f"--run.folder={plain.parent}"])
    diffusion.main([*common, f"--run.folder={fitted.parent}", "--trainer.memory=14000000"])
    assert "images are computed in" in capsys.readouterr().out
    ours, theirs = ([float(row.split(",")[1]) for row in path.read_text().splitlines()[1:]] for path in (fitted, plain))
    assert ours == pytest.approx(theirs, rel=1e-4)
