"""Pipelines of diffusers in folders of their own."""

from __future__ import annotations

import diffusers
import pytest

from tests.from_diffusers.miniatures import make_unet


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    """Save a pipeline of a U-Net, a scheduler and perhaps an autoencoder, and return its address."""

    def save(scheduler, unet=None, vqvae=None, **options):
        folder = tmp_path_factory.mktemp("pipeline")
        unet = make_unet() if unet is None else unet
        parts = {"unet": unet, "scheduler": scheduler} | ({} if vqvae is None else {"vqvae": vqvae})
        kind = diffusers.LDMPipeline if vqvae is not None else diffusers.DDPMPipeline
        kind(**parts).save_pretrained(folder, **options)
        return f"diffusers:{folder}"

    return save


@pytest.fixture(scope="session")
def pixel_pipeline(save):
    """The address of a pipeline on pixels, as google/ddpm-cifar10-32 is one."""
    return save(diffusers.DDPMScheduler(variance_type="fixed_large"))
