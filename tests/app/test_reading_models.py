"""Models that are asked in words, in the studio and in the page."""

from __future__ import annotations

import shutil

import pytest
import torch

pytest.importorskip("gradio")
from latentdiff.app.catalogue import Catalogue
from latentdiff.app.page import build_page
from latentdiff.app.serve import running
from latentdiff.app.studio import NO_CLASS, Studio
from latentdiff.config.model_stages import AppStage
from latentdiff.errors import ConfigError
from latentdiff.inference.noising import reconstruct

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
USUAL = {"label": None, "num_images": 2, "steps": 2, "guidance_scale": 2.0, "sampler": "dpmpp_2m", "seed": 7}


@pytest.fixture(scope="module")
def words(reading_model, tiny_model_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("reading") / "words.safetensors"
    reading_model.save(path)
    return Studio(AppStage(), Catalogue([str(path), str(tiny_model_file)]))


def drawn(studio, *moments):
    *_, last = moments
    return studio.kept.get(last.token)


def test_a_prompt_draws_what_sample_draws(words, reading_model):
    asked = {"prompt": " a red kimono ", "negative_prompt": "a bag"}
    drawing = drawn(words, *words.draw("words", **USUAL, **asked))
    wanted = reading_model.sample(2, **asked, steps=2, guidance_scale=2.0, seed=7)
    assert torch.equal(drawing.images, wanted)
    assert drawing.title.startswith("words: “a red kimono” (new to the model: kimono), seed 7")
    nothing = drawn(words, *words.draw("words", **{**USUAL, "guidance_scale": 1.0}, prompt="", negative_prompt=" "))
    assert torch.equal(nothing.images, reading_model.sample(2, steps=2, seed=7))
    assert "captions of its training" in nothing.title


def test_what_a_model_of_classes_is_told_stays(words):
    moments = list(words.draw("tiny", **{**USUAL, "label": "Dress"}, prompt="a dress", negative_prompt="x"))
    assert "Dress" in words.kept.get(moments[-1].token).title
    assert not words.reads("tiny")
    assert words.reads("words")


@pytest.mark.parametrize("prompt", ["x" * 501, 7])
def test_a_prompt_that_is_none_is_refused(words, prompt):
    with pytest.raises(ConfigError, match="the prompt"):
        next(words.draw("words", **USUAL, prompt=prompt))


@pytest.mark.slow
def test_given_images_are_told_in_words(words, reading_model):
    assert words.classes_of_image("words")[:2] == [NO_CLASS, "a red dress"]
    image = words.look("words", None, 1)
    assert torch.equal(image, reading_model.sample(1, prompt="a blue bag", seed=1, steps=20))
    pages = [words.reconstruct("words", None, label, 0.5, 2, 1) for label in ("a red boot", NO_CLASS)]
    assert pages[0] != pages[1]
    again = reconstruct(reading_model, image, (0.5,), prompt="a red boot", steps=2, seed=1)
    assert again.shape == (1, 1, 3, 8, 8)
    assert words.fill("words", None, "Left half", None, "a red boot", 1, 2, 0)
    assert words.between("words", None, None, 3, "a red boot", 2, 0)


@pytest.mark.slow
def test_the_page_has_a_box_for_words_where_the_model_reads(words):
    blocks = [block for block in build_page(words).blocks.values() if getattr(block, "elem_id", "") == "prompt"]
    assert [block.visible for block in blocks] == [True]
    assert "a red dress" in blocks[0].placeholder
    assert "It reads 8 words" in words.catalogue.get("words").facts


@pytest.mark.slow
def test_a_prompt_in_a_browser(words):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with running(AppStage(), words) as address, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#picture img")
        page.locator("#prompt textarea, #prompt input").fill("a blue bag")
        page.locator("#prompt textarea, #prompt input").press("Enter")
        page.wait_for_function("document.querySelector('#picture figcaption')?.textContent.includes('a blue bag')")
        page.locator("#model input").click()
        page.get_by_role("option", name="tiny").click()
        page.wait_for_selector("#prompt", state="hidden")
        browser.close()
