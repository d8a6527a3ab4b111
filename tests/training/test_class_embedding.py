"""Fine-tuning on other classes, and on other images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from latentdiff import load_dataset, train_diffusion
from latentdiff.config import NetworkConfig, TrainerConfig
from latentdiff.errors import CheckpointError
from latentdiff.models.network import build_network
from latentdiff.training.class_embedding import fit_class_embedding
from latentdiff.training.train_diffusion import _without_missing_classes

NETWORK = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)


def network(classes, seed=0):
    torch.manual_seed(seed)
    own = build_network(1, classes, NETWORK, 1)
    for parameter in own.parameters():
        if not parameter.any():  # a new network has layers of zeros, and heeds no class
            torch.nn.init.normal_(parameter, std=0.3)
    return own.eval()


def output(own, label=None):
    x, time = torch.linspace(-1, 1, 36).reshape(1, 1, 6, 6), torch.tensor([300.0])
    with torch.no_grad():
        return own(x, time, None if label is None else torch.tensor([label]))


def fitted(theirs, before, ours, now):
    ours.load_state_dict(fit_class_embedding(theirs.state_dict(), ours, before, now, "old"))
    return ours


def test_classes_that_both_have_keep_what_they_were(capsys):
    theirs = network(3)
    ours = fitted(theirs, ("ant", "bee", "cat"), network(4, 1), ("cat", "dog", "eel", "ant"))
    assert capsys.readouterr().out == "classes: kept cat, ant; new dog, eel; dropped bee\n"
    # By name, not by place; a new class and "no class" are what "no class" was.
    for now, before in ((0, 2), (3, 0), (4, 3), (1, 3), (2, 3)):
        assert torch.equal(output(ours, now), output(theirs, before))
    assert not torch.equal(output(theirs, 0), output(theirs, 2))


def test_another_order_of_the_same_classes_is_no_other_model(capsys):
    theirs = network(2)
    ours = fitted(theirs, ("cat", "dog"), network(2, 1), ("dog", "cat"))
    assert torch.equal(output(ours, 0), output(theirs, 1))
    assert "kept dog, cat; new none; dropped none" in capsys.readouterr().out
    fitted(theirs, ("cat", "dog"), network(2, 1), ("cat", "dog"))
    assert not capsys.readouterr().out


def test_classes_come_and_go_without_changing_what_is_drawn(capsys):
    without = network(0)
    ours = fitted(without, (), network(2, 1), ("cat", "dog"))
    for label in range(3):
        assert torch.equal(output(ours, label), output(without))
    assert "all 2 are new" in capsys.readouterr().out
    theirs = network(2)
    ours = fitted(theirs, ("cat", "dog"), network(0, 1), ())
    torch.testing.assert_close(output(ours), output(theirs, 2))  # the class is added in another order
    assert "all are dropped" in capsys.readouterr().out


def test_classes_without_names_are_said_to_be_the_same_or_refused(capsys):
    theirs = network(2)
    fitted(theirs, None, network(2, 1), ("cat", "dog"))
    assert "old does not name its 2 classes: they are assumed to be those of the data set" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="old has 2 classes without names, and the data set has 3"):
        fitted(theirs, None, network(3, 1), ("cat", "dog", "eel"))


def test_where_there_are_no_classes_the_networks_settings_say_so():
    images = load_dataset({"train": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}).train
    assert not _without_missing_classes(NETWORK, images).class_conditional


def train(images, labels, folder, init=None, network=NETWORK, **settings):
    return train_diffusion(
        load_dataset({"train": images}, labels={"train": labels} if labels else None),
        network=network,
        trainer=TrainerConfig(max_images=8, batch_size=8, accelerator="cpu"),
        quality_images=0,
        folder=folder,
        init=init,
        **settings,
    )


@pytest.mark.parametrize("source", ["first", "first/model.safetensors"])
def test_a_run_is_tuned_on_other_classes(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = train(images, ["cat", "dog"] * 6, "first")
    if source == "first/model.safetensors":
        Path("first/last.ckpt").unlink()
    capsys.readouterr()
    second = train(images, ["bee", "dog", "cat"] * 4, "second", init=source)
    assert "classes: kept cat, dog; new bee; dropped none" in capsys.readouterr().out
    assert second.class_names == ("bee", "cat", "dog")
    assert second.provenance["started_from"]["images_seen"] == first.provenance["images_seen"]
    told = "was trained on images of 1x8x8, and these are of 3x8x8: train on its colours"
    with pytest.raises(CheckpointError, match=told):
        train(images.expand(-1, 3, -1, -1), None, "third", init=source)
    wider = dataclasses.replace(NETWORK, channels=(16,))
    with pytest.raises(CheckpointError, match=r"do not fit .*they are of images of 1x8x8, these are of 1x6x6"):
        train(images[..., :6, :6], ["cat", "dog"] * 6, "third", init=source, network=wider)
    assert not Path("third").exists()
