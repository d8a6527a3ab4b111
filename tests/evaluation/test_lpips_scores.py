from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from latentdiff.errors import CheckpointError
from latentdiff.evaluation.lpips_scores import PAIRS, diversity, find_lpips, lpips_between
from latentdiff.models.lpips import LPIPS


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    state = torchvision.models.alexnet(weights=None).state_dict()
    return LPIPS({name: tensor for name, tensor in state.items() if "features" in name}, "alexnet", 64)


def test_equal_images_are_at_no_distance_and_unequal_ones_at_some(net):
    images = torch.randint(0, 256, (5, 1, 12, 12), dtype=torch.uint8)
    other = images.clone()
    other[3] = 255 - other[3]
    found = lpips_between(net, images, other, batch_size=2)
    assert found.shape == (5,)
    assert found[3] > 0
    assert found[[0, 1, 2, 4]].abs().max() == 0


@pytest.mark.parametrize("counts", [(4, 4, 4), (3, 5, 1, 7)])
def test_diversity_compares_within_classes_only(net, counts):
    # The images of a class are all the same: whatever is above 0 would be a pair across two classes.
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels))]
    patterns = torch.randint(0, 256, (len(counts), 1, 12, 12), dtype=torch.uint8)
    found = diversity(net, patterns[labels], labels)
    assert found["mean"] == 0
    assert found["pairs"] >= 2
    assert diversity(net, patterns[labels], None)["mean"] > 0


def test_diversity_of_too_few_images_is_none_and_pairs_are_capped(net, monkeypatch):
    images = torch.randint(0, 256, (9, 1, 12, 12), dtype=torch.uint8)
    assert diversity(net, images[:3], None) is None
    assert diversity(net, images, torch.arange(9)) is None
    monkeypatch.setattr("latentdiff.evaluation.lpips_scores.PAIRS", 3)
    assert diversity(net, images, None)["pairs"] == 3
    assert PAIRS >= 100


def test_a_trunk_of_another_net_is_named_with_its_file(tmp_path, monkeypatch, device):
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "alexnet_features.safetensors")
    monkeypatch.setenv("LATENTDIFF_LPIPS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"alexnet_features\.safetensors \(SHA-256 [0-9a-f]{12}\) do not fit"):
        find_lpips(device)
