"""The table of docs/guide/gpu.md is what the files for a GPU come to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision

from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.command_line import parse
from latentdiff.config.training_stages import AutoencoderStage, DiffusionStage
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.lpips import LPIPS
from latentdiff.training.autoencoder_module import AutoencoderModule
from latentdiff.training.diffusion_module import DiffusionModule
from latentdiff.training.dry_run import EXPECTED_SHARE, GPU_PEAKS, step_cost

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "gpu.md"
ROW = re.compile(
    r"^\| ([\w-]+) \| (autoencoder|latent|pixel) "
    r"\| ([\d.]+) M \| ([\d.]+) \| ([\d,]+) \| ([\d.]+) GiB \| ([\d.]+) M \|$"
)
ROWS = [match.groups() for line in PAGE.read_text().splitlines() if (match := ROW.match(line))]
# Images and classes; CelebA has none.
DATA = {
    "fashion-mnist": ((1, 28, 28), 10),
    "celeba": ((3, 64, 64), 0),
    "flowers-102": ((3, 64, 64), 102),
    "cifar-10": ((3, 32, 32), 10),
}


def module_of(name, run):
    """The training of a file, and what a batch of it is drawn from."""
    shape, classes = DATA[name]
    codec_settings = parse(AutoencoderStage, ["--config", f"{name}/gpu/autoencoder.yaml"])
    if run == "autoencoder":
        own = codec_settings
        trunk = LPIPS(
            torchvision.models.vgg16(weights=None).features.state_dict(prefix="features."),
            own.loss.perceptual_net,
            own.loss.perceptual_min_side,
        )
        module = AutoencoderModule(shape, own.network, own.loss, own.trainer, trunk)
        return module, (torch.zeros(1, *shape, dtype=torch.uint8),), own.trainer
    own = parse(DiffusionStage, ["--config", f"{name}/gpu/{run}.yaml"])
    codec, moments = IdentityCodec(shape), torch.zeros(1, *shape, dtype=torch.uint8)
    if run == "latent":
        autoencoder, channels = Autoencoder(shape, codec_settings.network), codec_settings.network.latent_channels
        codec = AutoencoderCodec(autoencoder, codec_settings.network, torch.zeros(channels), torch.ones(channels))
        moments = torch.zeros(1, 2 * channels, *autoencoder.latent_shape[1:])
    module = DiffusionModule(codec, classes, own.network, own.diffusion, own.trainer)
    return module, (moments, torch.zeros(1, dtype=torch.long)), own.trainer


def test_the_table_has_all_files():
    files = {(path.parts[-3], path.stem) for path in (PAGE.parents[2] / "configs").glob("*/gpu/*.yaml")}
    assert {(name, run) for name, run, *_ in ROWS} == files
    assert len(ROWS) == len(files) == 12
    assert all(float(memory) <= 60 for *_, memory, _ in ROWS)  # of the 74 GiB of such a GPU


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_is_what_the_dry_run_says(row):
    name, run, parameters, flops, batch, memory, images = row
    module, sample, trainer = module_of(name, run)
    cost = step_cost(module, sample, torch.bfloat16)
    rate = EXPECTED_SHARE * GPU_PEAKS["H100 SXM"] / cost.flops
    found = [sum(p.numel() for p in module.network.parameters()) / 1e6, cost.flops / 1e9, cost.total / 2**30]
    found.append(rate * trainer.max_seconds / 1e6)
    print(name, run, found)
    assert trainer.batch_size == int(batch.replace(",", ""))
    assert found == pytest.approx([float(value) for value in (parameters, flops, memory, images)], rel=0.02, abs=0.06)
