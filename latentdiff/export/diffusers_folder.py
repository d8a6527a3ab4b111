"""A diffusion model as a folder that ``DiffusionPipeline.from_pretrained`` loads.

A UNet2DModel goes into the pipeline that diffusers has for it. Everything else goes into a pipeline of its own, whose
code stands in the folder and calls latentdiff.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

import torch

from latentdiff import __version__
from latentdiff.codec import AutoencoderCodec
from latentdiff.config.diffusers_models import AutoencoderKLConfig, DiffusersAutoencoderConfig
from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import ConfigError
from latentdiff.export.stored_dtype import check_precision
from latentdiff.extras import import_extra
from latentdiff.files import scratch_folder, write_atomically
from latentdiff.from_diffusers.scheduler import settings_of
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.model_file import find_model
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.diffusers_networks import DiffusersAutoencoder, DiffusersUNet, build_module
from latentdiff.runs import run_folder

HERE = Path(__file__).resolve().parent
OWN_PIPELINE = "LatentdiffPipeline"
FILES = {
    "model_index.json": "the pipeline's class and its parts",
    "unet": "the UNet2DModel",
    "scheduler": "the noising process, and how its steps are spaced",
    "vqvae": "the autoencoder; the statistics of its latents are folded into its 1x1 convolutions",
    "pipeline.py": "the pipeline: it calls latentdiff's `model.sample`",
    "model": "the model, in latentdiff's own file, and what loads it",
}


def export_diffusers(config: ExportStage) -> Path:
    """Write the folder that ``config`` asks for, and return it.

    Without ``config.run.folder`` it is the first of ``stages/export/NAME-diffusers``, ``NAME-diffusers-2``, ... that is
    free.

    Raises :class:`~latentdiff.errors.LatentdiffError` before anything is written: without the extra ``diffusers``, for
    a file that holds no diffusion model, and for a folder of another's.
    """
    check_precision(config)
    diffusers: Any = import_extra("diffusers", "diffusers")
    path = find_model(config.model)
    model = load_diffusion(path)
    model.check(SamplingRequest(num_images=1))
    name = run_folder.folder_name(path)
    run = run_folder.numbered(config.run, "export", f"{name}-diffusers")
    run_folder.check(run, "export", f"{name}-diffusers")
    pipeline, reason = pipeline_for(model)
    write = _write_native if pipeline != OWN_PIPELINE else _write_own
    dtype = torch.bfloat16 if config.precision == "bf16" else None
    with scratch_folder() as scratch, run_folder.opened(run, "export", f"{name}-diffusers", inputs=[path]) as folder:
        write(model, pipeline, scratch, dtype)
        readme = _readme(name, model, pipeline, reason, scratch, diffusers.__version__)
        (scratch / "README.md").write_text(readme)
        for source in sorted(scratch.rglob("*")):
            if source.is_file():
                target = folder / source.relative_to(scratch)
                write_atomically(target, lambda path, source=source: shutil.copyfile(source, path))
    print(f"{pipeline}: {reason}\n{folder}")
    return folder


def pipeline_for(model: DiffusionModel) -> tuple[str, str]:
    """The class of the pipeline for a model, and the reason for the choice."""
    if not isinstance(model.network, DiffusersUNet):
        return OWN_PIPELINE, "its network is latentdiff's own, which UNet2DModel cannot express"
    if model.conditional:
        return OWN_PIPELINE, "diffusers has no pipeline that gives a UNet2DModel classes"
    codec, learned = model.codec, model.diffusion.learn_variance
    on_latents = isinstance(codec, AutoencoderCodec)
    try:
        settings_of(model.diffusion, model.sampling, on_latents)
    except ConfigError as error:
        return OWN_PIPELINE, str(error)
    if not on_latents:
        kind = "DDPMPipeline" if learned else "DDIMPipeline"
        return kind, f"diffusers' own of a UNet2DModel on pixels{', which learned its variance' if learned else ''}"
    if not isinstance(codec.model, DiffusersAutoencoder):
        return OWN_PIPELINE, "its autoencoder is latentdiff's own, which AutoencoderKL cannot express"
    shape, vae = codec.latent_shape, codec.model
    if learned:
        return OWN_PIPELINE, "LDMPipeline has no learned variance"
    if shape[1] != shape[2] or vae.padded != vae.image_shape[1:] or vae.image_shape[0] != vae.vae_channels:
        return OWN_PIPELINE, "LDMPipeline has square images whose sides and colours are the autoencoder's own"
    if vae.is_tiny:
        return OWN_PIPELINE, "an AutoencoderTiny has no layer that the statistics of its latents could be folded into"
    return "LDMPipeline", "diffusers' own of a UNet2DModel on the latents of an AutoencoderKL"


def _write_native(model: DiffusionModel, pipeline: str, folder: Path, dtype: torch.dtype | None) -> None:
    """Let diffusers write its pipeline around the model's networks."""
    diffusers: Any = import_extra("diffusers", "diffusers")
    assert isinstance(model.network, DiffusersUNet)
    codec = model.codec if isinstance(model.codec, AutoencoderCodec) else None
    settings = settings_of(model.diffusion, model.sampling, codec is not None)
    if pipeline == "DDPMPipeline":
        scheduler = diffusers.DDPMScheduler(**settings, variance_type="learned_range")
    else:
        scheduler = diffusers.DDIMScheduler(**settings)
    parts: dict[str, Any] = {"unet": copy.deepcopy(model.network.unet), "scheduler": scheduler}
    if codec is not None:
        parts["vqvae"] = folded_autoencoder(codec)
    for name in ("unet", "vqvae"):
        if name in parts:
            parts[name].to(device="cpu", dtype=dtype or torch.float32)
    getattr(diffusers, pipeline)(**parts).save_pretrained(folder, safe_serialization=True)


def folded_autoencoder(codec: AutoencoderCodec) -> Any:
    """An AutoencoderKL whose latents, times its scaling factor, are the codec's standardised ones.

    A pipeline divides latents by ``scaling_factor`` before it decodes, and knows no other statistic. The mean and the
    deviation of each channel go into the 1x1 convolutions before the decoder and behind the encoder, which are added
    where there are none. The numbers are the same but for rounding.

    Args:
        codec: Of an AutoencoderKL.
    """
    assert isinstance(codec.config, DiffusersAutoencoderConfig)
    config = codec.config.vae
    assert isinstance(config, AutoencoderKLConfig)
    channels, factor = config.latent_channels, config.scaling_factor
    whole = build_module(
        type(config)(
            **{**vars(config), "use_quant_conv": True, "use_post_quant_conv": True}
            | {"shift_factor": None, "latents_mean": None, "latents_std": None}
        )
    )
    state = {name: tensor.clone() for name, tensor in codec.model.state_dict().items()}
    for name, size in (("quant_conv", 2 * channels), ("post_quant_conv", channels)):
        if f"{name}.weight" not in state:
            state |= {f"{name}.weight": torch.eye(size)[..., None, None], f"{name}.bias": torch.zeros(size)}
    mean, std = codec.mean.cpu().double(), codec.std.cpu().double()
    # raw = factor std z + mean, for z as the pipeline gives it.
    weight, bias = (state[f"post_quant_conv.{part}"].double() for part in ("weight", "bias"))
    state["post_quant_conv.bias"] = (bias + weight[..., 0, 0] @ mean).float()
    state["post_quant_conv.weight"] = (weight * (factor * std)[None, :, None, None]).float()
    # z = (raw - mean) / (factor std); the log-variance is lowered by the logarithm of the square.
    weight, bias = (state[f"quant_conv.{part}"].double() for part in ("weight", "bias"))
    scale = torch.cat([1.0 / (factor * std), torch.ones(channels, dtype=torch.float64)])
    shift = torch.cat([-mean / (factor * std), -2.0 * (factor * std).log()])
    state["quant_conv.weight"] = (weight * scale[:, None, None, None]).float()
    state["quant_conv.bias"] = (bias * scale + shift).float()
    whole.load_state_dict(state)
    return whole


def _write_own(model: DiffusionModel, pipeline: str, folder: Path, dtype: torch.dtype | None) -> None:
    """Write latentdiff's own file, and the code by which diffusers loads it."""
    diffusers: Any = import_extra("diffusers", "diffusers")
    version = diffusers.__version__
    part = folder / "model"
    part.mkdir()
    model.save(part / "model.safetensors", dtype=dtype)
    (part / "latentdiff_model.py").write_text((HERE / "diffusers.model.txt").read_text())
    (part / "config.json").write_text(_json({"_class_name": "LatentdiffModel", "_diffusers_version": version}))
    (folder / "pipeline.py").write_text((HERE / "diffusers.pipeline.txt").read_text())
    index = {
        "_class_name": ["pipeline", pipeline],
        "_diffusers_version": version,
        "model": ["latentdiff_model", "LatentdiffModel"],
    }
    (folder / "model_index.json").write_text(_json(index))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _readme(name: str, model: DiffusionModel, pipeline: str, reason: str, folder: Path, version: str) -> str:
    """README.md: what the pipeline is, and how it is used."""
    own = pipeline == OWN_PIPELINE
    steps = 20 if own else 50
    lines = [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipeline = DiffusionPipeline.from_pretrained("."{", trust_remote_code=True" if own else ""})',
        f"images = pipeline(batch_size=4, num_inference_steps={steps}).images",
    ]
    if own:
        lines.insert(0, "# pip install latentdiff")
    elif pipeline == "DDIMPipeline" and model.codec.value_range is not None:
        # Without it the noise is not that of the clipped image, and images differ from those of latentdiff.
        lines[-1] = (
            f"images = pipeline(batch_size=4, num_inference_steps={steps}, use_clipped_model_output=True).images"
        )
    found = [key for key in FILES if (folder / key).exists()]
    return Template((HERE / "diffusers.README.template.md").read_text()).substitute(
        name=name,
        image="x".join(map(str, model.codec.image_shape)),
        version=__version__,
        diffusers=version,
        pipeline=pipeline,
        reason=reason,
        usage="\n".join(lines),
        files="\n".join(f"| `{key}` | {FILES[key]} |" for key in found),
    )
