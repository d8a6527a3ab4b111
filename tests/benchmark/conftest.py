from __future__ import annotations

import pytest
import torch

from latentdiff.benchmark.bench import Bench
from latentdiff.benchmark.limits import Limits
from latentdiff.benchmark.peers import Peers
from latentdiff.benchmark.scale import Scale, Setting
from latentdiff.config import AutoencoderConfig, NetworkConfig

SETTING = Setting(
    side=8,
    autoencoder=AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False),
    latent=NetworkConfig(channels=(32, 64), num_res_blocks=1, attention_levels=(), head_channels=16),
    pixel=NetworkConfig(channels=(32, 64), num_res_blocks=1, attention_levels=(1,), head_channels=16),
    stage_one_batch=2,
    latent_batch=2,
    pixel_batch=2,
)
TOY = Scale(
    settings=(SETTING,),
    seconds=0.0,
    least=1,
    most_seconds=60.0,
    training_steps=1,
    encoded=4,
    sampling_batches=(1, 4),
    steps=3,
    large_batch=4,
    few_steps=(1, 2),
    ddpm_batch=2,
    ddpm_steps=(1, 2),
    inception_images=2,
    frechet_features=8,
    growth=(8, 16),
    growth_setting=SETTING,
    growth_batch=2,
    judged_batch=3,
    grown_sampling=3,
    growth_steps=(1, 2),
    loader_images=16,
    loader_batch=4,
    peak_seconds=0.01,
    process_runs=1,
    several=True,
)
LIMITS = Limits({"fp32": 1e15, "bf16": 1e15}, {"fp32": "a product", "bf16": "a product"}, 1e15)


def bench_of(peers: Peers) -> Bench:
    return Bench(scale=TOY, device=torch.device("cpu"), dtype=torch.float32, limits=LIMITS, peers=peers)


@pytest.fixture
def bench():
    """The smallest of everything, with whoever is installed."""
    return bench_of(Peers())


@pytest.fixture
def alone():
    """The same without peers."""
    return bench_of(Peers(wanted=False))
