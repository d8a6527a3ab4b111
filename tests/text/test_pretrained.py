"""Frozen text encoders of transformers: small random CLIP and T5 models, made here in the layout of the Hub."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from latentdiff import load, load_dataset, train_diffusion
from latentdiff.config import NetworkConfig, TrainerConfig
from latentdiff.errors import CheckpointError, ConfigError
from latentdiff.inference.engines.graphs import Graphs
from latentdiff.text.build import tokenizer_of_header
from latentdiff.text.pretrained import PretrainedText
from latentdiff.text.tokenizer import cut_captions

transformers = pytest.importorskip("transformers", reason="the extra text is not installed")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["a", "red", "blue", "green", "dress", "bag", "boot"]
CAPTIONS = ["a red dress", "a blue bag", "a green boot", "a red bag"]


def save_tokenizer(folder, begin, end, pad, longest):
    """A tokenizer of whole words in the layout of the Hub, with the special tokens of CLIP or of T5."""
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([pad, end, begin or end, "<unk>", *WORDS]))}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    single = f"{begin}:0 $A:0 {end}:0" if begin else f"$A:0 {end}:0"
    special = [(token, vocabulary[token]) for token in filter(None, dict.fromkeys([begin, end]))]
    inner.post_processor = tokenizers.processors.TemplateProcessing(single=single, special_tokens=special)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=begin,
        eos_token=end,
        pad_token=pad,
        unk_token="<unk>",
        model_max_length=longest,
    )
    made.save_pretrained(folder)
    return len(vocabulary), vocabulary[end]


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Folders of a CLIP, whose padding is its end token as in the published ones, and of a T5."""
    torch.manual_seed(0)
    clip, t5 = (tmp_path_factory.mktemp(name) for name in ("clip", "t5"))
    size, end = save_tokenizer(clip, "<start>", "<end>", "<end>", 12)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(
        vocab_size=size, max_position_embeddings=12, eos_token_id=end, bos_token_id=1, pad_token_id=end, **sizes
    )
    transformers.CLIPTextModel(config).save_pretrained(clip)
    size, end = save_tokenizer(t5, None, "</s>", "<pad>", 10**30)
    config = transformers.T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(t5)
    return {"clip": str(clip), "t5": str(t5)}


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_states_are_those_of_the_library(encoders, kind):
    text = PretrainedText(encoders[kind], captions=CAPTIONS)
    tokens = text.encode([*CAPTIONS, ""])
    states, keep = text.states(tokens)
    assert states.shape == (5, text.context, 16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoders[kind])
    model = {"clip": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel}[kind].from_pretrained(
        encoders[kind]
    )
    for caption, own, kept in zip([*CAPTIONS, ""], states, keep, strict=True):
        with torch.no_grad():
            wanted = model(**tokenizer(caption, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
        assert kept.tolist() == [True] * len(wanted) + [False] * (text.context - len(wanted))
        torch.testing.assert_close(own[: len(wanted)], wanted, rtol=1e-5, atol=1e-5)
        assert not own[len(wanted) :].any()


def test_each_distinct_caption_is_computed_once(encoders, monkeypatch):
    text = PretrainedText(encoders["t5"], captions=CAPTIONS)
    seen = []
    inner = text._encoder.forward
    monkeypatch.setattr(
        text._encoder, "forward", lambda **given: seen.append(len(given["input_ids"])) or inner(**given)
    )
    for _ in range(3):
        text.states(text.encode(CAPTIONS * 2))
    assert seen == [len(CAPTIONS)]
    assert copy.deepcopy(text) is text


def test_what_is_kept_is_bounded(encoders, monkeypatch):
    text = PretrainedText(encoders["t5"], context=4)
    monkeypatch.setattr("latentdiff.text.pretrained.BATCH", 2)
    monkeypatch.setattr("latentdiff.text.pretrained.MOST_KEPT_BYTES", 1)
    text.states(text.encode(CAPTIONS))
    assert len(text._kept) == 2


def test_long_captions_keep_their_end(encoders):
    text = PretrainedText(encoders["clip"], context=4)
    long = "a red dress a blue bag"
    assert cut_captions(text, [long, "a bag"]) == [long]
    end = text.encode(["a"])[0, 2]
    assert text.encode([long])[0, 3] == end
    assert PretrainedText(encoders["clip"], captions=["a " * 50]).context == 12
    with pytest.raises(ConfigError, match="takes 12 tokens at most"):
        PretrainedText(encoders["clip"], context=13)
    assert PretrainedText(encoders["t5"], captions=["a " * 50]).context == 51


@pytest.mark.slow
def test_a_training_with_a_frozen_encoder(encoders, tmp_path):
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = load_dataset({"train": images, "val": images[:8]}, captions={"train": CAPTIONS * 8, "val": CAPTIONS * 2})
    shape = {"channels": (8, 8), "num_res_blocks": 1, "attention_levels": (1,), "head_channels": 8}
    trained = train_diffusion(
        data,
        network=NetworkConfig(**shape, text=f"transformers:{encoders['clip']}"),
        trainer=TrainerConfig(max_images=32, batch_size=16, accelerator="cpu", num_threads=1, memory="auto"),
        validation_images=8,
        quality_images=0,
        folder=tmp_path / "run",
    )
    names = trained.network.state_dict()
    assert {name for name in names if name.startswith("text.")} == {"text.norm.weight", "text.norm.bias"}
    file = tmp_path / "run" / "model.safetensors"
    again = load(file)
    asked = {"prompt": ["a red boot", ""], "negative_prompt": "a bag", "guidance_scale": 2.0, "steps": 2}
    assert torch.equal(again.sample(2, **asked), trained.sample(2, **asked))
    header = again.header["text"]
    assert header == again.network.tokenizer.header()
    with pytest.raises(CheckpointError, match="is not the text encoder that the model was trained with"):
        tokenizer_of_header({**header, "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="is not the text encoder that the model was trained with"):
        tokenizer_of_header({**header, "name": encoders["t5"]})
    with pytest.raises(ConfigError, match="has no ONNX graph"):
        Graphs(again.network, None, (1, 8, 8)).get("network")


def test_what_is_no_text_encoder_is_refused(encoders, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        PretrainedText(str(tmp_path / "nothing"))
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is a bert, which is no text encoder"):
        PretrainedText(str(tmp_path / "bert"))
    with pytest.raises(ConfigError, match="names an encoder"):
        PretrainedText("")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'latentdiff\[text\]'"):
        PretrainedText(encoders["clip"])
