"""A running training is shown by what it has written; no other folder of the machine is."""

from __future__ import annotations

import os
import re

import pytest
import torch

from latentdiff.app.training_runs import find_runs, show_run, version_of
from latentdiff.errors import ConfigError, FolderError
from latentdiff.folder_mark import Mark, write_mark
from latentdiff.report.curves import run_curves
from latentdiff.report.grids import save_grid

ROWS = """images_seen,loss,seconds,lr,val_loss,kid
100,0.9,10,0.001,0.95,
200,0.5,20,0.001,0.6,0.04
300,0.4,30,0,0.5,0.03
"""


@pytest.fixture
def runs(tmp_path):
    """A folder with two runs of which ``diffusion/new`` wrote last."""
    for age, name in enumerate(("diffusion/new", "autoencoder/old")):
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(ROWS)
        os.utime(folder / "metrics.csv", (1e9 - age, 1e9 - age))
    for seen in range(100, 700, 100):
        images = torch.full((4, 1, 8, 8), seen // 4, dtype=torch.uint8)
        save_grid(images, tmp_path / "stages" / "diffusion" / "new" / "samples" / f"{seen:09d}.png", 2)
    return tmp_path / "stages"


def test_the_run_that_wrote_last_comes_first(runs):
    assert find_runs(runs) == ["diffusion/new", "autoencoder/old"]
    os.utime(runs / "autoencoder" / "old" / "metrics.csv", (1.1e9, 1.1e9))
    assert find_runs(runs)[0] == "autoencoder/old"
    assert find_runs(runs / "nowhere") == []


def test_a_run_is_shown_with_numbers_curves_and_grids(runs):
    html = show_run(runs, "diffusion/new")
    assert "Not finished: 300 images seen, 0.5 minutes, 10 images a second, loss 0.4, val_loss 0.5, kid 0.03" in html
    labels = re.findall(r'aria-label="([^"]+)"', html)
    assert [label.split(" over ")[0] for label in labels] == ["Curve of loss", "Curve of KID"]
    assert html.count("<svg") == 4  # each for a light and a dark page
    grids = re.findall(r'alt="Samples after ([\d,]+) images"', html)
    assert grids == ["600", "400", "300", "100"]
    write_mark(runs / "diffusion" / "new", Mark("diffusion", finished=True))
    assert "Finished: 300" in show_run(runs, "diffusion/new")


def test_curves_leave_out_what_was_measured_less_than_twice():
    rows = [{"images_seen": 1.0, "loss": 1.0}, {"images_seen": 2.0, "loss": 0.5, "kid": 0.1, "psnr": 20.0}]
    assert list(run_curves(rows)) == ["loss"]
    assert run_curves([]) == {}


def test_what_is_new_changes_the_version(runs):
    before = version_of(runs, "diffusion/new")
    assert version_of(runs, "diffusion/new") == before
    save_grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), runs / "diffusion" / "new" / "samples" / "000000700.png", 1)
    assert version_of(runs, "diffusion/new") != before


@pytest.mark.parametrize("name", ["../secret", "/etc", "", None, 3, ["diffusion/new"], "diffusion/../diffusion/new"])
def test_no_other_folder_is_shown(runs, name):
    secret = runs.parent / "secret"
    secret.mkdir()
    (secret / "metrics.csv").write_text(ROWS)
    (runs / "link").symlink_to(secret)
    assert "link" not in find_runs(runs)
    for ask in (show_run, version_of):
        with pytest.raises(ConfigError, match="choose one from the list"):
            ask(runs, name)


def test_files_that_are_not_a_runs_are_said(runs):
    folder = runs / "diffusion" / "new"
    (folder / "samples" / "000000600.png").write_text("<svg onload='alert(1)'>")
    html = show_run(runs, "diffusion/new")
    assert "the picture cannot be read" in html
    assert "onload" not in html
    (folder / "metrics.csv").write_bytes(b"images_seen,loss\n\xff\xfe,1\n")
    with pytest.raises(FolderError, match="cannot be read"):
        show_run(runs, "diffusion/new")
    (folder / "metrics.csv").write_text("images_seen,loss\n1e400,nan\nx,1\n")
    assert "No epoch has ended yet" in show_run(runs, "diffusion/new")
