"""Data sets of the Hub: by a stand-in for the package datasets, and by the package from a server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentdiff import load_dataset
from latentdiff.config import DataConfig
from latentdiff.config.data import folder_name
from latentdiff.data import hub, load_split
from latentdiff.data.download import no_downloads
from latentdiff.errors import ConfigError, DataError
from tests.data.hub_stand_in import serve_dataset
from tests.data.test_tables import ANIMALS, IMAGE, pq, rows, with_features

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub_of(monkeypatch):
    """Stands in for the package datasets: what load_dataset returns, or raises."""
    asked = []

    def make(found):
        def answer(name, configuration, revision):
            asked.append((name, configuration, revision, package.config.HF_HUB_OFFLINE))
            if isinstance(found, Exception):
                raise found
            return found

        package = SimpleNamespace(
            load_dataset=answer,
            config=SimpleNamespace(HF_HUB_OFFLINE=False, HF_DATASETS_CACHE="~/.cache/hf", HF_ENDPOINT=""),
        )
        monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: True)
        monkeypatch.setattr(hub, "import_extra", lambda *_: package)
        hub._tables.cache_clear()
        return asked

    yield make
    hub._tables.cache_clear()


def split_of(table):
    return SimpleNamespace(data=SimpleNamespace(table=table), cache_files=[], _fingerprint="abc123", features=None)


def animals(seeds):
    return with_features(rows(seeds, label=[seed % 3 for seed in seeds]), image=IMAGE, label=ANIMALS)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hf:shapes", ("shapes", None, None)),
        ("hf:someone/shapes", ("someone/shapes", None, None)),
        ("hf:someone/shapes/large", ("someone/shapes", "large", None)),
        ("hf:someone/shapes/large@refs/pr/1", ("someone/shapes", "large", "refs/pr/1")),
        ("hf:someone/shapes@v1.0", ("someone/shapes", None, "v1.0")),
    ],
)
def test_a_name_is_an_id_a_configuration_and_a_revision(name, asked, hub_of, tmp_path):
    heard = hub_of({"train": split_of(animals(range(6))), "test": split_of(animals(range(6, 9)))})
    config = DataConfig(name=name, size=8, cache_folder=str(tmp_path / "cache"))
    train, test = load_split(config, "train"), load_split(config, "test")
    assert heard == [(*asked, False)]
    assert (train.name, train.class_names, test.labels.tolist()) == (name, ("cat", "dog", "owl"), [0, 1, 2])
    assert test.files == ("test/000000", "test/000001", "test/000002")
    assert [path.name.rpartition("-8-")[0] for path in (tmp_path / "cache").iterdir()] == [folder_name(name)]
    assert load_dataset(name).config.name == name


@pytest.mark.parametrize("name", ["hf:", "hf:../x", "hf:/etc", "hf:a/b/c/d", "hf:a/../b", "hf:a b", "HF:a"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"name must be fashion-mnist, .* or hf:ID, not"):
        DataConfig(name=name)


def test_why_a_set_cannot_be_had_is_said_in_a_line_or_two(hub_of):
    class DatasetNotFoundError(FileNotFoundError):
        pass

    cases = {
        ConnectionError(
            "Couldn't reach 'a/b' on the Hub"
        ): "hf:a/b is not on this machine, and the Hub cannot be reached",
        DatasetNotFoundError(
            "Dataset 'a/b' doesn't exist"
        ): "there is no such data set on the Hub, or it is not public",
        ValueError("Config name is missing.\nPick one among: ['x', 'y']"): r"Config name is missing\. Pick one among",
    }
    for error, message in cases.items():
        hub_of(error)
        with pytest.raises(DataError, match=message) as raised:
            load_split(DataConfig(name="hf:a/b"), "train")
        assert len(str(raised.value).splitlines()) <= 2
    heard = hub_of(ConnectionError("offline"))
    with no_downloads(), pytest.raises(DataError):
        load_split(DataConfig(name="hf:a/b"), "train")
    assert heard[-1] == ("a/b", None, None, True)


def test_a_hub_without_the_package_names_the_extra(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("latentdiff.extras.import_module", missing)
    hub._tables.cache_clear()
    with pytest.raises(ConfigError, match=r"datasets is not installed: pip install 'latentdiff\[hf\]'"):
        load_split(DataConfig(name="hf:a/b"), "train")


LOAD = """
import sys
from latentdiff.config import DataConfig
from latentdiff.data import load_split
from latentdiff.errors import DataError
try:
    for split in ("train", "val"):
        data = load_split(DataConfig(name=sys.argv[1], size=8, fractions=(0.8, 0.1, 0.1)), split)
        print("LOADED", data.split, len(data), data.class_names, data.files[0], data.fingerprint)
except DataError as error:
    print("ERROR", error)
"""


def run_load(tmp_path, endpoint, name, **environment):
    made = subprocess.run(
        [sys.executable, "-c", LOAD, name],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return [line for line in made.stdout.splitlines() if line.startswith(("LOADED", "ERROR"))]


@pytest.mark.slow
def test_the_package_loads_from_a_server_and_later_without_one(tmp_path):
    pytest.importorskip("datasets")
    repository = tmp_path / "repository" / "data"
    repository.mkdir(parents=True)
    pq.write_table(animals(range(12)), repository / "train-00000-of-00001.parquet")
    pq.write_table(animals(range(12, 16)), repository / "validation-00000-of-00001.parquet")
    (repository.parent / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Shapes\n")
    with serve_dataset("someone/shapes", repository.parent) as address:
        loaded = run_load(tmp_path, address, "hf:someone/shapes")
        (gone,) = run_load(tmp_path, address, "hf:someone/nothing")
    assert [line.split()[1:3] for line in loaded] == [["train", "12"], ["val", "4"]]
    assert "('cat', 'dog', 'owl') validation/000000" in loaded[1]
    assert "ERROR hf:someone/nothing: there is no such data set" in gone
    # The server is gone now.
    assert run_load(tmp_path, "http://127.0.0.1:9", "hf:someone/shapes") == loaded
    assert run_load(tmp_path, "http://127.0.0.1:9", "hf:someone/shapes", HF_HUB_OFFLINE="1") == loaded
    (never,) = run_load(tmp_path, "http://127.0.0.1:9", "hf:someone/other")
    assert "ERROR hf:someone/other is not on this machine, and the Hub cannot be reached" in never
    (never,) = run_load(tmp_path, "http://127.0.0.1:9", "hf:someone/other", HF_HUB_OFFLINE="1")
    assert "is not on this machine, and the Hub cannot be reached" in never


@pytest.mark.slow
def test_what_the_package_saves_is_read_without_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "id": datasets.Value("string")}
    )
    images = [Image.new("RGB", (10, 12), (index * 10, 5, 9)) for index in range(20)]
    values = {"image": images, "label": [index % 2 for index in range(20)], "id": [str(index) for index in range(20)]}
    whole = datasets.Dataset.from_dict(values, features=features)
    splits = datasets.DatasetDict(
        {"train": whole.select(range(15)).shuffle(seed=0), "test": whole.select(range(15, 20))}
    )
    splits.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 2, "test": 1})
    (tmp_path / "tables").mkdir()
    for split, data in splits.items():
        data.to_parquet(str(tmp_path / "tables" / f"{split}.parquet"))
    found = [load_dataset(tmp_path / place, size=8) for place in ("saved", "tables")]
    for data in found:
        assert data.train.class_names == ("cat", "dog")
        assert data.train.labels.tolist() == splits["train"]["label"]
        assert data.train.fingerprint == found[0].train.fingerprint
        assert data.test.fingerprint == found[0].test.fingerprint
    # And from Python, as the package holds it.
    held = load_dataset(splits, size=8)
    assert held.test.fingerprint == found[0].test.fingerprint
    assert held.train.class_names == ("cat", "dog")
