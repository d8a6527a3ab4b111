"""What tests of several stages share."""

from __future__ import annotations

import pytest

from latentdiff.stages import autoencoder, diffusion, kept


@pytest.fixture
def trainings(monkeypatch):
    """The commands of the training runs, which are made in this process; from the one ``trainings.fail_at`` on they
    fail."""

    class Made(list):
        fail_at = None

    made = Made()

    def run(command, check):
        assert check
        if len(made) == made.fail_at:
            raise KeyboardInterrupt
        made.append(command)
        monkeypatch.setattr("sys.argv", command)
        {"latentdiff.stages.diffusion": diffusion, "latentdiff.stages.autoencoder": autoencoder}[command[2]].main(
            command[3:]
        )

    monkeypatch.setattr(kept.subprocess, "run", run)
    return made
