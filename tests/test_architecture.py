"""Imports point one way, without a circle, and stand at the top of a file; a command line costs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import latentdiff

PACKAGE = Path(latentdiff.__file__).parent
# The floors of the house, from the roof down. A part imports from its own part and from lower floors.
FLOORS = (
    ("stages",),
    ("benchmark", "comparison"),
    ("training", "verify"),
    ("app", "export"),
    ("environment", "evaluation"),
    ("inference", "latents", "command_line"),
    ("from_diffusers",),
    ("codec", "runs"),
    ("models", "report"),
    ("data", "diffusion", "text"),
    ("progress", "run_checkpoint"),
    ("checkpoint",),
    ("model_header", "folder_mark"),
    ("config", "distributed", "files", "int8_weights", "precision", "resources", "console"),
    ("hub",),
    ("extras",),
    ("digest", "errors", "memory", "os_errors"),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(reversed(FLOORS)) for part in parts}
# Packages that a user may not have, or that are too slow to be imported by whoever does not use them.
IMPORTED_IN_FUNCTIONS = {"diffusers", "pillow_heif", "denoising_diffusion_pytorch", "pynvml", "lightning"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(["latentdiff", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name_of(path) for path in FILES}


def imported_modules(path: Path) -> set[str]:
    """The package's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latentdiff":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def imports_in_functions(path: Path) -> set[str]:
    """The modules that a file imports inside of functions."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    found.add(node.module)
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_part_imports_only_from_lower_floors(path):
    own = [*name_of(path).split("."), ""][1]
    if own in ("", "__main__"):
        return  # the front doors: they import what they hand out on first use
    for name in imported_modules(path):
        other = [*name.split("."), ""][1]
        if other in ("", own):
            continue  # `latentdiff` itself holds the version
        assert FLOOR_OF[other] < FLOOR_OF[own], f"{own} imports {other}, which is not below it"


def test_no_import_runs_in_a_circle():
    graph = {name_of(path): imported_modules(path) - {name_of(path), "latentdiff"} for path in FILES}
    graph.pop("latentdiff")
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "stages"], ids=name_of)
def test_imports_stand_at_the_top(path):
    if name_of(path) in ("latentdiff", "latentdiff.__main__", "latentdiff.command_line"):
        return  # they answer before torch is imported
    late = {name for name in imports_in_functions(path) if name.split(".")[0] not in IMPORTED_IN_FUNCTIONS}
    assert not late


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=name_of)
def test_a_stage_is_a_thin_door(path):
    assert len(path.read_text().splitlines()) <= 60
    assert len(imports_in_functions(path)) <= 3  # what does the work, imported after the settings were read


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("latentdiff.stages.")))
def test_help_does_not_wait_for_torch(module):
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
