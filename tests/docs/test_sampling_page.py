"""The site's page that samples: made anew when what it is made of has changed, and left out where it cannot be made."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentdiff.errors import ConfigError
from latentdiff.export import web_folder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
pytest.importorskip("sphinx")
sampling_page = import_module("sampling_page")


@pytest.fixture
def app(tmp_path):
    """What the extension asks of Sphinx."""
    return SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=str(tmp_path), srcdir=str(ROOT / "docs"))


def test_the_page_is_made_once_for_the_same_files(app, tmp_path, monkeypatch):
    made = []

    def export_web(config):
        made.append(config)
        Path(config.run.folder).mkdir(exist_ok=True)
        (Path(config.run.folder) / "page.json").touch()

    monkeypatch.setattr(web_folder, "export_web", export_web)
    sampling_page.write_page(app)
    sampling_page.write_page(app)
    assert [config.run.folder for config in made] == [str(tmp_path / "page")]
    assert (Path(made[0].model).name, len(made[0].beside)) == ("latent.safetensors", 1)
    (tmp_path / sampling_page.STAMP).write_text("of other files")
    sampling_page.write_page(app)
    assert len(made) == 2
    app.builder.format = "latex"
    (tmp_path / sampling_page.STAMP).unlink()
    sampling_page.write_page(app)
    assert len(made) == 2


def test_the_site_is_built_without_the_page_where_it_cannot_be_made(app, tmp_path, monkeypatch, capsys):
    def export_web(config):
        raise ConfigError("no network")

    monkeypatch.setattr(web_folder, "export_web", export_web)
    sampling_page.write_page(app)
    assert "the site gets no live figures: no network" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
