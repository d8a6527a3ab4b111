"""``latentdiff STAGE …``, which is ``python -m latentdiff STAGE …`` and ``python -m latentdiff.stages.STAGE …``."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module

from latentdiff import __version__
from latentdiff.command_line import run_stage

# In the order of the work: each stage, what it does, and whether it can be one of several processes.
STAGES: dict[str, tuple[str, bool]] = {
    "demo": ("run the whole pipeline in minutes on the images inside the package", False),
    "analyse": ("look at a data set before training on it", False),
    "autoencoder": ("stage one: train the autoencoder, which is also the VAE baseline", True),
    "latents": ("encode a data set once into the latent cache", True),
    "diffusion": ("stage two: train the diffusion model, on cached latents or on pixels", True),
    "classifier": ("train the classifier whose features measure samples", False),
    "sample": ("sample images, or reconstruct, interpolate, inpaint", True),
    "evaluate": ("measure a model: FID, KID, precision, recall, speed, with floors", True),
    "compare": ("put several models side by side on one page", False),
    "samplers": ("measure samplers against their number of steps", False),
    "sweep": ("train with different settings for equal seconds, and rank them", False),
    "release": ("write a model as bf16 with a model card", False),
    "export": ("write a model for other programs: ONNX, diffusers, the Hub, a web page, a Space", False),
    "app": ("serve a page that samples and edits images", False),
    "reproduce": ("train, release and compare all models of a data set", False),
    "verify": ("check the diffusion core and the metrics against reference code", False),
    "benchmark": ("measure speed and memory on this machine", False),
    "env": ("print versions, devices and caches, for a bug report", False),
}


def main(argv: list[str] | None = None) -> None:
    """Run the stage that the first argument names with the rest; without one, list the stages."""
    stage, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if stage in ("-h", "--help"):
        print(usage())
    elif stage == "--version":
        print(__version__)
    elif stage not in STAGES:
        near = get_close_matches(stage, STAGES, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        meant = " Training is `autoencoder`, then `diffusion`." if stage == "train" else meant
        sys.exit(f"error: there is no stage {stage!r}.{meant} `latentdiff` alone lists the stages.")
    else:
        module = import_module(f"latentdiff.stages.{stage}")
        run_stage(lambda: module.main(arguments), several_processes=STAGES[stage][1])


def usage() -> str:
    """The stages in the order of the work, a line each."""
    width = max(map(len, STAGES))
    lines = [f"  {name:<{width}}  {what}" for name, (what, _) in STAGES.items()]
    return "\n".join(
        ["latentdiff STAGE [settings]", "", *lines, "", "latentdiff STAGE --help lists a stage's settings."]
    )


if __name__ == "__main__":
    main()
