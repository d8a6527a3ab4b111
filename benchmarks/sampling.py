"""Sampling by diffusers, with networks as large as ours."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from benchmarks.diffusers_on_onnxruntime import diffusers_on_onnxruntime
from benchmarks.diffusers_pipeline import dpm_solver, sample
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import NUM_CLASSES, count_parameters
from latentdiff.benchmark.peer_loops import LAYOUTS
from latentdiff.benchmark.peers import DIFFUSERS, diffusers_autoencoder, find_peer, match_diffusers_unet
from latentdiff.benchmark.sampling_speed import Sampler, SamplerFactory
from latentdiff.benchmark.timing import timed_call
from latentdiff.codec import IdentityCodec
from latentdiff.inference.model import DiffusionModel
from latentdiff.inference.request import SamplingRequest


class DiffusersLatentModel:
    """diffusers' UNet2DModel and AutoencoderKL with the shape and the size of our networks.

    Args:
        model: Our model on latents.
        dtype: Precision of the denoising network. The decoder is in fp32, as ours is.
    """

    def __init__(self, model: DiffusionModel, dtype: torch.dtype = torch.float32):
        channels, side, _ = model.codec.latent_shape
        self.device, self.layout = model.device, torch.contiguous_format
        parameters = count_parameters(model.network)
        self.unet = match_diffusers_unet(channels, side, model.network_config, parameters).eval()
        # diffusers' own ``to`` warns of parts to be kept in fp32; this network has none.
        nn.Module.to(self.unet, self.device, dtype)
        self.vae = diffusers_autoencoder(model.codec.image_shape, model.codec.config).eval().to(self.device)

    def use_fastest_layout(self) -> None:
        """Take the memory layout in which two steps of 16 images are faster."""
        seconds, request = {}, SamplingRequest(num_images=16)
        for layout in LAYOUTS.values():
            self.use_layout(layout)
            call = timed_call(partial(self.sampler(request), 2), self.device)
            call()
            seconds[layout] = call()
        self.use_layout(min(seconds, key=seconds.__getitem__))

    def use_layout(self, layout: torch.memory_format) -> None:
        """Keep the weights, and give the images, in a memory layout."""
        self.layout = layout
        self.unet.to(memory_format=layout)
        self.vae.to(memory_format=layout)

    def sampler(self, request: SamplingRequest) -> Sampler:
        """Return the sampler for ``request``: DPM-Solver++ 2M, or DDPM's own steps."""
        from diffusers import DDPMScheduler

        scheduler = dpm_solver()
        if request.sampler == "ddpm":
            scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        labels = torch.arange(request.num_images, device=self.device) % NUM_CLASSES
        return lambda steps: sample(
            self.unet, self.vae, scheduler, labels, NUM_CLASSES, steps, request.guidance_scale, self.layout
        )


def diffusers_samplers(
    context: BenchmarkContext, model: DiffusionModel, dtype: torch.dtype
) -> dict[str, SamplerFactory]:
    """Return diffusers' samplers: for latents with :class:`DiffusersLatentModel`, for pixels its DDPMPipeline."""
    if not find_peer(context, DIFFUSERS):
        return {}
    if not isinstance(model.codec, IdentityCodec):
        theirs = DiffusersLatentModel(model, dtype)
        theirs.use_fastest_layout()
        return {DIFFUSERS: theirs.sampler}
    from diffusers import DDPMPipeline

    channels, side, _ = model.codec.image_shape
    parameters = count_parameters(model.network)
    unet = match_diffusers_unet(channels, side, model.network_config, parameters, classes=None)
    pipeline = DDPMPipeline(unet.eval().to(context.device), dpm_solver())
    pipeline.set_progress_bar_config(disable=True)
    return {
        DIFFUSERS: lambda request: (
            lambda steps: pipeline(request.num_images, num_inference_steps=steps, output_type="np")
        )
    }


def diffusers_engines(
    context: BenchmarkContext, model: DiffusionModel, dtype: torch.dtype
) -> dict[str, SamplerFactory]:
    """Return diffusers' samplers of latents: by torch, and in fp32 on a CPU by ONNX Runtime too."""
    if not find_peer(context, DIFFUSERS):
        return {}
    theirs = DiffusersLatentModel(model, dtype)
    if dtype != torch.float32 or context.device.type != "cpu":
        theirs.use_fastest_layout()
        return {DIFFUSERS: theirs.sampler}
    exported = diffusers_on_onnxruntime(context, theirs.unet, theirs.vae)  # before the layout is changed
    theirs.use_fastest_layout()
    return {DIFFUSERS: theirs.sampler, **exported}
