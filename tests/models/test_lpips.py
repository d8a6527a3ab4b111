from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from latentdiff.errors import CheckpointError
from latentdiff.models import lpips as perceptual_module
from latentdiff.models.lpips import LPIPS, load_trunk_weights


def trunk(net):
    import torchvision

    model = getattr(torchvision.models, net)(weights=None)
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("features.")}


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_perceptual_distance_uses_the_given_trunk_and_has_a_gradient(net, tmp_path):
    weights = trunk(net)
    save_file(weights, tmp_path / "trunk.safetensors")
    loss = LPIPS(load_trunk_weights(net, str(tmp_path / "trunk.safetensors")), net, min_side=32)
    x = torch.rand(2, 1, 16, 16, requires_grad=True)
    assert loss(x, x.detach()).item() == 0
    loss(x, torch.rand(2, 1, 16, 16)).backward()
    assert x.grad.abs().sum() > 0
    convolutions = [m for m in loss.distance.net.modules() if isinstance(m, torch.nn.Conv2d)]
    given = [tensor for name, tensor in weights.items() if name.endswith("weight")]
    assert all(torch.equal(a.weight, b) for a, b in zip(convolutions, given, strict=True))
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_trunk_is_absent_without_file_or_network_and_bad_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual_module, "server_answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert load_trunk_weights("vgg16", None) is None
    with pytest.raises(CheckpointError, match="there is no LPIPS trunk"):
        load_trunk_weights("vgg16", str(tmp_path / "absent.pth"))
    (tmp_path / "bad.pth").write_bytes(b"bad")
    with pytest.raises(CheckpointError, match=r"bad\.pth \(SHA-256 [0-9a-f]{12}\) cannot be read") as caught:
        load_trunk_weights("vgg16", str(tmp_path / "bad.pth"))
    assert "weights_only" not in str(caught.value)
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors \(SHA-256 [0-9a-f]{12}\) has no tensors named"):
        load_trunk_weights("vgg16", str(tmp_path / "other.safetensors"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="has no tensors named"):
        load_trunk_weights("vgg16", str(tmp_path / "list.pth"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "0.weight is 64x3x3x3, and should be 64x3x11x11"),
        ({"features.3.bias": None}, "3.bias is absent, and should be 192"),
        ({"features.13.bias": torch.zeros(1)}, "13.bias is 1, and should be absent"),
    ],
)
def test_a_trunk_that_does_not_fit_is_named_with_what_is_wrong(tmp_path, change, reason):
    weights = {name: tensor for name, tensor in (trunk("alexnet") | change).items() if tensor is not None}
    save_file(weights, tmp_path / "misfit.safetensors")
    with pytest.raises(CheckpointError, match=rf"misfit\.safetensors \(SHA-256 [0-9a-f]{{12}}\) do not fit.*{reason}"):
        load_trunk_weights("alexnet", str(tmp_path / "misfit.safetensors"))


def test_each_pair_has_its_own_distance(tmp_path):
    net = LPIPS(trunk("alexnet"), "alexnet", min_side=64)
    x, y = torch.rand(3, 3, 32, 32) * 2 - 1, torch.rand(3, 3, 32, 32) * 2 - 1
    each = net.per_image(x, y)
    assert each.shape == (3,)
    torch.testing.assert_close(each[1], net(x[1:2], y[1:2]))
    torch.testing.assert_close(each.mean(), net(x, y))


@pytest.mark.parametrize("net", ["alexnet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_the_distance_between_features_is_that_of_the_lpips_package(net):
    own = LPIPS(trunk(net), net, min_side=32)
    x, y = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    features = own.features(x)
    assert [maps.shape[1] for maps in features] == own.widths
    torch.testing.assert_close(own.distance_of_features(features, own.features(y)), own.distance(x, y).flatten())
