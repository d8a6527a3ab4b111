"""What the tabs of the page have in common: how they follow the model, and the controls that several of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from latentdiff.app.handlers import gr
from latentdiff.app.studio import Studio
from latentdiff.config.model_stages import AppStage

USUAL_STEPS = 20
MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class FollowsModel:
    """Controls that change with the model.

    Attributes:
        components: The controls.
        updates: Their new states for a model's name, in that order.
    """

    components: list[Any]
    updates: Callable[[str], list[Any]]


def seed_control() -> Any:
    """A seed, with a button that chooses a random one in the browser."""
    with gr.Row(equal_height=True, elem_classes="ld-seed"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, min_width=110, scale=2)
        another = gr.Button("New seed", min_width=90, scale=1)
    another.click(None, None, seed, js=f"() => Math.floor(Math.random() * {MOST_SEED})", api_visibility="private")
    return seed


def steps_control(config: AppStage, info: str = "") -> Any:
    """The number of sampling steps."""
    value = min(USUAL_STEPS, config.max_steps)
    return gr.Slider(1, config.max_steps, value=value, step=1, label="Steps", info=info or None)


def upload_control(label: str) -> Any:
    """An image of the user's own."""
    return gr.File(label=label, file_types=["image"], type="filepath", height=135)


def class_of_image(studio: Studio, name: str) -> tuple[Any, FollowsModel]:
    """The class that a given image is said to have."""

    def state(name: str) -> dict[str, Any]:
        classes = studio.classes_of_image(name)
        some, own = len(classes) > 1, studio.reads(name)
        return {
            "choices": classes,
            "value": classes[0] if classes else None,
            "visible": some,
            "allow_custom_value": own,
        }

    control = gr.Dropdown(
        label="What it shows", info="The class, or the words, that the model is given.", **state(name)
    )
    return control, FollowsModel([control], lambda name: [gr.Dropdown(**state(name))])
