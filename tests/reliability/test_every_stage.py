"""The thorough tests of this folder try every stage that writes files."""

from __future__ import annotations

import pkgutil

from latentdiff import stages
from tests.reliability import test_kills
from tests.reliability.conftest import STAGES

# Those that print, or show a page.
WITHOUT_FILES = {"app", "env", "verify"}


def test_every_stage_that_writes_is_killed_and_given_a_full_disk():
    written = {module.name for module in pkgutil.iter_modules(stages.__path__)} - WITHOUT_FILES
    assert set(STAGES) == written
    assert {stage for stage, _, _ in test_kills.COMMANDS.values()} == written
