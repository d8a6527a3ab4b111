"""diffusers' networks run by ONNX Runtime, exported as optimum does it: by tracing, for any batch.

optimum itself has no class for UNet2DModel.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.diffusers_pipeline import dpm_solver, sample
from latentdiff.benchmark.context import BenchmarkContext
from latentdiff.benchmark.networks import NUM_CLASSES
from latentdiff.benchmark.sampling_speed import Sampler, SamplerFactory
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.inference.request import SamplingRequest

NAME = "diffusers, onnxruntime"


def diffusers_on_onnxruntime(context: BenchmarkContext, unet: Any, vae: Any) -> dict[str, SamplerFactory]:
    """Return the sampler of diffusers' networks by ONNX Runtime; nothing where that or its exporter is not installed.

    Args:
        context: The benchmark's context.
        unet: A UNet2DModel with classes, in fp32 on the CPU.
        vae: An AutoencoderKL, in fp32 on the CPU.
    """
    try:
        for package in ("onnxruntime", "onnxscript"):
            import_extra(package, "onnx")
    except ConfigError as error:
        context.leave_out(NAME, str(error))
        return {}
    x = torch.zeros(3, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    labels = torch.zeros(3, dtype=torch.long)
    network = _run(_Call(lambda *inputs: unet(*inputs).sample, unet), (x, torch.zeros(3), labels))
    decoder = _run(_Call(lambda latents: vae.decode(latents).sample, vae), (x,))

    def predict(x: Tensor, time: Tensor, classes: Tensor) -> Any:
        return SimpleNamespace(sample=network(x, time.float().expand(len(x)), classes))

    predict.config, predict.dtype = unet.config, torch.float32  # pyright: ignore[reportFunctionMemberAccess]
    codec = SimpleNamespace(config=vae.config, decode=lambda x: SimpleNamespace(sample=decoder(x)))

    def sampler(request: SamplingRequest) -> Sampler:
        classes = torch.arange(request.num_images) % NUM_CLASSES
        scheduler = dpm_solver()
        return lambda steps: sample(predict, codec, scheduler, classes, NUM_CLASSES, steps, request.guidance_scale)

    return {NAME: sampler}


class _Call(nn.Module):
    """A function of a module as a module, which is what torch exports."""

    def __init__(self, function: Callable[..., Tensor], module: nn.Module):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """The module, exported and run by ONNX Runtime with as many threads as torch has."""
    import onnxruntime

    names, graph = [f"input_{place}" for place in range(len(inputs))], io.BytesIO()
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        # Not by torch.export: their network does one thing more from 64 images on, and could not be exported for all.
        torch.onnx.export(
            module.eval(),
            inputs,
            graph,
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {0: "batch"} for name in [*names, "output"]},
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph.getvalue(), options, providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> Tensor:
        given = {name: value.contiguous().numpy() for name, value in zip(names, values, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run
