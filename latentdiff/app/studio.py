"""What the page can be asked for. Each request is checked against limits, and answered with pieces of HTML.

This module does not depend on Gradio. An error that a user can fix is a :class:`~latentdiff.errors.LatentdiffError`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from latentdiff.app.catalogue import Catalogue, Entry
from latentdiff.app.kept_drawings import Drawing, KeptDrawings
from latentdiff.app.pictures import data_uri, figure, message, row
from latentdiff.app.prompts import in_title, new_words, prompt_of
from latentdiff.app.training_images import TrainingImages
from latentdiff.app.uploads import MEGABYTE, read_upload
from latentdiff.codec import AutoencoderCodec
from latentdiff.config import SamplerName
from latentdiff.config.checks import checked
from latentdiff.config.model_stages import AppStage
from latentdiff.config.ranges import Fraction, Range, Seed
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.errors import ConfigError
from latentdiff.evaluation.precision_recall import nearest_by_pixels
from latentdiff.inference.edit_images import read_mask
from latentdiff.inference.given_images import with_prompt
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import interpolate
from latentdiff.inference.labels import Labels
from latentdiff.inference.noising import forward_process, reconstruct
from latentdiff.inference.request import SamplingRequest

ALL_CLASSES = "All classes in turn"
NO_CLASS = "No class"
DRAWN = "What I paint"
PARTS = {"Right half": "right", "Left half": "left", "Top half": "top", "Bottom half": "bottom", "Centre": "centre"}
# Beyond these a request would take minutes: each is passes of the network for each step.
MOST_RESAMPLES, MOST_FRAMES, LEAST_FRAMES = 10, 12, 3
MOST_GUIDANCE = 10.0
# Steps of an image that the model draws where the user gave none.
OWN_STEPS = 20
SHOWN_NEIGHBOURS = 8
# Side in pixels that each image of a saved picture has at least.
SAVED_SIDE = 112


@dataclass(frozen=True)
class Moment:
    """A moment of a drawing that is being made.

    Attributes:
        token: By which its steps are kept.
        html: The picture.
        step: Steps done, 0 for pure noise.
        steps: Steps in all.
    """

    token: str
    html: str
    step: int
    steps: int


class Studio:
    """Answers requests with the models of a catalogue, within the limits of the settings.

    Args:
        config: The limits.
        catalogue: The models.
        images: Where training images come from.
    """

    def __init__(self, config: AppStage, catalogue: Catalogue, images: TrainingImages | None = None):
        self.config, self.catalogue = config, catalogue
        self.images = images or TrainingImages(config.data_root)
        self.kept = KeptDrawings()

    # What the controls offer.

    def classes(self, name: object) -> list[str]:
        """The choices when the model draws: a class, or all in turn. Empty without classes."""
        entry = self.catalogue.get(name)
        return [ALL_CLASSES, *entry.classes] if entry.classes else []

    def classes_of_image(self, name: object) -> list[str]:
        """The classes, or captions, to choose from for a given image; ``No class`` comes first if the model was trained
        with class dropout. A text-to-image model takes other captions too."""
        entry = self.catalogue.get(name)
        without = [NO_CLASS] if not entry.model.conditional or entry.can_guide else []
        return [*without, *entry.classes, *entry.model.captions]

    def reads(self, name: object) -> bool:
        """Whether the model is asked in words."""
        return self.catalogue.get(name).reads

    # Drawing.

    def draw(
        self,
        name: object,
        label: object,
        num_images: Any,
        steps: Any,
        guidance_scale: Any,
        sampler: Any,
        seed: Any,
        prompt: object = None,
        negative_prompt: object = None,
    ) -> Iterator[Moment]:
        """Draw images, and show each step. The last moment shows what ``model.sample`` gives with the same settings.

        A text-to-image model uses the prompts instead of the class.
        """
        entry = self.catalogue.get(name)
        model = entry.model
        request = SamplingRequest(
            num_images=checked(num_images, Annotated[int, Range(1, self.config.max_images)], "the number of images"),
            labels=self._class_to_draw(entry, label),
            steps=self._steps(steps),
            guidance_scale=checked(guidance_scale, Annotated[float, Range(0, MOST_GUIDANCE)], "guidance"),
            sampler=checked(sampler, SamplerName, "the sampler"),
            seed=checked(seed, Seed, "the seed"),
            prompt=prompt_of(entry, prompt),
            negative_prompt=prompt_of(entry, negative_prompt, "what to avoid"),
        )
        model.check(request)
        wanted = label if isinstance(request.labels, int) else "all classes in turn" if entry.classes else "images"
        if entry.reads:
            asked = prompt_of(entry, prompt)
            wanted = in_title(asked) + new_words(entry, asked)
        title = _title(entry, str(wanted), request)
        drawing = Drawing(name=entry.name, seed=request.seed, steps=request.steps, title=title)
        token, start = self.kept.add(drawing), time.perf_counter()
        for indices, states in model.batches(request):
            first = model.codec.decode(model.initial_noise(request, indices)[0]).cpu()
            drawing.frames.append(data_uri(first, lossless=False))
            yield Moment(token, self._picture(drawing, 0, request.steps), 0, request.steps)
            for state in states:
                last = state.step == request.steps
                images = model.codec.decode(state.x).cpu()
                drawing.frames.append(data_uri(images, lossless=last))
                if last:
                    drawing.images, drawing.seconds = images, time.perf_counter() - start
                yield Moment(token, self._picture(drawing, state.step, request.steps), state.step, request.steps)
        self.kept.trim()

    def step(self, token: object, step: Any) -> str:
        """The picture of one step of a drawing that was made."""
        drawing = self.kept.get(token)
        step = checked(step, Annotated[int, Range(0, drawing.steps)], "the step")
        return self._picture(drawing, min(step, len(drawing.frames) - 1), drawing.steps)  # it may have been stopped

    def baseline(self, token: object) -> str:
        """The VAE baseline beside a drawing: noise of the same seed, as many images, decoded in one pass."""
        drawing = self.kept.get(token)
        entry, images = self.catalogue.get(drawing.name), _finished(drawing)
        if (codec := entry.baseline) is None:
            raise ConfigError(
                "this model works on pixels, and there is no autoencoder of its images here to decode noise"
            )
        noise = PerImageNoise(drawing.seed, range(len(images)), codec.latent_shape, codec.mean.device)()
        start = time.perf_counter()
        decoded = codec.decode_prior(noise).cpu()
        seconds = time.perf_counter() - start
        note = (
            "An autoencoder that was trained to be sampled decodes pure noise, in one pass and without a class."
            if entry.baseline_kind == "trained"
            else "The model's own autoencoder decodes pure noise, in one pass. It was trained to compress, not to be "
            "sampled: what diffusion adds is the difference."
        )
        pair = [(images, f"Diffusion, {drawing.seconds:.1f} s"), (decoded, f"VAE baseline, {seconds:.2f} s")]
        return row(pair, note)

    def nearest(self, token: object) -> str:
        """The training image nearest to each image of a drawing, pixel by pixel."""
        drawing = self.kept.get(token)
        entry, images = self.catalogue.get(drawing.name), _finished(drawing)[:SHOWN_NEIGHBOURS]
        train, codec = self.images.of(entry.model), entry.model.codec
        differences, which = nearest_by_pixels(images, train.images)
        found = train.images[which]
        if self.images.are_mirrored(entry.model):
            turned, mirrored = nearest_by_pixels(images.flip(-1), train.images)
            nearer = turned < differences
            found = torch.where(nearer[:, None, None, None], train.images[mirrored].flip(-1), found)
            differences = torch.minimum(differences, turned)
        copied = "A copied training image would differ by almost nothing."
        if isinstance(codec, AutoencoderCodec):
            # A latent that is repeated exactly is decoded to the codec's reconstruction, and not to the image itself.
            decoded = codec.reconstruct(found).cpu()
            apart = (images.float() - decoded.float()).flatten(1).square().mean(dim=1).sqrt()
            copied = (
                f"The autoencoder's reconstructions of the same images differ from those drawn by {apart.min():.0f} or "
                "more. Of a copied training image this would be almost nothing."
            )
        note = (
            f"The nearest pair differs by {differences.min():.0f} of 255 grey levels (root mean square), the median by "
            f"{differences.median():.0f}. {copied}"
        )
        source = "the slice inside the package" if train.source == "embedded" else "the training set"
        if not self.images.are_those_of_training(entry.model, train):
            source = f"{train.name} here, which are not those it was trained on"
        columns = 4 if len(images) > 4 else len(images)
        pictures = [
            (f"Drawn ({len(images)} of them)", images),
            (f"Nearest of {len(train):,} images of {source}", found),
        ]
        figures = "".join(figure(data_uri(each, columns), words, words) for words, each in pictures)
        return f'<div class="ld-row">{figures}</div>{message(note)}'

    # Given images.

    def look(self, name: object, file: str | None, seed: Any = 0) -> Tensor:
        """The image to work on, uint8 [1, c, h, w]: the uploaded file, or one that the model draws."""
        entry = self.catalogue.get(name)
        if file is not None:
            return read_upload(file, entry.model.codec.image_shape, self.config.max_upload_mb * MEGABYTE)
        seed = checked(seed, Seed, "the seed")
        labels = seed % len(entry.classes) if entry.classes else None
        prompt = entry.model.captions[seed % len(entry.model.captions)] if entry.model.captions else None
        return entry.model.sample(1, labels=labels, prompt=prompt, seed=seed, steps=OWN_STEPS)

    def reconstruct(self, name: object, file: str | None, label: object, strength: Any, steps: Any, seed: Any) -> str:
        """Noise an image and bring it back: what the model keeps of it, and what it makes up."""
        entry = self.catalogue.get(name)
        strength, steps = checked(strength, Fraction, "the noise"), self._steps(steps)
        labels, seed = self._class_of_image(entry, label), checked(seed, Seed, "the seed")
        image = self.look(name, file, seed)
        decoded, noised = forward_process(entry.model, image, (0.0, strength), seed)
        again = reconstruct(entry.model, image, (strength,), labels, steps=steps, seed=seed)[0]
        pictures = [(image, _origin(file)), (noised, f"With noise, {strength:.0%}"), (again, "Brought back")]
        if isinstance(entry.model.codec, AutoencoderCodec):
            pictures.insert(1, (decoded, "Compressed and decoded"))
        return row(pictures, "The more noise, the more of the image the model has to make up.")

    def fill(
        self,
        name: object,
        file: str | None,
        part: object,
        painted: object,
        label: object,
        resamples: Any,
        steps: Any,
        seed: Any,
    ) -> str:
        """Fill a part of an image, which is named or painted."""
        entry = self.catalogue.get(name)
        shape = entry.model.codec.image_shape
        resamples = checked(resamples, Annotated[int, Range(1, MOST_RESAMPLES)], "the repetitions")
        labels, steps, seed = (
            self._class_of_image(entry, label),
            self._steps(steps),
            checked(seed, Seed, "the seed"),
        )
        if part == DRAWN:
            mask = _painted_mask(painted, shape)
        elif part in PARTS:
            mask = read_mask(PARTS[str(part)], shape[1:])
        else:
            raise ConfigError(f"there is no such part: choose one of {', '.join([DRAWN, *PARTS])}")
        image = self.look(name, file, seed)
        filled = inpaint(entry.model, image, mask, labels, resamples=resamples, steps=steps, seed=seed)
        pictures = [(image, _origin(file)), (image.masked_fill(mask, 128), "The part to fill"), (filled, "Filled")]
        return row(pictures)

    def between(
        self, name: object, first: str | None, second: str | None, frames: Any, label: object, steps: Any, seed: Any
    ) -> str:
        """The way from one image to another, over the noise behind both."""
        entry = self.catalogue.get(name)
        frames = checked(frames, Annotated[int, Range(LEAST_FRAMES, MOST_FRAMES)], "the number of images")
        labels, steps, seed = (
            self._class_of_image(entry, label),
            self._steps(steps),
            checked(seed, Annotated[int, Range(0, 2**32 - 2)], "the seed"),
        )
        ends = self.look(name, first, seed), self.look(name, second, seed + 1)
        way = interpolate(entry.model, *ends, frames, labels, steps)[:, 0]
        steps_between = [(image[None], f"Image {number} of {frames}") for number, image in enumerate(way, 1)]
        pair = [(ends[0], f"First: {_origin(first).lower()}"), (ends[1], f"Second: {_origin(second).lower()}")]
        note = "Both ends are reconstructed by the flow: they are almost the given images."
        return f"{row(steps_between, kind='way')}{message(note)}{row(pair)}"

    def _picture(self, drawing: Drawing, step: int, steps: int) -> str:
        done = step == steps and drawing.images is not None
        when = f"{drawing.seconds:.1f} s" if done else "pure noise" if step == 0 else f"step {step} of {steps}"
        caption, saved = f"{drawing.title} · {when}", None
        if done:
            name = f"{drawing.name.replace(', ', '-').lower()}-seed-{drawing.seed}.png"
            saved = name, data_uri(_finished(drawing), min_side=SAVED_SIDE)
        return figure(drawing.frames[step], caption, caption, saved, busy=drawing.images is None)

    def _steps(self, steps: Any) -> int:
        return checked(steps, Annotated[int, Range(1, self.config.max_steps)], "the number of steps")

    def _class_to_draw(self, entry: Entry, label: object) -> Labels:
        if not entry.classes or label == ALL_CLASSES:
            return None
        return _index(entry, label)

    def _class_of_image(self, entry: Entry, label: object) -> Labels:
        if entry.reads:
            prompt = None if label == NO_CLASS else prompt_of(entry, label, "what it shows")
            return None if prompt is None else with_prompt(entry.model, 1, None, prompt)
        if not entry.classes or (label == NO_CLASS and entry.can_guide):
            return None
        return _index(entry, label)


def _index(entry: Entry, label: object) -> int:
    if label not in entry.classes:
        raise ConfigError(f"{entry.name} has no such class: choose one from the list")
    return entry.classes.index(str(label))


def _title(entry: Entry, wanted: str, request: SamplingRequest) -> str:
    guided = f", guidance {request.guidance_scale:g}" if request.guidance_scale != 1.0 else ""
    return f"{entry.name}: {wanted}, seed {request.seed}, {request.steps} steps{guided}"


def _origin(file: str | None) -> str:
    return "Drawn by the model" if file is None else "Yours, as the model sees it"


def _finished(drawing: Drawing) -> Tensor:
    if drawing.images is None:
        raise ConfigError("draw images first: these were not finished")
    return drawing.images


def _painted_mask(painted: object, shape: tuple[int, int, int]) -> Tensor:
    """bool [h, w] from a text of a 0 or 1 for each pixel, row by row."""
    _, height, width = shape
    text = painted.get("mask") if isinstance(painted, dict) else None
    if not text:
        raise ConfigError("nothing is painted: paint over the part to fill, or choose a half")
    if not isinstance(text, str) or len(text) != height * width or set(text) - {"0", "1"}:
        raise ConfigError("the painted mask does not fit this model's image: paint again")
    mask = torch.tensor([letter == "1" for letter in text]).reshape(height, width)
    if not mask.any():
        raise ConfigError("nothing is painted: paint over the part to fill, or choose a half")
    return mask
