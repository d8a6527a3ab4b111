"""Tests run on the CPU, without a network, in a folder of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Relative paths of a run fall into the test's own folder; the user's data and weights are not seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("LATENTDIFF_DATA", "LATENTDIFF_LPIPS", "LATENTDIFF_INCEPTION"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """An Inception of random weights, written in torch-fidelity's names."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "random.pth"

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **kwargs):
            """Keep the random weights; there is no file to read them from yet."""

    empty = path.with_name("empty.pth")
    torch.save({}, empty)
    net = Blank("random", ["64"], feature_extractor_weights_path=empty)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # else the signal dies on its way
    torch.save(net.state_dict(), path)
    return path
