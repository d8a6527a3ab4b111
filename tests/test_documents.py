"""What the README and the documents promise can be typed and followed."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    *sorted((ROOT / "checkpoints").rglob("*.md")),
]


def commands():
    """Every command line of a stage, whole: in indented blocks, its continued lines joined, without comments."""
    found = {}
    for path in DOCUMENTS:
        if path.parent.name == "guide":
            continue  # tests/docs/test_guide.py runs these
        text = path.read_text().replace("\\\n", " ")
        started = r"^    (?:python -m latentdiff\.stages\.|python -m latentdiff |latentdiff )(\w+.*)$"
        for line in re.findall(started, text, flags=re.M):
            stage, *flags = shlex.split(line, comments=True)
            found.setdefault((f"latentdiff.stages.{stage}", *flags), path.relative_to(ROOT).as_posix())
    return [pytest.param(module, flags, id=f"{where}: {module} {flags}") for (module, *flags), where in found.items()]


@pytest.mark.parametrize(("module", "flags"), commands())
def test_a_command_of_the_documents_has_only_settings_that_there_are(module, flags, tmp_path, monkeypatch, capsys):
    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my-images").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main([*flags, "--print_config"])
    assert ended.value.code in (0, None), capsys.readouterr().err


def anchors(path):
    """The headings' anchors, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    folders = "configs|checkpoints|latentdiff|docs|tests|benchmarks"
    named = re.findall(rf"`((?:{folders})/[\w./*-]+)`", path.read_text())
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/"))) and "_build" not in name] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


ROWS_OF_MODELS = [
    ("README.md", "pixel diffusion", "pixel"),
    ("README.md", "latent diffusion", "latent"),
    ("README.md", "autoencoder's reconstructions", "autoencoder"),
    ("docs/results/index.md", "VAE baseline", "vae_baseline"),
    ("docs/results/index.md", "Pixel diffusion", "pixel"),
    ("docs/results/index.md", "Latent diffusion", "latent"),
    ("docs/results/index.md", "Autoencoder: reconstructions", "autoencoder"),
    ("docs/results/models.md", "`vae_baseline`: decoded", "vae_baseline"),
    ("docs/results/models.md", "`pixel`", "pixel"),
    ("docs/results/models.md", "`latent`", "latent"),
    ("docs/results/models.md", "`autoencoder`: reconstructions", "autoencoder"),
]


@pytest.mark.parametrize(("document", "row", "model"), ROWS_OF_MODELS)
def test_the_fid_in_a_table_is_the_one_on_the_models_card(document, row, model):
    card = (ROOT / "checkpoints" / "fashion-mnist" / f"{model}.md").read_text()
    [on_card, *_] = re.findall(r"^- FID to test ([\d.]+),", card, flags=re.M)
    [in_table, *_] = re.findall(rf"^\| {re.escape(row)}[^|]*\| ([\d.]+)", (ROOT / document).read_text(), flags=re.M)
    assert in_table == on_card


def test_the_fid_below_the_readmes_picture_is_the_one_on_the_models_card():
    card = (ROOT / "checkpoints" / "fashion-mnist" / "latent.md").read_text()
    [on_card, *_] = re.findall(r"^- FID to test ([\d.]+),", card, flags=re.M)
    assert f"FID {on_card} (10,000 samples" in (ROOT / "README.md").read_text()
