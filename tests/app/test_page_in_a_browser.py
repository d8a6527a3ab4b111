"""The page in headless Chromium, on a desk and on a phone: draw, stop, another model, an own image, a damaged one."""

from __future__ import annotations

import base64
import io
import re
import socket
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")
from latentdiff.app.serve import running
from latentdiff.app.studio import Studio
from latentdiff.config.model_stages import AppStage
from latentdiff.report.grids import grid


class Watched(Studio):
    """A studio whose drawings wait at their third step, while they are told to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.go_on = threading.Event()
        self.go_on.set()
        self.looked_up = set()

    def draw(self, *settings):
        for moment in super().draw(*settings):
            yield moment
            if moment.step == 3:
                self.go_on.wait(20)


@pytest.fixture(scope="module")
def served(catalogue, tmp_path_factory):
    """A page of two models, and the studio behind it."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "mine").mkdir()
    (runs / "mine" / "metrics.csv").write_text("images_seen,loss\n100,0.9\n200,0.5\n")
    config = AppStage(max_images=9, max_steps=30, max_upload_mb=1, runs=str(runs))
    studio, find = Watched(config, catalogue), socket.getaddrinfo

    def look_up(host, *arguments, **settings):
        studio.looked_up.add(host)
        return find(host, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        with running(config, studio) as address:
            yield address, studio


def picture_of(page, selector):
    address = page.locator(f"{selector} img").first.get_attribute("src")
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_draw_stop_change_the_model_and_upload(served, browser, png, tmp_path):
    address, studio = served
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said, hosts = [], set()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: hosts.add(re.sub(r"^(\w+:(//[^/]+)?).*", r"\1", request.url, flags=re.S)))
    page.goto(address)
    finished = page.locator("#picture .ld-save")
    finished.wait_for()  # it draws by itself

    # The same seed is the same picture as Python's.
    page.get_by_label("Seed").first.fill("5")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#picture", has_text="seed 5").locator(".ld-save").wait_for()
    model = studio.catalogue.get("grey").model
    images = model.sample(9, seed=5, steps=20, guidance_scale=1.5)
    np.testing.assert_array_equal(picture_of(page, "#picture"), grid(images, 3, min_side=1))
    assert page.locator("#picture img").get_attribute("alt").startswith("grey: all classes in turn, seed 5, 20 steps")

    # Back through the steps.
    page.locator("#step input[type=range]").fill("0")
    page.locator("#picture", has_text="pure noise").wait_for()

    # Stopped on the way, and ready for more.
    studio.go_on.clear()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#picture", has_text="step 3 of 20").wait_for()
    with page.expect_response(re.compile("/cancel")):  # before that, a busy server would go on
        page.get_by_role("button", name="Stop").click()
    studio.go_on.set()
    page.wait_for_timeout(300)
    assert "step 3 of 20" in page.locator("#picture").inner_text()

    # Another model draws by itself, with its own controls.
    page.get_by_label("Model").click()
    page.get_by_role("option", name="colour").click()
    page.locator("#picture", has_text="colour: images").locator(".ld-save").wait_for()
    assert not page.get_by_label("Class").is_visible()
    assert picture_of(page, "#picture").shape == (3 * 10 + 2, 3 * 10 + 2, 3)

    # On a phone: an own image, and a damaged one.
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="Noise").click()
    page.set_input_files("input[type=file] >> nth=0", png())
    page.locator("#noise-result", has_text="Your image, as the model sees it").wait_for()
    np.testing.assert_array_equal(
        picture_of(page, "#noise-result"), studio.look("colour", png())[0].permute(1, 2, 0).numpy()
    )
    page.get_by_role("button", name="Noise it and bring it back").click()
    page.locator("#noise-result", has_text="Brought back").wait_for()
    assert page.locator("#noise-result img").count() == 3

    # A part that is painted, with the keyboard, and filled.
    page.get_by_role("tab", name="Fill in").click()
    page.wait_for_function("document.querySelector('#paint canvas').width === 8 * 56")
    page.locator("#paint canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    page.get_by_role("tab", name="Noise").click()
    page.get_by_role("tab", name="Fill in").click()  # the server sends the image again: what is painted stays
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Fill it in").click()
    page.locator("#fill-result", has_text="The part to fill").wait_for()
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    page.locator("input[type=file]").last.set_input_files(str(tmp_path / "damaged.png"))
    page.get_by_text("This file cannot be used").first.wait_for()
    assert "Traceback" not in page.content()

    for tab in ("Draw", "Noise", "Fill in", "Blend", "Training"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(100)
        assert page.evaluate("() => document.scrollingElement.scrollWidth") <= 390, tab
    page.locator("#run", has_text="200 images seen").wait_for()
    assert hosts <= {address.rstrip("/"), "data:", "blob:"}
    assert said == []
    assert studio.looked_up <= {"127.0.0.1", "localhost"}
    page.close()
