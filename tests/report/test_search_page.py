"""The page of a search: its figures, its table, and what it says of the result."""

from __future__ import annotations

import random
import re
import shutil

import pytest

from latentdiff.report.search_figures import _place, history, importance, parallel_coordinates
from latentdiff.report.search_page import finding, search_page, sentences, trial_sentence

SPACE = {
    "trainer.lr": {"low": 1e-4, "high": 1e-2, "log": True, "step": None},
    "network.num_res_blocks": {"low": 1, "high": 3, "log": False, "step": None},
    "network.channels": {"choices": {"[32, 64]": {"network.channels": [32, 64]}, "[64, 96]": {}}},
    "process": {"choices": {"v": {}, "edm": {"diffusion.target": "edm"}}},
}


def trial(number, numbers, state="complete", why=None):
    values = {
        "trainer.lr": 10 ** numbers.uniform(-4, -2),
        "network.num_res_blocks": numbers.randint(1, 3),
        "network.channels": numbers.choice(["[32, 64]", "[64, 96]"]),
        "process": numbers.choice(["v", "edm"]),
    }
    value = 0.3 + abs(values["trainer.lr"] - 2e-3) * 50 + numbers.random() / 10
    return {
        "number": number,
        "state": state,
        "values": values,
        "settings": {"trainer.lr": values["trainer.lr"], "network.channels": [32, 64]},
        "looks": {} if why else {"1": 2 * value, "2": value},
        "value": value if state == "complete" else None,
        "why": why,
        "is_first": number == 0,
        "facts": {} if why else {"images_seen": 20_480, "seconds": 11.9, "parameters": 2_092_450},
    }


def made_record(count=30):
    numbers = random.Random(0)
    states = ["pruned" if number % 4 == 3 else "complete" for number in range(count)]
    trials = [trial(number, numbers, state) for number, state in enumerate(states)]
    trials.append(trial(count, numbers, "failed", "48 channels <b>cannot</b> be divided"))
    whole = [each for each in trials if each["state"] == "complete"]
    return {
        "name": "sweep",
        "data": "fashion-mnist",
        "metric": "distance",
        "num_images": 500,
        "budget": {"amount": 60.0, "unit": "seconds"},
        "trials_wanted": 40,
        "sampler": "tpe",
        "pruner": "median",
        "looks": 4,
        "seed": 0,
        "space": SPACE,
        "best": min(whole, key=lambda each: each["value"])["number"] if whole else None,
        "importance": {"trainer.lr": 0.7, "process": 0.2, "network.channels": 0.1},
        "trials": trials,
        "train": "latentdiff diffusion --config best.yaml",
        "go_on": "latentdiff sweep --config config.yaml",
    }


@pytest.fixture(scope="module")
def record():
    return made_record()


def test_the_page_needs_no_other_file_and_has_every_trial(record):
    files = search_page(record | {"importance": {}})  # a figure less to draw
    assert set(files) == {"index.html", "parallel.png", "history.png"}
    page = files["index.html"].decode()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert len(re.findall(r'<tr[^>]*><th scope="row"', page)) == 31
    assert page.count('class="compared"') == 1
    assert "48 channels &lt;b&gt;cannot" in page
    assert f"number {record['best']}, with a classifier distance of" in page
    # The whole ones come first, the best on top.
    first = re.search(r'<th scope="row" data-value="(\d+)">', page)
    assert int(first[1]) == record["best"]


@pytest.mark.slow
def test_equal_numbers_give_equal_figures(record):
    for draw in (parallel_coordinates, history, importance):
        assert draw(record, "dark", "svg") == draw(record, "dark", "svg")


def test_a_value_is_on_its_axis_where_its_logarithm_or_its_place_is():
    assert _place(SPACE["trainer.lr"], 1e-3) == pytest.approx(0.5)
    assert _place(SPACE["network.num_res_blocks"], 2) == 0.5
    assert _place(SPACE["process"], "edm") == 1
    assert _place(SPACE["process"], "gone") is None
    assert _place(SPACE["process"], None) is None


def test_a_search_without_a_whole_trial_has_a_page_that_says_so():
    record = made_record(0) | {"importance": {}}
    assert finding(record) == "No trial is complete yet."
    assert set(search_page(record)) == {"index.html"}
    assert sentences(record)[0] == "Trials: 1 failed, of 40."
    assert "failed: 48 channels" in trial_sentence(record["trials"][0], "distance")


@pytest.mark.slow
def test_the_page_in_a_browser_sorts_fits_and_is_silent(record, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    files = search_page(record)
    assert set(files) == {"index.html", "parallel.png", "history.png", "importance.png"}
    (tmp_path / "index.html").write_bytes(files["index.html"])
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page, said = browser.new_page(viewport={"width": 1280, "height": 900}), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())

        def column(index):
            return page.locator(f"tbody tr td:nth-child({index})").all_inner_texts()

        page.locator("thead button").nth(2).click()
        rates = [float(text) for text in column(3)]
        assert rates == sorted(rates)
        page.locator("thead button").nth(4).click()
        assert column(5) == sorted(column(5))
        page.locator("thead button").nth(1).click()
        figures = column(2)
        assert figures[-1] == "–"
        assert [float(text) for text in figures[:-1]] == sorted(float(text) for text in figures[:-1])
        for width in (360, 768, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("() => document.scrollingElement.scrollWidth") <= width
        assert said == []
        browser.close()
