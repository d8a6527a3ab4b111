"""Tabs that work on a given image: add noise and denoise it, fill a part of it, interpolate to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.app.handlers import gr, in_words
from latentdiff.app.pictures import data_uri, figure
from latentdiff.app.studio import DRAWN, LEAST_FRAMES, MOST_FRAMES, MOST_RESAMPLES, PARTS, Studio
from latentdiff.app.tabs import FollowsModel, class_of_image, seed_control, steps_control, upload_control

ONE_IMAGE = "Your image"
WITHOUT = '<p class="ld-note">Without a file the model draws an image, by the seed.</p>'
PAINT = """<div class="ld-paint"><canvas width="448" height="448" tabindex="0" role="application"
 aria-label="The image. Paint over the part to fill. With the keyboard, arrows move the brush and the space bar paints."
></canvas><div class="ld-paint-bar"><label>Brush <input type="range" min="1" max="8" step="0.5" value="3"></label>
<button type="button">Clear</button></div></div>"""
PAINT_CODE = (Path(__file__).parent / "paint_mask.js").read_text()


def noise_tab(studio: Studio, model: Any, name: str, heavy: dict[str, Any]) -> FollowsModel:
    """Noise an image to a strength, and denoise it."""
    with gr.Tab("Noise", id="noise"), gr.Row():
        with gr.Column(scale=4, min_width=280):
            file = upload_control(ONE_IMAGE)
            label, follows = class_of_image(studio, name)
            strength = gr.Slider(0, 1, value=0.5, step=0.05, label="Noise", info="0 is none, 1 leaves nothing.")
            steps = steps_control(studio.config, "Steps from pure noise. Less noise takes fewer steps.")
            seed = seed_control()
            start = gr.Button("Noise it and bring it back", variant="primary")
        with gr.Column(scale=7, min_width=300):
            result = gr.HTML(WITHOUT, elem_id="noise-result")
    file.upload(in_words(_preview(studio)), [model, file], result, **heavy, api_visibility="private")
    inputs = [model, file, label, strength, steps, seed]
    start.click(in_words(studio.reconstruct), inputs, result, **heavy, api_name="reconstruct")
    return FollowsModel([*follows.components, result], lambda name: [*follows.updates(name), WITHOUT])


class FillTab:
    """Fill a part of an image that is painted over, or named.

    Args:
        studio, model, name, heavy: As in :class:`~latentdiff.app.draw_tab.DrawTab`.
    """

    def __init__(self, studio: Studio, model: Any, name: str, heavy: dict[str, Any]):
        self.studio = studio
        with gr.Tab("Fill in", id="fill") as tab, gr.Row():
            with gr.Column(scale=4, min_width=280):
                file = upload_control(ONE_IMAGE)
                part = gr.Dropdown([DRAWN, *PARTS], value=DRAWN, label="Part to fill")
                painted = gr.HTML(
                    {}, html_template=PAINT, js_on_load=PAINT_CODE, elem_id="paint", apply_default_css=False
                )
                label, follows = class_of_image(studio, name)
                with gr.Accordion("More settings", open=False):
                    steps = steps_control(studio.config)
                    resamples = gr.Slider(
                        1,
                        MOST_RESAMPLES,
                        value=5,
                        step=1,
                        label="Repetitions of each step",
                        info="More repetitions make the parts fit together better.",
                    )
                seed = seed_control()
                start = gr.Button("Fill it in", variant="primary")
            with gr.Column(scale=7, min_width=300):
                result = gr.HTML(WITHOUT, elem_id="fill-result")
        self._show = {"fn": in_words(self._canvas), "inputs": [model, file, seed], "outputs": painted}
        self._show |= heavy | {"show_progress": "hidden", "api_visibility": "private"}
        for event in (tab.select, file.change, seed.change):
            event(**self._show)
        inputs = [model, file, part, painted, label, resamples, steps, seed]
        start.click(in_words(studio.fill), inputs, result, **heavy, api_name="fill")
        self.follows = FollowsModel(
            [*follows.components, result, painted], lambda name: [*follows.updates(name), WITHOUT, {}]
        )

    def show_after(self, event: Any) -> None:
        """Show the image to paint on when something else happened."""
        event(**self._show)

    def _canvas(self, name: str, file: str | None, seed: Any) -> dict[str, Any]:
        image = self.studio.look(name, file, seed)
        return {"picture": data_uri(image), "width": image.shape[3], "height": image.shape[2], "mask": ""}


def way_tab(studio: Studio, model: Any, name: str, heavy: dict[str, Any]) -> FollowsModel:
    """Walk from one image to another over the noise behind both."""
    with gr.Tab("Blend", id="way"), gr.Row():
        with gr.Column(scale=4, min_width=280):
            with gr.Row():
                first, second = upload_control("First image"), upload_control("Second image")
            frames = gr.Slider(LEAST_FRAMES, MOST_FRAMES, value=6, step=1, label="Images on the way")
            label, follows = class_of_image(studio, name)
            with gr.Accordion("More settings", open=False):
                steps = steps_control(studio.config, "Steps each way. A step takes two network passes.")
            seed = seed_control()
            start = gr.Button("Walk from one to the other", variant="primary")
        with gr.Column(scale=7, min_width=300):
            result = gr.HTML(WITHOUT.replace("a file", "files").replace("an image", "images"), elem_id="way-result")
    for file in (first, second):
        file.upload(in_words(_preview(studio)), [model, file], result, **heavy, api_visibility="private")
    inputs = [model, first, second, frames, label, steps, seed]
    start.click(in_words(studio.between), inputs, result, **heavy, api_name="between")
    return FollowsModel([*follows.components, result], lambda name: [*follows.updates(name), WITHOUT])


def _preview(studio: Studio) -> Any:
    """What the model sees of an upload, or why it cannot be used."""

    def look(name: str, file: str | None) -> str:
        words = "Your image, as the model sees it"
        return f'<div class="ld-row">{figure(data_uri(studio.look(name, file)), words, words)}</div>'

    return look
