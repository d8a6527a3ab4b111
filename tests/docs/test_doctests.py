"""The examples in the package's docstrings run and say what they promise."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import latentdiff

PACKAGE = Path(latentdiff.__file__).parent
# Modules without an example are not imported: some of them take seconds, or a package of an extra.
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0, "the captured output says which example"
