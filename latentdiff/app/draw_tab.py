"""The first tab: sample by class or in words, watch each step, go back through the steps, and judge what was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from latentdiff.app.handlers import LIGHT, gr, in_words
from latentdiff.app.prompts import MOST_LETTERS
from latentdiff.app.studio import ALL_CLASSES, MOST_GUIDANCE, Studio
from latentdiff.app.tabs import FollowsModel, seed_control, steps_control
from latentdiff.config import SamplerName, SamplingConfig

USUAL_IMAGES, USUAL_GUIDANCE = 16, 1.5
EMPTY = '<p class="ld-note">The picture comes here.</p>'


class DrawTab:
    """The tab, within the page that is being built.

    Args:
        studio: What answers.
        model: The control that chooses the model.
        name: The model at first.
        heavy: How Gradio queues events that run a model.
    """

    def __init__(self, studio: Studio, model: Any, name: str, heavy: dict[str, Any]):
        self.studio, self._heavy, config = studio, heavy, studio.config
        with gr.Tab("Draw", id="draw"):
            with gr.Row():
                with gr.Column(scale=4, min_width=280):
                    self.label = gr.Dropdown(label="Class", **self._label(name))
                    self.prompt = gr.Textbox(
                        label="Prompt", elem_id="prompt", max_length=MOST_LETTERS, **self._prompt(name)
                    )
                    images = gr.Slider(
                        1, config.max_images, min(USUAL_IMAGES, config.max_images), step=1, label="Images"
                    )
                    seed = seed_control()
                    with gr.Accordion("More settings", open=False):
                        steps = steps_control(config)
                        self.guidance = gr.Slider(
                            label="Guidance",
                            info="1 turns guidance off. A larger scale makes the class clearer.",
                            **self._guidance(name),
                        )
                        self.negative = gr.Textbox(
                            label="Not this",
                            info="What guidance steers away from.",
                            max_length=MOST_LETTERS,
                            visible=studio.reads(name),
                        )
                        sampler = gr.Dropdown(
                            list(get_args(SamplerName)), value=SamplingConfig.sampler, label="Sampler"
                        )
                    with gr.Row(elem_classes="ld-actions"):
                        draw = gr.Button("Draw", variant="primary", elem_id="draw", scale=3, min_width=100)
                        stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
                with gr.Column(scale=7, min_width=300, elem_classes="ld-first"):
                    self.picture = gr.HTML(EMPTY, elem_id="picture", elem_classes="ld-stage")
                    self.step = gr.Slider(
                        0, 1, value=0, step=1, label="Step, from noise to image", elem_id="step", interactive=True
                    )
            with gr.Row():
                beside = gr.Button("VAE baseline beside")
                nearest = gr.Button("Nearest training images")
            judged = gr.HTML(elem_classes="ld-beside", elem_id="judged")
            # Within the tab: Gradio counts whatever stands between two tabs as a tab.
            self.token = gr.State()
        inputs = [model, self.label, images, steps, self.guidance, sampler, seed, self.prompt, self.negative]
        self._drawing = {"fn": in_words(self._draw), "inputs": inputs, "outputs": [self.token, self.picture, self.step]}
        self._judged = judged
        self._events = [draw.click(**self._drawing, **heavy, show_progress="minimal", api_name="draw")]
        self.draw_after(self.prompt.submit)
        self._stop = stop
        self.step.input(
            in_words(studio.step), [self.token, self.step], self.picture, trigger_mode="always_last", **LIGHT
        )
        beside.click(in_words(studio.baseline), self.token, judged, **heavy, api_name="baseline")
        nearest.click(in_words(studio.nearest), self.token, judged, **heavy, api_name="nearest")
        draw.click(lambda: "", None, judged, **LIGHT, api_visibility="private")
        self.follows = FollowsModel(
            [self.label, self.guidance, self.prompt, self.negative, judged],
            lambda name: [
                gr.Dropdown(**self._label(name)),
                gr.Slider(**self._guidance(name)),
                gr.Textbox(**self._prompt(name)),
                gr.Textbox(value="", visible=studio.reads(name)),
                "",
            ],
        )

    def draw_after(self, event: Any) -> None:
        """Draw when something else happened: ``event`` is a method such as ``page.load``."""
        self._events.append(event(**self._drawing, **self._heavy, show_progress="minimal", api_visibility="private"))

    def connect_stop(self) -> None:
        """Let the button stop all drawings that were connected."""
        self._stop.click(None, None, None, cancels=self._events, api_visibility="private")

    def _draw(self, *settings: Any) -> Iterator[Any]:
        for moment in self.studio.draw(*settings):
            yield moment.token, moment.html, gr.Slider(maximum=moment.steps, value=moment.step)

    def _label(self, name: str) -> dict[str, Any]:
        classes = self.studio.classes(name)
        return {"choices": classes, "value": ALL_CLASSES if classes else None, "visible": bool(classes)}

    def _prompt(self, name: str) -> dict[str, Any]:
        captions = self.studio.catalogue.get(name).model.captions
        words = f"In words, such as: {captions[0]}" if captions else "In words"
        return {"value": "", "placeholder": words, "visible": self.studio.reads(name)}

    def _guidance(self, name: str) -> dict[str, Any]:
        can = self.studio.catalogue.get(name).can_guide
        value = USUAL_GUIDANCE if can else 1.0
        return {"minimum": 0, "maximum": MOST_GUIDANCE, "step": 0.1, "value": value, "visible": can}
