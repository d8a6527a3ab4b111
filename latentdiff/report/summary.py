"""The main numbers of an evaluation as lines of text, for a terminal and a model's card."""

from __future__ import annotations

from typing import Any

from latentdiff.report import formats


def summary(values: dict[str, Any]) -> list[str]:
    """The main numbers of ``evaluation.json``, each with its floor, then its warnings."""
    metrics, floors = values.get("metrics") or {}, values.get("floors") or {}
    lines = []
    if metrics.get("inception"):
        lines += _inception(metrics["inception"], floors.get("inception") or {}, values["features"]["inception"])
    if pixels := metrics.get("pixels"):
        lines.append(
            f"pixel by pixel {pixels['share_closer']:.1%} are closer to one of all {pixels['train_images']:,} training "
            f"images than 99 % of the test images are; the nearest pair differs by {pixels['least']:.1f} grey levels "
            f"(rms), the median {pixels['median']:.1f}, that of test images {pixels['test_median']:.1f}"
        )
    if metrics.get("classifier"):
        floor = (floors.get("classifier") or {}).get("distance_test")
        lines.append(f"classifier distance to test {metrics['classifier']['distance_test']:.3f}" + _of_reals(floor, 3))
        if metrics["classifier"].get("class_accuracy") is not None:
            lines.append(f"class accuracy {metrics['classifier']['class_accuracy']:.1%}")
    if metrics.get("reconstruction"):
        lines.append(f"PSNR {metrics['reconstruction']['psnr']:.2f} dB")
        if "ssim" in metrics["reconstruction"]:
            lines[-1] += f", SSIM {metrics['reconstruction']['ssim']:.3f}"
        if "lpips" in metrics["reconstruction"]:
            lines[-1] += f", LPIPS {metrics['reconstruction']['lpips']:.4f}"
    if metrics.get("diversity"):
        real = f" (real images: {floors['diversity']['mean']:.3f})" if floors.get("diversity") else ""
        lines.append(f"LPIPS between two images {metrics['diversity']['mean']:.3f}{real}")
    if values.get("sampling"):
        lines.append(f"{values['sampling']['images_per_second']:.1f} images/s")
    return [*lines, *(f"note: {warning}" for warning in values.get("warnings") or [])]


def _inception(found: dict[str, Any], floor: dict[str, Any], features: dict[str, Any]) -> list[str]:
    lines = [
        f"FID to test {found['fid_test']:.2f}, to train {found['fid_train']:.2f}"
        + _of_reals(floor.get("fid_test"), 2)
        + "; KID × 1000 "
        + formats.kid(found["kid_test"], found.get("kid_test_error"))
    ]
    if far := found.get("fid_infinity"):
        lines.append(f"FID extrapolated to infinitely many images {far['value']:.2f} (residual {far['residual']:.2f})")
    for layer, tap in found.get("taps", {}).items():
        lines.append(
            f"FID in the layer of {layer} features: to test {tap['fid_test']:.3f}, to train {tap['fid_train']:.3f} "
            f"(real training images: {tap['floor']:.3f})"
        )
    if "precision" in found:
        lines.append(
            "precision {precision:.1%}, recall {recall:.1%}, density {density:.2f}, coverage {coverage:.1%}".format(
                **found
            )
        )
    if score := found.get("inception_score"):
        lines.append(f"Inception Score {score['mean']:.2f} ± {score['std']:.2f}")
    if close := found.get("memorisation"):
        lines.append(
            f"{close['share_closer']:.1%} are closer to a training image than 99 % of the test images are (about 1 % "
            f"for new images), in Inception's features{_of_images(features)}"
        )
    return lines


def _of_reals(floor: float | None, digits: int) -> str:
    """What real training images reach themselves, in brackets, where it is known."""
    return "" if floor is None else f" (real training images: {floor:.{digits}f})"


def _of_images(features: dict[str, Any]) -> str:
    """`` of 1,000 training images``, where it is known how many."""
    return f" of {features['train_images']:,} training images" if "train_images" in features else ""


def summary_rows(values: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The main numbers of ``evaluation.json``: what, the measured value, and that of real training images."""
    metrics, floors = values.get("metrics") or {}, values.get("floors") or {}
    inception, classifier = metrics.get("inception") or {}, metrics.get("classifier") or {}
    real, real_classifier = floors.get("inception") or {}, floors.get("classifier") or {}
    diversity, real_diversity = metrics.get("diversity") or {}, floors.get("diversity") or {}
    reconstruction = metrics.get("reconstruction") or {}
    pixels, sampling = metrics.get("pixels") or {}, values.get("sampling") or {}
    rows = [
        ("FID to the test images", inception.get("fid_test"), real.get("fid_test"), formats.distance),
        ("FID to the training images", inception.get("fid_train"), None, formats.distance),
        ("KID × 1000", inception.get("kid_test"), real.get("kid_test"), formats.kid),
        ("Precision", inception.get("precision"), real.get("precision"), formats.percent),
        ("Recall", inception.get("recall"), real.get("recall"), formats.percent),
        (
            "Classifier distance to the test images",
            classifier.get("distance_test"),
            real_classifier.get("distance_test"),
            formats.distance,
        ),
        ("Class accuracy", classifier.get("class_accuracy"), real_classifier.get("class_accuracy"), formats.percent),
        ("PSNR, dB", reconstruction.get("psnr"), None, formats.distance),
        ("SSIM", reconstruction.get("ssim"), None, formats.distance),
        ("LPIPS", reconstruction.get("lpips"), None, formats.distance),
        (
            "LPIPS between two images",
            diversity.get("mean"),
            real_diversity.get("mean"),
            formats.distance,
        ),
        ("Copies of training images", pixels.get("copied"), None, formats.percent),
        ("Images per second", sampling.get("images_per_second"), None, formats.amount),
    ]
    return [
        (what, show(value), "" if floor is None else show(floor))
        for what, value, floor, show in rows
        if value is not None
    ]
