"""The page in headless Chromium: it sorts, shows a class, says nothing on the console and fits three widths."""

from __future__ import annotations

import pytest
import torch

from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.evaluation_pictures import write_classes, write_denoising, write_neighbours, write_originals
from latentdiff.report.page import write_report
from latentdiff.report.table import COLUMNS, build_table

PAPER = 1016  # CSS pixels of a sheet of A4 on its side between margins of 14 mm: 269 mm.
READABLE = 7 * 96 / 72  # Pixels of 7 points.


@pytest.fixture
def page_file(full, tmp_path):
    names, images = ("T-shirt", "Bag"), torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    evaluations = {folder.name: read_evaluation(folder) for folder in full}
    assert build_table(list(evaluations.values())).columns == COLUMNS
    for name in ("pixel", "latent"):
        folder = evaluations[name].folder
        pictures = {"classes": write_classes(folder, images, torch.arange(40) % 2, names)}
        near = images[:30].unflatten(0, (10, 3))
        pictures["neighbours"] = write_neighbours(folder, images[:10], near, [0.5] * 10, [9.5] * 10)
        pictures |= write_denoising(folder, list(images[:8].expand(5, -1, -1, -1, -1)))
        evaluations[name].values["pictures"] = pictures
    originals = write_originals(evaluations["autoencoder"].folder, images, images)
    evaluations["autoencoder"].values["pictures"] = {"originals": originals}
    return write_report(list(evaluations.values()), tmp_path / "report")


def test_the_page_sorts_picks_a_class_fits_and_is_silent(page_file, browser):
    said = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(page_file.as_uri())

    tables = page.locator("table")

    def order(index):
        return [text.split("\n")[0] for text in tables.nth(index).locator("tbody th").all_inner_texts()]

    first = ["noise", "gaussian", "vae_baseline", "pixel", "latent", "latent-20480-images", "autoencoder"]
    assert order(0) == [*first, "real images"]
    fid = tables.nth(0).locator("thead button").nth(1)
    fid.click()
    upwards = ["real images", "autoencoder", "latent", "latent-20480-images", "pixel", "vae_baseline", "gaussian"]
    assert order(0) == [*upwards, "noise"]
    fid.click()
    assert order(0) == ["noise", *upwards[::-1]]
    assert tables.nth(0).locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
    # The other tables are as they were, and sort by themselves.
    assert [order(index) for index in (1, 2)] == [first, first[2:]]
    tables.nth(2).locator("thead button").first.click()
    assert order(2) == sorted(first[2:])
    assert order(0) == ["noise", *upwards[::-1]]

    sheet = page.locator(".sheet img").first
    before = sheet.evaluate(
        "image => image.getBoundingClientRect().top - image.parentElement.getBoundingClientRect().top"
    )
    page.select_option("#class", "Bag")
    after = sheet.evaluate(
        "image => image.getBoundingClientRect().top - image.parentElement.getBoundingClientRect().top"
    )
    assert (before, after) == (0, -58)

    # Dark: no text in its ground's colour.
    colours = "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colours)
    assert dark[0] != dark[1]
    assert dark != light
    page.emulate_media(color_scheme="light")

    broken = "() => [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    for width in (360, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("() => document.scrollingElement.scrollWidth") <= width
    # A table that is wider than a phone scrolls in its own box, and all of them fit a sheet at a size one can read.
    page.set_viewport_size({"width": PAPER, "height": 700})
    page.emulate_media(media="print")
    assert page.evaluate("() => document.scrollingElement.scrollWidth") <= PAPER
    size = "cell => parseFloat(getComputedStyle(cell).fontSize)"
    assert min(cell.evaluate(size) for cell in page.locator("td, tbody small").all()) >= READABLE
    assert said == []
