"""The page: its tabs, and what happens in all of them when another model is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.app.draw_tab import DrawTab
from latentdiff.app.edit_tabs import FillTab, noise_tab, way_tab
from latentdiff.app.handlers import LIGHT, gr, in_words
from latentdiff.app.pictures import message
from latentdiff.app.studio import Studio
from latentdiff.app.training_tab import training_tab

HEAD = (
    "<h1>latentdiff</h1><p>Small diffusion models draw on this machine. Choose one, and watch noise become images.</p>"
)
# Of events that run no model, all kinds together.
WAITING_AT_ONCE = 8


def theme() -> Any:
    """Gradio's theme in the colours of the reports, with letters that the reader's machine has."""
    letters = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif"]
    fixed = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]
    hues = gr.themes.colors
    own = gr.themes.Default(
        primary_hue=hues.blue, secondary_hue=hues.blue, neutral_hue=hues.slate, font=letters, font_mono=fixed
    )
    return own.set(
        body_background_fill="#fbfbfa",
        button_primary_background_fill="#2b6cb0",
        button_primary_background_fill_hover="#245a94",
        button_primary_background_fill_dark="#2f74bd",
        button_primary_text_color="white",
    )


def build_page(studio: Studio) -> Any:
    """The page of a studio, as Gradio's Blocks, not served yet."""
    config, catalogue = studio.config, studio.catalogue
    heavy = {"concurrency_limit": config.concurrency, "concurrency_id": "model"}
    first = catalogue.names[0]
    with gr.Blocks(title="latentdiff", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(equal_height=True, elem_classes="ld-top"):
            with gr.Column(min_width=280):
                gr.HTML(HEAD, elem_classes="ld-head")
            with gr.Column(min_width=280):
                model = gr.Dropdown(catalogue.names, value=first, label="Model", filterable=False, elem_id="model")
                facts = gr.HTML(message(catalogue.get(first).facts), elem_classes="ld-facts")
        with gr.Tabs():
            draw = DrawTab(studio, model, first, heavy)
            noise = noise_tab(studio, model, first, heavy)
            fill = FillTab(studio, model, first, heavy)
            way = way_tab(studio, model, first, heavy)
            training_tab(Path(config.runs).expanduser())
        following = [draw.follows, noise, fill.follows, way]

        def for_model(name: str) -> list[Any]:
            facts = message(catalogue.get(name).facts)
            return [facts, *(update for each in following for update in each.updates(name))]

        controls = [facts, *(control for each in following for control in each.components)]
        changed = model.input(in_words(for_model), model, controls, **LIGHT, api_visibility="private")
        draw.draw_after(changed.then)
        fill.show_after(changed.then)
        draw.draw_after(page.load)
        draw.connect_stop()
    page.queue(max_size=config.max_waiting, default_concurrency_limit=WAITING_AT_ONCE, api_open=False)
    return page
