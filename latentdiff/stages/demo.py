"""The whole pipeline in minutes on the images inside the package, from nothing to a comparison with pixels."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from latentdiff.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class DemoStage:
    """Train a small autoencoder and VAE, then latent and pixel diffusion for the same time; compare them on one page.

    Args:
        autoencoder_seconds: Training time of the autoencoder. Default: 90 on a CPU, 12 on a GPU.
        vae_seconds: Training time of the VAE baseline. Default: 40 on a CPU, 8 on a GPU.
        diffusion_seconds: Training time of either diffusion model. Default: 80 on a CPU, 12 on a GPU.
        num_images: Images that each model is measured on.
        run: Where the files go.
    """

    autoencoder_seconds: float | None = None
    vae_seconds: float | None = None
    diffusion_seconds: float | None = None
    num_images: int = 800
    run: RunConfig = field(default_factory=RunConfig)


def run(config: DemoStage) -> Path:
    """Run every stage as a process of its own, showing its command; return the path of the page."""
    from latentdiff.precision import resolve_device
    from latentdiff.stages import folders

    gpu = resolve_device("auto").type == "cuda"
    autoencoder = config.autoencoder_seconds or (12 if gpu else 90)
    vae = config.vae_seconds or (8 if gpu else 40)
    diffusion = config.diffusion_seconds or (12 if gpu else 80)
    started = time.perf_counter()
    folder = folders.prepare(config.run, "demo", "fashion-mnist")
    data = ["--data.source", "embedded"]

    def stage(name: str, *arguments: str, to: str) -> Path:
        own = ["--run.folder", str(folder / to)] if to else []
        command = ["-m", f"latentdiff.stages.{name}", *arguments, *own]
        print(f"\n$ python {shlex.join(command)}", flush=True)
        subprocess.run([sys.executable, *command], check=True)
        return folder / to / "model.safetensors"

    def train(name: str, settings: str, seconds: float, *more: str, to: str) -> Path:
        budget = ["--trainer.max_seconds", f"{seconds:g}"]
        return stage(name, "--config", f"demo/{settings}.yaml", *data, *budget, *more, to=to)

    def evaluate(checkpoint: Path | str, name: str, *more: str) -> str:
        settings = ["--num_images", str(config.num_images), "--inception", "off", "--lpips", "off", "--name", name]
        settings += ["--features_folder", str(folder / "features")]
        stage("evaluate", "--checkpoint", str(checkpoint), *settings, *data, *more, to=f"evaluate/{name}")
        return str(folder / "evaluate" / name)

    codec = train("autoencoder", "autoencoder", autoencoder, to="autoencoder")
    latents = str(folder / "latents")
    stage("latents", "--autoencoder", str(codec), *data, "--folder", latents, to="")
    vae_file = train("autoencoder", "vae_baseline", vae, to="vae_baseline")
    on_latents = ["--autoencoder", str(codec), "--latents_folder", latents]
    latent = train("diffusion", "latent", diffusion, *on_latents, to="latent")
    pixel = train("diffusion", "pixel", diffusion, to="pixel")
    rows = [
        evaluate("noise", "noise"),
        evaluate("gaussian", "gaussian"),
        evaluate(vae_file, "vae_baseline", "--mode", "prior"),
        evaluate(pixel, "pixel"),
        evaluate(latent, "latent"),
        evaluate(codec, "autoencoder"),
    ]
    title = "Pixel against latent: the demo"
    stage("compare", *rows, "--title", title, to="report")
    minutes = (time.perf_counter() - started) / 60
    page = (folder / "report" / "index.html").resolve()
    print(f"\nThe demo took {minutes:.1f} minutes. The page:\n{page}")
    return page


def main(argv: list[str] | None = None) -> None:
    from latentdiff.stages import cli

    try:
        run(cli.parse(DemoStage, argv))
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: the stage above ended with status {error.returncode}; the demo stops here")


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
