from __future__ import annotations

import pytest
import torch

from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.machine_limits import MachineLimits
from latentdiff.benchmark.sizes import BenchmarkSizes, NetworkSizes
from latentdiff.config import AutoencoderConfig, NetworkConfig

NETWORKS = NetworkSizes(
    side=8,
    autoencoder=AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False),
    latent_network=NetworkConfig(channels=(32, 64), num_res_blocks=1, attention_levels=(), head_channels=16),
    pixel_network=NetworkConfig(channels=(32, 64), num_res_blocks=1, attention_levels=(1,), head_channels=16),
    autoencoder_batch=2,
    latent_batch=2,
    pixel_batch=2,
)
SIZES = BenchmarkSizes(
    networks=(NETWORKS,),
    seconds=0.0,
    min_rounds=1,
    max_seconds=60.0,
    training_steps=1,
    encoded_images=4,
    sampling_batches=(1, 4),
    sampling_steps=3,
    extrapolated_batch=4,
    few_steps=(1, 2),
    ddpm_batch=2,
    ddpm_steps=(1, 2),
    inception_images=2,
    frechet_features=8,
    comparison_networks=NETWORKS,
    comparison_batch=4,
    comparison_sampling_batch=3,
    comparison_steps=(1, 2),
    loader_images=16,
    loader_batch=4,
    limit_seconds=0.01,
)
LIMITS = MachineLimits({"fp32": 1e15, "bf16": 1e15}, {"fp32": "a product", "bf16": "a product"}, 1e15)


@pytest.fixture
def context():
    """The smallest networks and batches, and one round of each measurement."""
    return BenchmarkContext(sizes=SIZES, device=torch.device("cpu"), dtype=torch.float32, limits=LIMITS)
