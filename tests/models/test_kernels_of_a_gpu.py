"""What a pretended GPU is asked for in bf16: convolutions with channels last, attention as flash kernels take it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentdiff.config import AutoencoderConfig, NetworkConfig
from latentdiff.models import conditioning, layers, memory_layout
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from tests.pretend_device import PretendDevice

NETWORK = NetworkConfig(channels=(32, 64), num_res_blocks=1, attention_levels=(0, 1), head_channels=16)
CODEC = AutoencoderConfig(channels=(32, 64), encoder_blocks=1, decoder_blocks=1, patch=2)


def like_cudnn(maps):
    """A hook of convolutions that notes its maps, and answers in their layout: the pretended kernels know one alone."""

    def note(module, given, out):
        maps.append(given[0])
        return out.contiguous(memory_format=torch.channels_last) if memory_layout.is_channels_last(given[0]) else out

    return note


def run(dtype, monkeypatch):
    """A pass of the U-Net and of the autoencoder: layouts of the convolutions' inputs, what attention was given."""
    # Autocast does not know the pretended GPU: the weights, and what meets them first, are in bf16 themselves.
    embedding = conditioning.sinusoidal_embedding
    monkeypatch.setattr(conditioning, "sinusoidal_embedding", lambda *inputs: embedding(*inputs).to(dtype))
    attended, attention = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        layers.F,
        "scaled_dot_product_attention",
        lambda *given, **more: (attended.append((given, more)), attention(*given, **more))[1],
    )
    gpu, maps = PretendDevice("cuda"), []
    unet = gpu.module(build_network(3, 5, NETWORK).to(dtype))
    autoencoder = gpu.module(Autoencoder((3, 32, 32), CODEC).to(dtype))
    for module in [*unet.modules(), *autoencoder.modules()]:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(like_cudnn(maps))
    x = gpu.tensor(torch.zeros(4, 3, 16, 16, dtype=dtype))
    time, labels = gpu.tensor(torch.zeros(4)), gpu.tensor(torch.zeros(4, dtype=torch.long))
    with gpu.entered():
        results = [unet(x, time, labels), autoencoder.encode(gpu.tensor(torch.zeros(4, 3, 32, 32, dtype=dtype)))]
        results.append(autoencoder.decode(gpu.tensor(torch.zeros(4, 4, 8, 8, dtype=dtype)[:, :2])))
    assert all(result.is_contiguous() for result in results)
    return maps, attended


def test_convolutions_work_with_channels_last_in_bf16_and_not_in_fp32(monkeypatch):
    maps, _ = run(torch.bfloat16, monkeypatch)
    assert len(maps) > 40
    assert all(memory_layout.is_channels_last(given) for given in maps)
    maps, _ = run(torch.float32, monkeypatch)
    assert not any(memory_layout.is_channels_last(given) for given in maps)


def test_under_a_compiler_layouts_are_its_own_choice(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    maps, _ = run(torch.bfloat16, monkeypatch)
    assert not any(memory_layout.is_channels_last(given) for given in maps)


def test_autocast_counts_as_bf16(monkeypatch):
    x = PretendDevice("cuda").tensor(torch.zeros(2, 3, 4, 4))
    assert not memory_layout.is_channels_last(memory_layout.to_convolution_layout(x))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    assert memory_layout.is_channels_last(memory_layout.to_convolution_layout(x))


def test_attention_is_asked_for_as_the_flash_kernel_takes_it(monkeypatch):
    """That kernel wants 16 bits, no mask, heads of a multiple of 8 and at most 256 channels, side by side in memory."""
    _, attended = run(torch.bfloat16, monkeypatch)
    assert len(attended) == 7 + 2  # of the U-Net, and of the autoencoder
    for (q, k, v), more in attended:
        assert not more
        for tensor in (q, k, v):
            assert (tensor.dtype, tensor.ndim, tensor.device.type) == (torch.bfloat16, 4, "cuda")
            assert tensor.is_contiguous()
            assert tensor.shape[-1] % 8 == 0
            assert tensor.shape[-1] <= 256


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_flash_attention_alone_gives_what_products_give(layout):
    """torch's flash kernel for CPUs has the same conditions on shapes. No other kernel is allowed here."""
    torch.manual_seed(0)
    qkv = torch.randn(2, 3 * 64, 8, 8).to(memory_format=layout)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = layers.fused_attention(qkv, 2)
    torch.testing.assert_close(found, layers.matmul_attention(qkv, 2), rtol=1e-4, atol=1e-5)
