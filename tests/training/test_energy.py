from __future__ import annotations

import torch

from latentdiff.codec import IdentityCodec
from latentdiff.config import DiffusionConfig, NetworkConfig, TrainerConfig
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.energy import EnergyMeter


def counter(folder, name, joules):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(str(int(joules * 1e6)))
    (folder / name / "max_energy_range_uj").write_text(str(int(1000 * 1e6)))


def test_packages_are_summed_their_parts_are_not_and_a_counter_may_run_over(tmp_path):
    for name, joules in (("intel-rapl:0", 900), ("intel-rapl:1", 5), ("intel-rapl:0:0", 7)):
        counter(tmp_path, name, joules)
    meter = EnergyMeter(torch.device("cpu"), tmp_path)
    counter(tmp_path, "intel-rapl:0", 20)  # 100 to the limit and 20 more
    counter(tmp_path, "intel-rapl:1", 35)
    counter(tmp_path, "intel-rapl:0:0", 900)
    assert meter.since_last() == 150
    assert meter.since_last() == 0
    for joules in (400, 900, 300):  # over its limit of 1,000 between two epochs' ends, which the looks notice
        counter(tmp_path, "intel-rapl:0", joules)
        meter.look()
    assert meter.since_last() == 380 + 500 + 400


def test_where_the_device_does_not_tell_nothing_is_known(tmp_path):
    assert EnergyMeter(torch.device("cpu"), tmp_path).since_last() is None
    counter(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert EnergyMeter(torch.device("cpu"), tmp_path).since_last() is None


def test_a_runs_energy_is_the_sum_over_its_epochs(monkeypatch):
    monkeypatch.setattr(EnergyMeter, "since_last", lambda self: 2.5)
    network = NetworkConfig(channels=(8,), attention_levels=(), head_channels=8)
    module = DiffusionModule(IdentityCodec((1, 8, 8)), 0, network, DiffusionConfig(), TrainerConfig(accelerator="cpu"))
    for _ in range(3):
        module.on_train_epoch_start()
        module.end_epoch()
    assert module.energy == 7.5
    assert module.peak_memory_bytes() > 50_000_000  # torch alone takes more
