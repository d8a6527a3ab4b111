"""What the Hugging Face Hub reads at the head of a model's card: kind, data, licence, and the measured figures."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from latentdiff.checkpoint import TrainedModel
from latentdiff.codec import AutoencoderCodec
from latentdiff.inference.model import DiffusionModel
from latentdiff.report.formats import sampling_settings

# The ids of data sets on the Hub. Others are left out: an id that there is not would be a dead link.
DATASETS = {
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "mnist": "ylecun/mnist",
    "cifar-10": "uoft-cs/cifar10",
    "flowers-102": "nelorth/oxford-flowers",
    "celeba": "flwrlabs/celeba",
}
# What a model of these images may be given away under. Of other data the Hub says nothing unless the user does.
LICENCES = {"fashion-mnist": "apache-2.0", "flowers-102": "other", "celeba": "other"}
# Where each figure lies in an evaluation's ``metrics``, what the Hub calls it, and what a reader does.
FIGURES = (
    (("inception", "fid_test"), "fid", "FID to the test images"),
    (("inception", "kid_test"), "kid", "KID to the test images"),
    (("inception", "precision"), "precision", "Precision (Kynkäänniemi et al. 2019)"),
    (("inception", "recall"), "recall", "Recall (Kynkäänniemi et al. 2019)"),
    (("classifier", "class_accuracy"), "accuracy", "Share of images in the class asked for, by a classifier"),
    (("reconstruction", "psnr"), "psnr", "PSNR of reconstructions, dB"),
    (("reconstruction", "ssim"), "ssim", "SSIM of reconstructions"),
    (("reconstruction", "lpips"), "lpips", "LPIPS of reconstructions"),
)


def metadata(
    hub: ModuleType, model: TrainedModel, name: str, licence: str | None, evaluations: Sequence[dict[str, Any]]
) -> str:
    """The card's head as YAML between two lines of dashes.

    Args:
        hub: The package huggingface_hub.
        model: The model of the card.
        name: What it is called beside its figures.
        licence: Identifier of its licence on the Hub. Default: what is known of its data set.
        evaluations: The values of ``evaluation.json`` of the model.
    """
    data = data_name(model)
    figures = [figure for values in evaluations for figure in _figures(hub, values, _task(model))]
    head = hub.ModelCardData(
        library_name="latentdiff",
        pipeline_tag=_task(model),
        license=licence or LICENCES.get(data),
        tags=_tags(model),
        datasets=[DATASETS[data]] if data in DATASETS else None,
        metrics=list(dict.fromkeys(figure.metric_type for figure in figures)) or None,
        model_name=name,
        eval_results=figures or None,
    )
    return f"---\n{head.to_yaml()}\n---\n"


def data_name(model: TrainedModel) -> str:
    """The name of the data set that a model was trained on; empty where it is not known."""
    return (model.provenance.get("data") or {}).get("name") or ""


def _task(model: TrainedModel) -> str:
    if isinstance(model, AutoencoderCodec):
        return "image-to-image"
    return "text-to-image" if _reads(model) else "unconditional-image-generation"


def _reads(model: TrainedModel) -> bool:
    """Whether a model reads captions."""
    return isinstance(model, DiffusionModel) and model.network.tokenizer is not None


def _tags(model: TrainedModel) -> list[str]:
    tags = ["pytorch", "safetensors", "latentdiff"]
    if not isinstance(model, DiffusionModel):
        return [*tags, "autoencoder", "vae"]
    space = "latent-diffusion" if isinstance(model.codec, AutoencoderCodec) else "pixel-diffusion"
    condition = "text-conditional" if _reads(model) else "class-conditional"
    return [*tags, "diffusion", space, *([condition] if model.conditional else [])]


def _figures(hub: ModuleType, values: dict[str, Any], task: str) -> list[Any]:
    found: list[Any] = []
    data, sampling = values["data"], values.get("sampling") or {}
    how = f"{values['num_images']:,} images"
    if sampling:
        how += f", {sampling_settings(sampling)}"
    for (group, key), kind, words in FIGURES:
        split = (values.get("reconstructed_split") or "test") if group == "reconstruction" else "test"
        value = ((values.get("metrics") or {}).get(group) or {}).get(key)
        if value is not None:
            found.append(
                hub.EvalResult(
                    task_type=task,
                    dataset_type=DATASETS.get(data["name"], data["name"]),
                    dataset_name=data["name"],
                    dataset_split=split,
                    metric_type=kind,
                    metric_name=f"{words} ({how})",
                    metric_value=round(float(value), 5),
                )
            )
    return found
