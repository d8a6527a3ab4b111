"""Downloads are whole or not at all, and given up quickly without a network."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from latentdiff.data import celeba, cifar_10, fashion_mnist, flowers_102, mnist, oxford_iiit_pet
from latentdiff.data.download import server_answers
from latentdiff.data.fashion_mnist import EMBEDDED, FASHION_MNIST
from latentdiff.data.idx import FILES
from latentdiff.data.mnist import MNIST


def test_silent_and_refusing_servers_cost_no_more_than_asked():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        start = time.monotonic()
        assert not server_answers(address, 0.3)  # accepts the connection and never says a word
    assert not server_answers(address, 0.3)  # refuses
    assert time.monotonic() - start < 60  # for ever, without a limit


FOLDER = FASHION_MNIST.folder


def test_download_is_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: True)

    def fails(self, root, download):
        (Path(root) / FOLDER).mkdir(parents=True)
        (Path(root) / FOLDER / FILES["train"][0]).write_bytes(b"half")
        raise RuntimeError("connection lost")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST.__init__", fails)
    assert not fashion_mnist.fetch(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())

    def comes_second(self, root, download):
        shutil.copytree(EMBEDDED / FOLDER, tmp_path / "shared" / FOLDER)  # another process is done in the meantime
        shutil.copytree(EMBEDDED / FOLDER, Path(root) / FOLDER)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST.__init__", comes_second)
    assert fashion_mnist.fetch(tmp_path / "shared")

    def succeeds(self, root, download):
        shutil.copytree(EMBEDDED / FOLDER, Path(root) / FOLDER)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST.__init__", succeeds)
    assert fashion_mnist.fetch(tmp_path / "data")
    assert FASHION_MNIST.is_present(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "folder", "fetch"),
    [
        ("MNIST", MNIST.folder, mnist.fetch),
        ("CIFAR10", cifar_10.BATCHES, cifar_10.fetch),
        ("CelebA", celeba.FOLDER, celeba._fetch),
        ("Flowers102", flowers_102.FOLDER, flowers_102._fetch),
        ("OxfordIIITPet", oxford_iiit_pet.FOLDER, oxford_iiit_pet._fetch),
    ],
)
def test_torchvision_is_asked_to_download(name, folder, fetch, tmp_path, monkeypatch):
    def downloads(self, root, download=False):
        (Path(root) / folder / f"asked {download}").mkdir(parents=True)

    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: True)
    monkeypatch.setattr(f"torchvision.datasets.{name}.__init__", downloads)
    assert fetch(tmp_path)
    assert (tmp_path / folder / "asked True").is_dir()
