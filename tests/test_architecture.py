"""Imports point one way, and a command line costs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import latentdiff

PACKAGE = Path(latentdiff.__file__).parent
# A module may import from its own part and from lower ones.
HEIGHT = {
    "": 0,
    "settings": 0,
    "precision": 0,
    "processes": 0,
    "shelf": 0,
    "config": 1,
    "checkpoint": 2,
    "data": 2,
    "models": 2,
    "diffusion": 2,
    "codec": 3,
    "perceptual": 3,
    "latents": 4,
    "pipeline": 4,
    "uses": 5,
    "evaluation": 6,
    "report": 6,
    "training": 7,
    "verify": 7,
    "benchmark": 8,
    "stages": 9,
}
# Fundamentals stand beside each other; these are the only ways between them.
ALLOWED = {("data", "config"), ("models", "config"), ("models", "precision"), ("diffusion", "config")}


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "latentdiff":
            names = [node.module]
            if node.module == "latentdiff":
                names = [f"latentdiff.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "latentdiff"]
        for name in names:
            part = [*name.split("."), ""][1]
            yield part if part in HEIGHT else ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return  # the package's front door: `load`, imported on first use
    for other in imports(path):
        beside = HEIGHT[other] < HEIGHT[own] or other == own
        assert beside, f"{own} imports {other}, which is not below it"
        if own in ("data", "models", "diffusion") and other not in (own, "", "checkpoint"):
            assert (own, other) in ALLOWED, f"{own} imports {other}"


@pytest.mark.parametrize(
    "module",
    ["latentdiff", "latentdiff.stages.autoencoder", "latentdiff.stages.evaluate", "latentdiff.stages.benchmark"],
)
def test_import_does_not_wait_for_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_sampling_imports_nothing_that_it_does_not_need(tmp_path):
    """torchvision and matplotlib together take longer to import than torch: a cold process would wait for them."""
    slow = "torchvision", "matplotlib", "lightning", "torchmetrics", "scipy", "pandas"
    arguments = ["--num_images", "2", "--steps", "2", "--device", "cpu", "--run.folder", str(tmp_path / "samples")]
    code = f"""
import sys
from latentdiff.stages.sample import main
main({arguments!r})
sys.exit(" ".join(name for name in {slow!r} if name in sys.modules) or 0)
"""
    root = PACKAGE.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples" / "grid.png").is_file()
