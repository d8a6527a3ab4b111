"""What to sample, as one value that is checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from latentdiff.config import SamplingConfig
from latentdiff.config.ranges import HeldImages
from latentdiff.diffusion.samplers import SAMPLER_OPTIONS
from latentdiff.inference.labels import Labels


@dataclass(frozen=True, kw_only=True)
class SamplingRequest(SamplingConfig):
    """How to sample (:class:`~latentdiff.config.SamplingConfig`), and what.

    Attributes:
        num_images: How many images.
        labels: One class for all, one for each image, or None: classes in turn for a conditional model. A string is a
            class's name, a whole number its index.
        prompt: For a text-to-image model: one text for all, one for each image, or None: captions of its training in
            turn.
        negative_prompt: What guidance steers away from: one text for all, or one for each image.
    """

    num_images: HeldImages
    labels: Labels = None
    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None

    @classmethod
    def of(cls, settings: SamplingConfig, num_images: int, labels: Labels = None, **words: Any) -> SamplingRequest:
        """``settings``, which may be a stage's, applied to so many images; ``words`` are prompts."""
        return cls(num_images=num_images, labels=labels, **words, **_sampling_settings(settings))

    def sampling_settings(self) -> dict[str, Any]:
        """The fields of :class:`~latentdiff.config.SamplingConfig`, to sample in the same way again."""
        return _sampling_settings(self)

    def record(self) -> dict[str, Any]:
        """What the images depend on besides the model, for a report. Settings that are not set are left out."""
        given = _sampling_settings(self)
        return {name: value for name, value in given.items() if name != "batch_size" and value is not None}

    def sampler_options(self) -> dict[str, Any]:
        """The settings that not every sampler has, where they are set."""
        given = {name: getattr(self, name) for own in SAMPLER_OPTIONS.values() for name in own}
        return {name: value for name, value in given.items() if value is not None}


def _sampling_settings(settings: SamplingConfig) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(SamplingConfig)}
