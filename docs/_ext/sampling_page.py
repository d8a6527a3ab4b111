"""The released Fashion-MNIST models as a page that samples, in ``page/`` of the site: the live figures run on it.

Where it cannot be made, as without a network at the first time, the site is built without it. The figures say so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sphinx.application import Sphinx

from latentdiff import __version__
from latentdiff.config import RunConfig
from latentdiff.config.model_stages import ExportStage
from latentdiff.errors import LatentdiffError
from latentdiff.export import web_folder

MODELS = ("latent", "pixel")
STAMP = "page.stamp"


def write_page(app: Sphinx) -> None:
    """Export the page into the site, unless what is there was made of the same files."""
    if app.builder.format != "html":
        return
    out, checkpoints = Path(app.outdir), Path(app.srcdir).parent / "checkpoints" / "fashion-mnist"
    models = [checkpoints / f"{name}.safetensors" for name in MODELS]
    state, stamp = _state(models), out / STAMP
    if stamp.is_file() and stamp.read_text() == state and (out / "page" / "page.json").is_file():
        return
    run = RunConfig(folder=str(out / "page"), overwrite=True)
    try:
        web_folder.export_web(ExportStage(model=str(models[0]), beside=(str(models[1]),), to="web", run=run))
    except LatentdiffError as error:
        print(f"the site gets no live figures: {error}")
        return
    stamp.write_text(state)


def _state(models: list[Path]) -> str:
    """A digest of all that the page is made of."""
    sources = sorted(path for path in web_folder.HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256(__version__.encode())
    for path in (*models, *sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
