"""Models that read captions, exported: the graph takes tokens, and sample.py and the page make them of words."""

from __future__ import annotations

import pytest
import torch

from latentdiff import load
from latentdiff.digest import read_json
from latentdiff.errors import ConfigError
from latentdiff.export import web_folder
from latentdiff.inference.prompts import check_negative
from latentdiff.inference.request import SamplingRequest
from latentdiff.stages import export
from latentdiff.text.vocabulary import Vocabulary
from tests.export.node_program import run_module
from tests.export.test_onnx_folder import assert_same_images, drawn, sample_module

PROMPTS = ["a red dress", "A BLUE café-bag, new!", "", "帽子 🙂 it's", "Cafe\u0301 50%", "a " * 40]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, reading_model):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("reading")
    reading_model.save(folder / "words.safetensors")
    export.main([str(folder / "words.safetensors"), "--to=onnx", "--steps=[3]", f"--run.folder={folder / 'onnx'}"])
    return folder


@pytest.mark.slow
def test_sample_py_reads_the_same_words(exported):
    model = load(exported / "words.safetensors")
    theirs = sample_module(exported / "onnx").Model(exported / "onnx")
    for prompt in PROMPTS:
        assert theirs.tokens(prompt) == model.network.tokenizer.encode([prompt])[0].tolist()
    assert theirs.settings["captions"] == list(model.captions)
    assert "[n, 8], tokens" in (exported / "onnx" / "README.md").read_text()


@pytest.mark.slow
def test_sample_py_draws_the_same_images(exported, tmp_path):
    model = load(exported / "words.safetensors")
    flags = ["--num-images", "4", "--seed", "5"]
    guided = ["--prompt", "a red dress", "--negative-prompt", "a blue bag", "--guidance-scale", "2"]
    asked = {"prompt": "a red dress", "negative_prompt": "a blue bag", "guidance_scale": 2.0}
    assert_same_images(drawn(exported / "onnx", tmp_path, *flags, *guided), model.sample(4, steps=3, seed=5, **asked))
    assert_same_images(drawn(exported / "onnx", tmp_path, *flags), model.sample(4, steps=3, seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["0", "1"])
def test_sample_py_refuses_a_negative_prompt_that_guidance_would_not_heed(exported, scale, monkeypatch):
    words = ["--prompt", "a bag", "--negative-prompt", "a dress"]
    monkeypatch.setattr("sys.argv", ["sample.py", *words, "--guidance-scale", scale])
    with pytest.raises(SystemExit, match="does nothing at --guidance-scale 0 and 1"):
        sample_module(exported / "onnx").main()


@pytest.mark.slow
def test_the_graph_takes_any_number_of_captions(exported):
    model = load(exported / "words.safetensors")
    graph = load(exported / "words.safetensors", engine="onnxruntime")
    for count in (1, 3):
        asked = {"prompt": PROMPTS[:count], "guidance_scale": 2.0, "steps": 2}
        apart = graph.sample(count, **asked).int() - model.sample(count, **asked).int()
        assert apart.abs().max() <= 1


@pytest.mark.slow
def test_the_page_has_the_vocabulary(monkeypatch, exported, tmp_path):
    monkeypatch.setattr(web_folder, "runtime_files", lambda source: {"onnxruntime/ort.js": b"//"})
    export.main([str(exported / "words.safetensors"), "--to=web", f"--run.folder={tmp_path / 'page'}"])
    record, _ = read_json(tmp_path / "page" / "page.json")
    assert record["models"][0]["text"]["context"] == 8
    assert len(record["models"][0]["text"]["words"]) == 8


def test_the_page_reads_the_same_words(tmp_path):
    vocabulary = Vocabulary.of_captions(["a red dress", "it's a café"], context=30)
    model = {"text": vocabulary.header(), "null_label": 0, "captions": ["a red dress", "a"]}
    code = """
    const { tokensOf, tokensCut, newWords, nullLabelOf } = await module("words");
    const { labelsOf } = await module("models");
    const [model, prompts] = given;
    return [prompts.map((prompt) => tokensOf(model, prompt)), prompts.map((prompt) => newWords(model, prompt)),
      nullLabelOf(model), labelsOf(model, "turn", 3), labelsOf(model, "turn", 2, "red"),
      prompts.map((prompt) => tokensCut(model, prompt))];
    """
    tokens, new, none, turns, asked, cut = run_module(code, [model, PROMPTS], tmp_path)
    lengths = [vocabulary.count(prompt) for prompt in PROMPTS]
    assert cut == [max(0, length - 30) for length in lengths]
    assert any(cut)
    assert tokens == vocabulary.encode(PROMPTS).tolist()
    assert new == [vocabulary.unknown_words(prompt) for prompt in PROMPTS]
    assert none == [0] * 30
    assert turns == vocabulary.encode(["a red dress", "a", "a red dress"]).tolist()
    assert asked == vocabulary.encode(["red", "red"]).tolist()


def test_guidance_in_the_page_leaves_the_caption_out(tmp_path):
    """A network that gives the sum of an image's tokens: with guidance it is scale times that of the prompt."""
    code = """
    const { denoiser } = await module("denoiser");
    const model = { target: "x0", sigma_data: 1, null_label: 0, text: { context: 3 }, graphs: { decoder: {} } };
    const network = async (x, time, labels) =>
      Float32Array.from(labels.flatMap((row) => Array(2).fill(row.reduce((a, b) => a + b, 0))));
    const denoise = denoiser(model, network, [[1, 2, 3], [4, 0, 0]], given);
    return Array.from(await denoise(new Float32Array(4), { alpha: 1, sigma: 1, time: 0 }));
    """
    for scale in (1.0, 0.0, 2.5):
        found = run_module(code, scale, tmp_path)
        torch.testing.assert_close(torch.tensor(found).float(), scale * torch.tensor([6.0, 6.0, 4.0, 4.0]))


def test_the_page_refuses_a_negative_prompt_that_guidance_would_not_heed(tmp_path):
    """As Python does: at guidance 0 and 1, and nowhere else. An empty one is none."""
    code = """
    const { negativeOf, tokensOf } = await module("words");
    const model = { text: { words: ["a", "bag"], context: 3 }, null_label: 0 };
    const attempt = (prompt, scale) => {
      try { return negativeOf(model, prompt, scale); } catch (error) { return error.message; }
    };
    return [attempt("a bag", 2.5), attempt(" ", 1), attempt("a bag", 1), attempt("a bag", 0),
      negativeOf({ null_label: 7 }, "a bag", 1), tokensOf(model, "a bag")];
    """
    heeded, empty, one, zero, of_classes, tokens = run_module(code, None, tmp_path)
    assert heeded == tokens == [257, 258, 0]
    assert empty == [0, 0, 0]
    for scale, said in ((1, one), (0, zero)):
        assert said == f"The negative prompt does nothing at guidance {scale}: use more than 1, such as 2."
        request = SamplingRequest(num_images=1, prompt="a", negative_prompt="a bag", guidance_scale=scale)
        with pytest.raises(ConfigError, match=f"does nothing at guidance_scale {scale}: use more than 1, such as 2"):
            check_negative(request)
    assert of_classes == 7
