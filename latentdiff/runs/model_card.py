"""The card of a released model: what it is, what it cost, how good it is, and what its data allow."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from latentdiff.files import write_atomically
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.formats import sampling_settings
from latentdiff.report.grids import MIN_SIDE, PADDING
from latentdiff.report.summary import summary

TITLES = {"autoencoder": "autoencoder", "diffusion": "diffusion model"}
LICENCES = {
    "fashion-mnist": "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), MIT licence, copyright Zalando SE.",
    "fashion-mnist-coloured": "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), coloured by rule, MIT licence, copyright "
    "Zalando SE.",
    "celeba": (
        "CelebA (Liu, Luo, Wang and Tang 2015), for non-commercial research only; none of its images is passed on "
        "here, and what is made with these weights is for research as well."
    ),
    "flowers-102": (
        "Oxford Flowers 102 (Nilsback and Zisserman 2008), photographs of many authors, for research; none is "
        "passed on here, and what is made with these weights is for research as well."
    ),
}
SAMPLE_ROWS = 4
# A row of every card, by which one is known again.
CARD_ROW = "Numbers in the file"
STORED_IN_HALF = "matrices and kernels as bf16"


def card(
    path: Path,
    header: dict[str, Any],
    numbers: int,
    evaluations: Sequence[dict[str, Any]] = (),
    licence: str | None = None,
    samples: str | None = None,
    made_by: str | None = None,
    *,
    title: str | None = None,
    place: str | None = None,
    stored: str = STORED_IN_HALF,
) -> str:
    """The model card as Markdown.

    Args:
        path: The released file.
        header: Its header.
        numbers: How many it holds.
        evaluations: Of this file.
        licence: Of the data; None says what is known of the data set.
        samples: Name of the picture beside the card, or None.
        made_by: The command that makes the file. Default: the command of its training.
        title: Heading of the card. Default: the data set's name and the file's.
        place: What ``load`` takes. Default: the file's path.
        stored: How the file holds its numbers.
    """
    made = header.get("provenance") or {}
    data, config = made.get("data") or {}, made.get("config") or {}
    rows = {
        "Kind": TITLES[header["kind"]],
        CARD_ROW: f"{numbers:,}, {stored}",
        **_training_rows(made, data),
    }
    if before := made.get("started_from"):
        source = config.get("init") or "another run"
        rows["Of it in earlier runs"] = (
            f"{before['images_seen']:,} images, {before['seconds'] / 60:.1f} minutes: it starts from {source}"
        )
    if average := made.get("ema"):
        rows["Weights"] = f"an average over {average['length']:g} of the run (post-hoc EMA)"
        if values := average.get("values"):
            rows["Weights"] += f", the best of {len(values)} by {average['metric']} to validation images"
    if made.get("stage_one_seconds"):
        flops = f", {made['stage_one_flops']:.2e} operations" if made.get("stage_one_flops") else ""
        rows["Stage one before it"] = f"{made['stage_one_seconds'] / 60:.1f} minutes{flops}"
    if named := header.get("codec_file"):
        rows["Decodes with"] = f"{named['name']} beside it (SHA-256 {named['sha256'][:12]})"
    if (decoder := made.get("decoder")) is not None:
        count = f" to {decoder['images_seen']:,} images" if decoder.get("images_seen") else ""
        rows["Decoder"] = "trained on, behind the same encoder" + (count and f",{count}")
    codec = (header.get("codec") or {}).get("autoencoder", {})
    if codec.get("smooth_colours"):
        rows["Colours"] = "smoothed as they are decoded (`network.smooth_colours`)"
    title = title or (f"{data['name']} {path.stem}" if data.get("name") else path.stem)
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines.append("")
    if command := made_by or made.get("command"):
        lines += ["Made by" if made_by else "Trained by", "", f"    {command}", ""]
    if (resumed := made.get("resumed_by")) and not made_by:
        lines += ["and resumed by", "", *(f"    {command}" for command in resumed), ""]
    if decoder and decoder.get("command"):
        lines += ["its decoder by", "", f"    {decoder['command']}", ""]
    if made.get("images_seen"):
        lines += ["The file's header holds every setting, the training's history and the fingerprint of its data.", ""]
    for evaluation in evaluations:
        lines += [f"Measured on this file, {evaluation['num_images']:,} images:", ""]
        lines += [f"- {line}" for line in _results(evaluation)]
        lines += ["", "by", "", f"    {evaluation['command']}", ""]
    lines += ["```python", "from latentdiff import load", "", f'model = load("{place or path.as_posix()}")', "```", ""]
    if samples:
        lines += [f"![Samples]({samples})", ""]
    name = data.get("name") or "the training images"
    licence = licence or LICENCES.get(name, f"{name}: see the data set's own terms.")
    weights = "The weights are under Apache-2.0."
    if (header.get("network") or {}).get("architecture") == "diffusers" or "vae" in codec:
        weights = "The weights, or what they began as, are of a model of diffusers, under its own licence."
    return "\n".join([*lines, f"Data and licence: {licence} {weights}", ""])


def _training_rows(made: dict[str, Any], data: dict[str, Any]) -> dict[str, str]:
    """What the card says of the training, as far as it is known: a model from Python may know nothing of it."""
    rows = {}
    if isinstance(data.get("images"), int):
        split = data.get("split") or f"{data.get('source', 'full')} set"
        rows["Training images"] = f"{data['images']:,} ({data.get('name', 'images')}, {split})"
    if made.get("images_seen") is not None:
        rows["Images seen"] = f"{made['images_seen']:,}"
    if made.get("seconds") is not None:
        speed = f" ({made['images_per_second']:.0f} images/s)" if made.get("images_per_second") is not None else ""
        rows["Training time"] = f"{made['seconds'] / 60:.1f} minutes{speed}"
    if made.get("flops") is not None:
        rows["Training arithmetic"] = f"{made['flops']:.2e} floating-point operations"
        if made.get("seconds"):
            rows["Training arithmetic"] += f", {made['flops'] / made['seconds'] / 1e9:.0f} GFLOP/s"
    if made.get("device"):
        rows["Hardware"] = made["device"]
    if made.get("peak_memory_bytes") is not None:
        rows["Peak memory"] = f"{made['peak_memory_bytes'] / 2**30:.2f} GiB"
    if made.get("environment"):
        rows["Versions"] = ", ".join(f"{name} {version}" for name, version in made["environment"].items())
    return rows


def write_samples(evaluation: Path, target: Path) -> str | None:
    """The first rows of an evaluation's samples as a picture beside ``target``; its name, or None.

    Reconstructions are left out: they are pictures of the data set, which not every licence lets one pass on.
    """
    found = read_evaluation(evaluation)
    grid = found.picture("grid")
    if grid is None or found.role == "reconstruction":
        return None
    _, height, width = found.values["data"]["image_shape"]
    row = height * max(1, -(-MIN_SIDE // width)) + PADDING
    picture = Image.open(BytesIO(grid))
    picture = picture.crop((0, 0, picture.width, min(picture.height, SAMPLE_ROWS * row + PADDING)))
    path = target.with_suffix(".jpg")
    write_atomically(
        path, lambda name: picture.convert("RGB").save(name, format="JPEG", quality=66, optimize=True, progressive=True)
    )
    return path.name


def _results(evaluation: dict[str, Any]) -> list[str]:
    how = []
    if evaluation["sampling"]:
        how = [f"{sampling_settings(evaluation['sampling'])}, seed {evaluation['sampling']['seed']}"]
    return how + summary(evaluation)
