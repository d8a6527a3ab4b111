"""The whole pipeline in minutes on the images inside the package."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from latentdiff.config.comparison_stages import DemoStage
from latentdiff.errors import StageError
from latentdiff.precision import resolve_device
from latentdiff.runs import run_folder


def run_demo(config: DemoStage) -> Path:
    """Run every stage as a process of its own, showing its command; return the path of the page."""
    gpu = resolve_device("auto").type == "cuda"
    autoencoder = config.autoencoder_seconds or (12 if gpu else 90)
    vae = config.vae_seconds or (8 if gpu else 40)
    diffusion = config.diffusion_seconds or (12 if gpu else 80)
    started = time.perf_counter()
    run = run_folder.numbered(config.run, "demo", "fashion-mnist")
    with run_folder.opened(run, "demo", "fashion-mnist") as folder:
        page = _run_stages(config, folder, autoencoder, vae, diffusion)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nThe demo took {minutes:.1f} minutes. The page:\n{page}")
    return page


def _run_stages(config: DemoStage, folder: Path, autoencoder: float, vae: float, diffusion: float) -> Path:
    """Run the stages one after the other into ``folder``, for so many seconds each; the path of the page."""
    data = ["--data.source", "embedded"]

    def stage(name: str, *arguments: str, to: str) -> Path:
        own = ["--run.folder", str(folder / to)] if to else []
        command = ["-m", f"latentdiff.stages.{name}", *arguments, *own]
        print(f"\n$ python {shlex.join(command)}", flush=True)
        if status := subprocess.run([sys.executable, *command]).returncode:
            raise StageError(f"the stage above ended with status {status}. The demo stops here.")
        return folder / to / "model.safetensors"

    def train(name: str, settings: str, seconds: float, *more: str, to: str) -> Path:
        budget = ["--trainer.max_seconds", f"{seconds:g}"]
        return stage(name, "--config", f"demo/{settings}.yaml", *data, *budget, *more, to=to)

    def evaluate(model: Path | str, name: str, *more: str) -> str:
        settings = ["--num_images", str(config.num_images), "--inception", "off", "--lpips", "off", "--name", name]
        settings += ["--features_folder", str(folder / "features")]
        stage("evaluate", "--model", str(model), *settings, *data, *more, to=f"evaluate/{name}")
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
    return (folder / "report" / "index.html").resolve()
