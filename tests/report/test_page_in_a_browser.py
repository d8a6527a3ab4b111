"""The page in headless Chromium: it sorts, shows a class, says nothing on the console and fits three widths."""

from __future__ import annotations

import shutil

import pytest
import torch

from latentdiff.report import read_evaluation, write_report
from latentdiff.report.evidence import write_classes, write_denoising, write_neighbours, write_originals

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# As root, which a container's user is, Chromium has no sandbox; and it is to look nothing up.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def page_file(write, tmp_path):
    names, images = ("T-shirt", "Bag"), torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    folders = {
        "pixel": write("pixel", "diffusion", 14.2, 2700.0),
        "latent": write("latent", "diffusion", 9.9, 1200.0, 1500.0),
        "autoencoder": write("autoencoder", "reconstruction", 7.9, 1500.0),
    }
    evaluations = {name: read_evaluation(folder) for name, folder in folders.items()}
    for name in ("pixel", "latent"):
        pictures = {"classes": write_classes(folders[name], images, torch.arange(40) % 2, names)}
        near = images[:30].unflatten(0, (10, 3))
        pictures["neighbours"] = write_neighbours(folders[name], images[:10], near, [0.5] * 10, [9.5] * 10)
        pictures |= write_denoising(folders[name], list(images[:8].expand(5, -1, -1, -1, -1)))
        evaluations[name].values["pictures"] = pictures
    originals = write_originals(folders["autoencoder"], images, images)
    evaluations["autoencoder"].values["pictures"] = {"originals": originals}
    return write_report(list(evaluations.values()), tmp_path / "report")


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def test_the_page_sorts_picks_a_class_fits_and_is_silent(page_file, browser):
    said = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(page_file.as_uri())

    def order():
        return [text.split("\n")[0] for text in page.locator("tbody th").all_inner_texts()]

    assert order() == ["pixel", "latent", "autoencoder", "real images"]
    fid = page.locator("thead button").nth(1)
    fid.click()
    assert order() == ["real images", "autoencoder", "latent", "pixel"]
    fid.click()
    assert order() == ["pixel", "latent", "autoencoder", "real images"]
    assert page.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"

    sheet = page.locator(".sheet img").first
    before = sheet.evaluate(
        "image => image.getBoundingClientRect().top - image.parentElement.getBoundingClientRect().top"
    )
    page.select_option("#class", "Bag")
    after = sheet.evaluate(
        "image => image.getBoundingClientRect().top - image.parentElement.getBoundingClientRect().top"
    )
    assert (before, after) == (0, -58)

    # Dark, and on paper: no text in its ground's colour, and nothing beyond the sheet.
    colours = "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colours)
    assert dark[0] != dark[1]
    assert dark != light
    page.emulate_media(color_scheme="light", media="print")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(media="screen")

    broken = "() => [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    for width in (360, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("() => document.scrollingElement.scrollWidth") <= width
    assert said == []
