"""Small latent diffusion in two stages, compared honestly with pixels.

from latentdiff import load_dataset, train_autoencoder, cache_latents, train_diffusion

data = load_dataset("fashion-mnist")
autoencoder = train_autoencoder(data)
model = train_diffusion(cache_latents(autoencoder, data))
images = model.sample(num_images=16, labels="Dress")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "LatentdiffError",
    "cache_latents",
    "compare",
    "evaluate",
    "image_grid",
    "load",
    "load_dataset",
    "train_autoencoder",
    "train_diffusion",
]

# How long a thread of torch's waits for the others before it sleeps. Torch's own choice is a hundred times as long:
# beside other work, the waiting threads keep the awaited one from the cores, and a small batch takes seconds.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

if TYPE_CHECKING:
    from latentdiff.comparison.compare import compare
    from latentdiff.data import load_dataset
    from latentdiff.errors import LatentdiffError
    from latentdiff.evaluation.evaluate import evaluate
    from latentdiff.inference.model import load
    from latentdiff.latents import cache_latents
    from latentdiff.report.image_grid import image_grid
    from latentdiff.training.train_autoencoder import train_autoencoder
    from latentdiff.training.train_diffusion import train_diffusion

# torch takes seconds to import. `import latentdiff` does not wait for it, the first use of these names does.
_HOMES = {
    "LatentdiffError": "latentdiff.errors",
    "cache_latents": "latentdiff.latents",
    "compare": "latentdiff.comparison.compare",
    "evaluate": "latentdiff.evaluation.evaluate",
    "image_grid": "latentdiff.report.image_grid",
    "load": "latentdiff.inference.model",
    "load_dataset": "latentdiff.data",
    "train_autoencoder": "latentdiff.training.train_autoencoder",
    "train_diffusion": "latentdiff.training.train_diffusion",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latentdiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
