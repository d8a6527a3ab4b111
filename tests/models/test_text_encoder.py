"""Networks that read captions: cross-attention, masks, and what an empty caption is."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from latentdiff.config import NetworkConfig
from latentdiff.errors import ConfigError
from latentdiff.models.cross_attention import CrossAttention
from latentdiff.models.network import build_network
from latentdiff.models.text_encoder import TextEncoder, TextStates, masked_attention
from latentdiff.text.vocabulary import Vocabulary

CONFIG = NetworkConfig(channels=(16, 32), num_res_blocks=1, attention_levels=(1,), head_channels=16, text="own")
WORDS = Vocabulary.of_captions(["a red dress", "a blue bag"], context=6)
X = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))
TIME = torch.tensor([3.0, 500.0])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = build_network(2, 10, CONFIG, tokenizer=WORDS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def test_masked_attention_is_torchs():
    q, k = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    v, keep = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]])
    wanted = F.scaled_dot_product_attention(
        *(each.unflatten(-1, (2, 4)).transpose(1, 2) for each in (q, k, v)), attn_mask=keep[:, None, None]
    )
    torch.testing.assert_close(masked_attention(q, k, v, keep, 2), wanted.transpose(1, 2).flatten(2))


def test_padding_is_of_no_account(network):
    longer = Vocabulary(WORDS.words, 12)
    other = build_network(2, 10, CONFIG, tokenizer=longer)
    state = network.state_dict()
    positions = torch.cat([state["text.positions"], torch.full((6, 32), 9.0)])
    other.load_state_dict({**state, "text.positions": positions})
    captions = ["a red dress", ""]
    torch.testing.assert_close(
        other.eval()(X, TIME, longer.encode(captions)), network(X, TIME, WORDS.encode(captions)), rtol=1e-4, atol=1e-5
    )


def test_the_output_depends_on_the_words_and_not_on_the_neighbour(network):
    tokens = WORDS.encode(["a red dress", "a blue bag"])
    whole = network(X, TIME, tokens)
    assert not torch.allclose(whole, network(X, TIME, WORDS.encode(["a blue dress", "a blue bag"]))[:2])
    assert not torch.allclose(whole[0], network(X, TIME, WORDS.encode(["dress red a", "a blue bag"]))[0], atol=1e-4)
    torch.testing.assert_close(network(X[1:], TIME[1:], tokens[1:]), whole[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [(), (0, 1)])
def test_every_parameter_can_learn(levels):
    config = NetworkConfig(**{**vars(CONFIG), "attention_levels": levels})
    made = build_network(2, 0, config, tokenizer=WORDS).train()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    made(X, TIME, WORDS.encode(["a red é", ""])).square().mean().backward()
    assert not [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    crossed = [module for module in made.modules() if isinstance(module, CrossAttention)]
    assert len(crossed) == {0: 1, 2: 7}[len(levels)]


def test_untrained_cross_attention_changes_nothing():
    layer, x = CrossAttention(16, 8, 8), torch.randn(1, 16, 3, 3)
    assert torch.equal(layer(x, TextStates(torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool))), x)


def test_channels_last_gives_the_same():
    layer = CrossAttention(16, 8, 8)
    torch.nn.init.normal_(layer.out.weight)
    x, text = torch.randn(2, 16, 3, 4), TextStates(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool))
    other = layer(x.contiguous(memory_format=torch.channels_last), text)
    torch.testing.assert_close(other, layer(x, text))


def test_the_mean_leaves_padding_out():
    keep = torch.tensor([[True, False], [True, True]])
    states = torch.tensor([[[2.0], [8.0]], [[2.0], [8.0]]])
    assert TextStates(states, keep).mean().tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize("width", [16, 72, 200])
def test_any_width_has_heads(width):
    assert TextEncoder(300, 4, width)(torch.zeros(2, 4, dtype=torch.long)).states.shape == (2, 5, width)


def test_what_does_not_go_together_is_refused():
    small = {"architecture": "resnet", "channels": (16,), "attention_levels": ()}
    with pytest.raises(ConfigError, match="only the architecture unet"):
        build_network(2, 0, NetworkConfig(**{**vars(CONFIG), **small}), tokenizer=WORDS)
    with pytest.raises(ConfigError, match="conditioning none"):
        build_network(2, 0, NetworkConfig(**{**vars(CONFIG), "conditioning": "none"}), tokenizer=WORDS)
    with pytest.raises(ConfigError, match="tokenizer"):
        build_network(2, 0, CONFIG)
    with pytest.raises(ConfigError, match="none, own or transformers"):
        NetworkConfig(text="clip")
    with pytest.raises(ConfigError, match="token ids"):
        build_network(2, 0, CONFIG, tokenizer=WORDS)(X, TIME, torch.zeros(2, dtype=torch.long))


def test_a_copy_reads_with_the_same_vocabulary(network):
    assert copy.deepcopy(network).tokenizer.words == WORDS.words
