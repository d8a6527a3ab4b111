"""Small latent diffusion in two stages, compared honestly with pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["load"]

if TYPE_CHECKING:
    from latentdiff.inference.model import load


def __getattr__(name: str):
    # torch takes seconds to import: `import latentdiff` does not, the first use of `load` does.
    if name == "load":
        from latentdiff.inference.model import load

        return load
    raise AttributeError(f"module 'latentdiff' has no attribute {name!r}")
