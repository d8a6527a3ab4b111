"""What a reader needs beside the numbers: how each was measured, what it means, and how to have it again."""

from __future__ import annotations

from typing import Any

import yaml

from latentdiff.report.evaluation import Evaluation
from latentdiff.report.formats import amount, duration, sampling_settings, shape_text
from latentdiff.report.table import Table

HASH_LETTERS = 12
METRICS = (("inception", "fid"), ("classifier", "distance"))


def data_line(evaluation: Evaluation) -> str:
    """Which images were measured against, and whether they are the whole set."""
    data = evaluation.values["data"]
    extent = "the slice inside the package, not the full set" if data["source"] == "embedded" else "the full set"
    extent = data.get("test_split") or extent
    return (
        f"{data['name']}, {extent}: {data['train_images']:,} training and {data['test_images']:,} test images of "
        f"{shape_text(data['image_shape'])}. {evaluation.values['num_images']:,} images are measured in each row."
    )


def how_to_read(evaluations: list[Evaluation], table: Table) -> dict[str, str]:
    """Explanations by term, of what the table holds."""
    columns, roles = {column.key for column in table.columns}, {row.role for row in table.rows}
    images = f"{evaluations[0].values['num_images']:,} images"
    notes = {}
    if columns & {"fid_test", "fid_train"}:
        notes["FID"] = (
            "Fréchet distance between generated and real images in Inception's features; lower is better. It shrinks "
            f"as images are added, so it compares only with an FID from {images}. One to the training images far below "
            "the one to the test images would mean copied training images. From 4,096 images on, what infinitely many "
            f"would have stands beside it. {_network(evaluations, 'inception')}"
        )
    if any(item.get("metrics", net, f"{metric}_test_error") for item in evaluations for net, metric in METRICS):
        notes["±"] = (
            "Behind an FID, a KID, a classifier distance or LPIPS: its standard error, how far it scatters from one "
            "draw of as many samples of the same model to another. How far another training run would move it is not "
            "in it."
        )
    if "fid_class" in columns:
        notes["Intra-class FID"] = (
            "FID between the images asked for in a class and the test images of that class, averaged over the classes; "
            "of so few images each that it is far larger than the FID of all, and compares only within this column."
        )
    if "kid_test" in columns:
        notes["KID"] = (
            f"Kernel distance to the test images in the same features, in thousandths{_subsets(evaluations)}. "
            "Unlike the FID it does not depend on the number of images; near zero it may come out negative."
        )
    if "fid_infinity" in columns:
        notes["FID, n → ∞"] = (
            "The FID that infinitely many samples would have (Chong and Forsyth 2020): a line through its values for "
            "half to all of them, read at 1/n = 0. The real images are as many as for the FID itself."
        )
    if columns & {"fid_64", "fid_192", "fid_768"}:
        notes["FID of 64, 192, 768 features"] = (
            "The same distance in earlier layers of Inception: far smaller numbers, of local texture rather than of "
            "things, that compare only within their column."
        )
    if "inception_score" in columns:
        notes["Inception Score"] = (
            "How surely Inception names what it sees in an image, and how many different things it sees in all "
            "(Salimans et al. 2016), ± its standard deviation over ten parts; higher is better. It looks at no real "
            "image."
        )
    if "memorised" in columns:
        notes["Closer than new"] = (
            "Share of images that are closer to a training image than 99 % of the test images are, in the same "
            "features and among the training images that the distances are taken to: about 1 % of new images are. Much "
            "more would mean repeated training images."
        )
    if "precision" in columns:
        notes["Precision, recall, density, coverage"] = (
            "Share of generated images that lie among the test images' nearest neighbours in the same features; of "
            "test images that lie among the generated ones'; how many test images' neighbourhoods a generated one lies "
            "in; and the share of test images that have a generated one nearby. Low "
            "precision is bad images, low recall and coverage are missing ones; all depend on the number of images."
        )
    if "distance_test" in columns:
        notes["Classifier distance"] = (
            "The FID's formula in the features of a classifier of this data set. It is not an FID: it compares with no "
            f"published number, only within this report. {_network(evaluations, 'classifier')}"
        )
    if "diversity" in columns:
        notes["Intra-class LPIPS"] = (
            "LPIPS between two images of one class, averaged over random pairs: diversity. Below that of the real "
            "images, the samples of a class are too much alike; above it, they may be noisy."
        )
    if "class_accuracy" in columns:
        notes["Class accuracy"] = "Share of images that the classifier recognises as the class they were made for."
    if "floor" in roles:
        notes["Floor"] = (
            f"Real training images against the test images, {_floor_images(evaluations)}: what a perfect model would "
            "score. Its class accuracy and its LPIPS are those of the test images, which the classifier has not learnt."
        )
    if "reconstruction" in roles:
        notes["Ceiling"] = (
            "Real images through the autoencoder and back: test images where nothing else is said. Diffusion on its "
            f"latents can hardly do better, however long it trains.{_reconstruction(evaluations)}"
        )
    if "train_seconds" in columns:
        notes["Time, memory"] = (
            "Training time is that of training steps alone. Stage one is the autoencoder's, which a latent model needs "
            "first and several can share; what is counted in all has it and the encoding, as far as they are known. "
            "Times and memory compare on one device only; each row's is named below."
        )
    if columns & {"train_flops", "sample_flops", "all_flops"}:
        notes["FLOPs"] = (
            "Operations of products and convolutions, a multiplication and an addition being two: of one image forward "
            "and backward through the network, and of one sample with its decoding. What is counted in all is the "
            "whole training, with stage one and with the networks of its losses."
        )
    notes["Guidance"] = "A scale of 1 is off, 0 ignores the class; above 1, variety is traded for typical images."
    return notes


def caption(evaluation: Evaluation) -> str:
    """How the images of a grid came about."""
    made = {
        "noise": "random pixels",
        "gaussian": "random pixels with the training images' mean and covariance",
        "images": "images from files",
        "prior": "random latents, decoded",
        "diffusion": sampling_settings(evaluation.get("sampling")),
        "reconstruction": f"{'training' if evaluation.reconstructs_train else 'test'} images, encoded and decoded",
    }[evaluation.values["kind"]]
    return ", ".join([made, *_known((evaluation.get("sampling", "seed"), lambda seed: f"seed {seed}"))])


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Where a row comes from: model file, training, sampling and versions, each as far as it is known."""
    model, training, sampling = (evaluation.get(section) or {} for section in ("model", "training", "sampling"))
    codec = {} if evaluation.role == "pixel" else model
    pixels = evaluation.get("metrics", "pixels") or {}
    return [
        (title, ", ".join(parts))
        for title, parts in (
            (
                "Model",
                _known(
                    (model.get("path"), str),
                    (model.get("sha256"), lambda sha: f"SHA-256 {sha[:HASH_LETTERS]}"),
                    (model.get("parameters"), lambda count: f"{amount(count)} parameters"),
                    (codec.get("latent_shape"), lambda shape: f"latents {shape_text(shape)}"),
                    (codec.get("compression"), lambda ratio: f"{ratio:.1f} times fewer numbers than pixels"),
                ),
            ),
            (
                "Training",
                _known(
                    (training.get("images_seen"), lambda count: f"{amount(count)} images"),
                    (training.get("seconds"), duration),
                    (training.get("device"), str),
                ),
            ),
            (
                "Sampling",
                _known(
                    (sampling.get("sampler"), lambda _: sampling_settings(sampling)),
                    (sampling.get("seconds"), duration),
                    (sampling.get("device"), str),
                ),
            ),
            ("Reconstruction", _fidelity(evaluation)),
            (
                "Difference from the nearest training image",
                _known(
                    (pixels.get("least"), lambda value: f"{value:.1f} grey levels (rms) at least"),
                    (pixels.get("median"), lambda value: f"{value:.1f} in the median"),
                    (pixels.get("test_median"), lambda value: f"{value:.1f} in that of the test images"),
                    (pixels.get("copied"), lambda share: f"{100 * share:.1f} % copies"),
                ),
            ),
            (
                "Beside the training",
                _known((training.get("quality_seconds"), lambda value: f"{duration(value)} to watch the quality")),
            ),
            *(("Warning", [warning]) for warning in evaluation.get("warnings") or []),
            ("Versions", [f"{name} {version}" for name, version in (evaluation.get("environment") or {}).items()]),
        )
        if parts
    ]


def commands(evaluation: Evaluation) -> list[str]:
    """What was typed to train and to evaluate the row."""
    return _known((evaluation.get("training", "command"), str), (evaluation.get("command"), str))


def settings(evaluation: Evaluation) -> str:
    """Every setting of the training, as the YAML that --config reads back; empty where it is not known."""
    config = {key: value for key, value in (evaluation.get("training", "config") or {}).items() if key != "run"}
    return yaml.safe_dump(config, sort_keys=False) if config else ""


def _floor_images(evaluations: list[Evaluation]) -> str:
    counts = [item.get("floors", net, "images") for item in evaluations for net in ("inception", "classifier")]
    return f"{next((count for count in counts if count), evaluations[0].values['num_images']):,} of them"


def _known(*parts: tuple[Any, Any]) -> list[str]:
    return [show(value) for value, show in parts if value not in (None, "")]


def _network(evaluations: list[Evaluation], net: str) -> str:
    """Names the weights, the resize rule and the real images, which all rows share."""
    features = next((item.get("features", net) for item in evaluations if item.get("features", net)), {})
    resize = f", resize: {features['resize']}" if features.get("resize") else ""
    counts = [features.get("test_images"), features.get("train_images")]
    real = f" Real images: {counts[0]:,} of the test and {counts[1]:,} of the training split." if all(counts) else ""
    return f"Weights {features.get('weights_sha256', '')[:HASH_LETTERS]}{resize}.{real}"


def _subsets(evaluations: list[Evaluation]) -> str:
    """What the KIDs are means over; rows may differ in it, since their expectation does not depend on it."""
    kids = [value for item in evaluations if (value := item.get("metrics", "inception", "kid_test"))]
    drawn = {(kid["subsets"], kid["subset_size"]): None for kid in kids if kid.get("subset_size")}
    texts = [f"{count} subsets of {size:,} images" for count, size in drawn if count > 1]
    whole = [f"of all {size:,} images at once" for count, size in drawn if count == 1]
    means = [f"the mean over {' or '.join(texts)} (their standard deviation is in report.json)"] if texts else []
    return "".join(f", {text}" for text in [*means, *whole])


def _reconstruction(evaluations: list[Evaluation]) -> str:
    found = [item for item in evaluations if item.role == "reconstruction"]
    shown = next((item for item in found if not item.reconstructs_train), found[0])
    texts = _fidelity(shown)
    of = " of training images" if shown.reconstructs_train else ""
    return f" Reconstruction{of}: {', '.join(texts)}." if texts else ""


def _fidelity(evaluation: Evaluation) -> list[str]:
    measured = evaluation.get("metrics", "reconstruction") or {}
    return _known(
        (measured.get("psnr"), lambda value: f"PSNR {value:.1f} dB"),
        (measured.get("ssim"), lambda value: f"SSIM {value:.3f}"),
        (measured.get("lpips"), lambda value: f"LPIPS {value:.4f}"),
    )
