"""Measure whether a model composes class and colour that it has never seen together.

``python -m benchmarks.composition stages/diffusion/fashion-mnist-coloured-latent`` draws each of the sixty pairs of
class and colour of coloured Fashion-MNIST, and prints how often a classifier and a rule find what was asked for: on the
fifty pairs of the training and on the ten that are left out of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from latentdiff.command_line import run_stage
from latentdiff.config import DataConfig, SamplingConfig
from latentdiff.data import load_split
from latentdiff.evaluation.composition import measure_composition, real_composition
from latentdiff.inference.model import load_diffusion
from latentdiff.precision import resolve_device
from latentdiff.report.grids import save_grid
from latentdiff.resources import resolve_checkpoint


def main(argv: list[str] | None = None) -> None:
    """Measure with the settings of a command line; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=__doc__)
    parser.add_argument("model", help="the model's file, or the folder of its run")
    parser.add_argument("--images", type=int, default=20, help="images of each pair (%(default)s)")
    parser.add_argument("--guidance_scale", type=float, nargs="+", default=[1.0, 3.0], help="one or more")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    parser.add_argument("--grid", help="a PNG of the first image of each pair, a row a class, at the last scale")
    given = parser.parse_args(argv)
    model = load_diffusion(resolve_checkpoint(given.model)).to(resolve_device("auto")).with_engine("torch")
    test = load_split(DataConfig(name="fashion-mnist-coloured"), "test")
    rows = [("real test images", real_composition(test))]
    for scale in given.guidance_scale:
        settings = SamplingConfig(steps=given.steps, guidance_scale=scale, seed=given.seed, batch_size=100)
        found, images = measure_composition(model, given.images, settings)
        rows.append((f"guidance {scale:g}", found))
    print(f"{'':<18} {'pairs':<20} {'images':>7} {'class':>7} {'colour':>7} {'both':>7}")
    for name, found in rows:
        for pairs, row in found.items():
            shares = " ".join(f"{row[key]:>7.1%}" for key in ("class", "colour", "both"))
            print(f"{name:<18} {pairs:<20} {row['images']:>7,} {shares}")
    if given.grid:
        save_grid(images[:: given.images], Path(given.grid), columns=6)


if __name__ == "__main__":
    run_stage(main)
