"""What the numbers allow to say: whether latent beat pixel, by how much and at which cost, and what they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from latentdiff.report.evaluation import Evaluation, in_order
from latentdiff.report.formats import duration, sampling_settings
from latentdiff.report.table import DISTANCE_ERROR, FID_ERROR, total_training_seconds, with_error

SAME_BUDGET = 1.1  # Training times up to this ratio count as the same budget.
MIN_LEAD_RATIO = 1.02  # A lead below this ratio is none, whatever the standard errors say.
MIN_LEAD_ERRORS = 2.0  # Nor is one below so many standard errors of the difference.
FEWEST_TO_RANK = 100  # Nor are models ranked by fewer images, or fewer test images, than this.
NEAR_CHANCE = 1 / 3  # A classifier that is less than so far on the way from chance to all images right is near chance.
FEWEST_FOR_FID = 2048  # Inception's feature dimensions: with fewer images the covariance is singular.


def verdict(evaluations: list[Evaluation]) -> str:
    """Whether latent beat pixel, by how much and at which cost, and what the numbers do not allow to say."""
    return " ".join(verdict_sentences(evaluations))


def verdict_sentences(evaluations: list[Evaluation]) -> list[str]:
    """The verdict's sentences: the finding first, then each reservation.

    FID to the test images decides; where pixel and latent do not both have one, the classifier's distance does. Of
    several models of a kind the best stands for it.
    """
    evaluations = in_order(evaluations)
    for ranking in RANKING_METRICS:
        candidates = [
            [item for item in ranking.with_value(evaluations) if item.role == role] for role in ("latent", "pixel")
        ]
        if all(candidates):
            if few := _too_few([*candidates[0], *candidates[1]], ranking):
                return [*few, *_classifier_reservations(evaluations, ranking), *_data_reservations(evaluations[0])]
            return [*_compare(candidates, ranking), *_indistinguishable_pairs(evaluations, ranking)]
    missing = [role for role in ("latent", "pixel") if not any(item.role == role for item in evaluations)]
    reason = f"there is no {' and no '.join(missing)} model here" if missing else "latent and pixel share no metric"
    # Reconstructions of training images are none of the test images': another measure than their neighbours'.
    alike = [item for item in evaluations if not item.reconstructs_train]
    ranked = next((ranking for ranking in RANKING_METRICS if len(ranking.with_value(alike)) > 1), None)
    order: list[str] = []
    if ranked:
        order = _too_few(ranked.with_value(alike), ranked) or (
            _ranking(alike, ranked) + _indistinguishable_pairs(evaluations, ranked)
        )
        order += _classifier_reservations(evaluations, ranked)
    return [
        f"Whether the latent space paid off cannot be said: {reason}.",
        *order,
        *_data_reservations(evaluations[0]),
    ]


@dataclass(frozen=True)
class RankingMetric:
    """A metric that models are ranked by, less being better: its name, where its value is, and its standard error."""

    metric: str
    path: tuple[str, ...]
    error: tuple[str, ...]

    def with_value(self, evaluations: list[Evaluation]) -> list[Evaluation]:
        """The evaluations that hold this metric."""
        return [item for item in evaluations if item.get(*self.path) is not None]

    def text(self, evaluation: Evaluation) -> str:
        """The value with its standard error, as text."""
        return with_error(evaluation.get(*self.path), evaluation.get(*self.error))


RANKING_METRICS = (
    RankingMetric("FID to the test images", ("metrics", "inception", "fid_test"), FID_ERROR),
    RankingMetric("classifier distance to the test images", ("metrics", "classifier", "distance_test"), DISTANCE_ERROR),
)


def _too_few(evaluations: list[Evaluation], ranking: RankingMetric) -> list[str]:
    """That there are too few images, of the models or real ones, to name a winner, with the values; else nothing.

    A classifier has few features, so as many images can be asked for; Inception's FID has a reservation of its own.
    """
    net = ranking.path[1]
    dims = [item.get("features", net, "dim") or 0 for item in evaluations if net == "classifier"]
    needed = max([FEWEST_TO_RANK, *dims])
    images = min(item.values["num_images"] for item in evaluations)
    real = min(item.get("features", net, "test_images") or needed for item in evaluations)
    if min(images, real) >= needed:
        return []
    values = ", ".join(f"{item.name} {ranking.text(item)}" for item in evaluations)
    found = f"{images:,} images" + (f" and {real:,} test images" if real < needed else "")
    return [
        f"{found} are too few to tell which is better: {needed:,} of each are needed.",
        f"{ranking.metric}: {values}.",
    ]


def _classifier_reservations(evaluations: list[Evaluation], ranking: RankingMetric) -> list[str]:
    """That the classifier whose features decide knows little of the classes; nothing where it knows them, or is not
    known to."""
    accuracy = evaluations[0].get("floors", "classifier", "class_accuracy")
    classes = len(evaluations[0].get("data", "class_names") or ())
    if ranking.path[1] != "classifier" or accuracy is None or not is_near_chance(accuracy, classes):
        return []
    return [f"The classifier recognises only {accuracy:.0%} of the test images: its distances say little."]


def is_near_chance(accuracy: float, classes: int) -> bool:
    """Whether an accuracy is less than a third of the way from chance to 1."""
    chance = 1 / max(classes, 1)
    return accuracy - chance < NEAR_CHANCE * (1 - chance)


def _ranking(evaluations: list[Evaluation], ranking: RankingMetric) -> list[str]:
    ranked = sorted(ranking.with_value(evaluations), key=lambda item: item.get(*ranking.path))
    return [f"By {ranking.metric}, best first: {', '.join(f'{item.name} {ranking.text(item)}' for item in ranked)}."]


def _indistinguishable_pairs(evaluations: list[Evaluation], ranking: RankingMetric) -> list[str]:
    """Which other models are too close to be told apart by the samples that were drawn; an error that is not known is
    counted as none."""
    # Reconstructions are no draw of samples, and the best latent against the best pixel has its own sentence.
    drawn = [item for item in ranking.with_value(evaluations) if item.role != "reconstruction"]
    ranked = sorted(drawn, key=lambda item: item.get(*ranking.path))
    judged = [next((item for item in ranked if item.role == role), None) for role in ("latent", "pixel")]
    pairs = [
        f"{first.name} and {second.name}"
        for first, second in combinations(ranked, 2)
        if not (None not in judged and first in judged and second in judged)
        and _significant_difference(first, second, ranking) <= 0
    ]
    return [f"These cannot be told apart by their {ranking.metric}: {'; '.join(pairs)}."] if pairs else []


def _significant_difference(first: Evaluation, second: Evaluation, ranking: RankingMetric) -> float:
    """How far ``second`` is behind ``first`` beyond what the draw of their samples may have done."""
    errors = (item.get(*ranking.error) or 0.0 for item in (first, second))
    return second.get(*ranking.path) - first.get(*ranking.path) - MIN_LEAD_ERRORS * math.hypot(*errors)


def _compare(candidates: list[list[Evaluation]], ranking: RankingMetric) -> list[str]:
    """The sentences for the best latent and the best pixel model, of which there is at least one each."""
    path = ranking.path
    best = [min(models, key=lambda item: item.get(*path)) for models in candidates]
    first, second = sorted(best, key=lambda item: item.get(*path))
    low, high = first.get(*path), second.get(*path)
    significant = _significant_difference(first, second, ranking) > 0
    level = high <= low * MIN_LEAD_RATIO or not significant
    better, worse = _name_with_role(first), _name_with_role(second)
    finding = f"{better} and {worse} are level" if level else f"{better} beat {worse}"
    sentences = [
        f"{finding[0].upper()}{finding[1:]}: {ranking.metric} {ranking.text(first)} against "
        f"{ranking.text(second)} (lower is better), "
        f"after {_training(first, ' of training')} against {_training(second)}."
    ]
    if level:
        sentences.append(
            "A difference this small is within what other samples of the same models would change."
            if not significant
            else f"A lead below {MIN_LEAD_RATIO - 1:.0%} is taken for none: another training run may well undo it."
        )
    without_error = [item.name for item in (first, second) if item.get(*ranking.error) is None]
    if without_error and len(without_error) < 2:
        sentences.append(
            f"The standard error of {without_error[0]} is not known, and counted as none: evaluate it again."
        )
    sentences += _budget_reservations(first, second, level)
    for models in candidates:
        if len(models) > 1:
            sentences.append(f"The best of {len(models)} {models[0].role} models is compared, chosen by this number.")
    ways = [sampling_settings(item.get("sampling")) for item in (first, second)]
    if ways[0] != ways[1]:
        sentences.append(f"Sampled differently: {first.name} by {ways[0]}; {second.name} by {ways[1]}.")
    if path[1] == "classifier":
        sentences.append(
            "No FID decides here: this distance is in the features of a classifier of this data set "
            "and compares only within this report."
        )
        sentences += _classifier_reservations([first], ranking)
    elif first.values["num_images"] < FEWEST_FOR_FID:
        images = f"{first.values['num_images']:,}"
        sentences.append(f"An FID from {images} images is unreliable: Inception needs at least {FEWEST_FOR_FID:,}.")
    sentences += _data_reservations(first)
    return [*sentences, "One training run each: how far another run would move these numbers is not known."]


def _name_with_role(evaluation: Evaluation) -> str:
    name, role = evaluation.name, evaluation.role
    return name if name.startswith(role) else f"{role} ({name})"


def _training(evaluation: Evaluation, noun: str = "") -> str:
    seconds, stage_one = total_training_seconds(evaluation), evaluation.get("training", "stage_one_seconds")
    if seconds is None:
        return f"an unrecorded time{noun}"
    return f"{duration(seconds)}{noun}" + (f" ({duration(stage_one)} of it for the autoencoder)" if stage_one else "")


def _budget_reservations(first: Evaluation, second: Evaluation, level: bool) -> list[str]:
    """Reservations about the two training times; ``first`` is the one with the better metric."""
    sentences = []
    times = [total_training_seconds(item) for item in (first, second)]
    if None in times:
        unknown = " and ".join(item.name for item in (first, second) if total_training_seconds(item) is None)
        sentences.append(f"Whether the budget was the same cannot be said: {unknown} has no training time.")
    elif max(times) > SAME_BUDGET * min(times):
        longer, shorter = (first, second) if times[0] > times[1] else (second, first)
        ratio = f"{max(times) / min(times):.1f} times" if min(times) else "far"
        own = [item.get("training", "seconds") for item in (first, second)]
        sentence = f"Not the same time: {longer.name} trained {ratio} as long as {shorter.name}"
        if max(own) <= SAME_BUDGET * min(own):
            sentence = (
                f"The two diffusion models trained equally long; counting the autoencoder's training, {longer.name} "
                f"took {ratio} as long as {shorter.name}"
            )
        elif not level:
            sentence += ", which may be all of its lead" if longer is first else " and was still beaten"
        sentences.append(f"{sentence}.")
    if any(item.role == "latent" and item.get("training", "stage_one_seconds") is None for item in (first, second)):
        sentences.append("The autoencoder's own training time is not known and not counted.")
    elif any(item.role == "latent" and item.get("training", "encode_seconds") is None for item in (first, second)):
        sentences.append("How long its latents took to encode is not known and not counted.")
    devices = [item.get("training", "device") for item in (first, second)]
    if None not in devices and devices[0] != devices[1]:
        sentences.append(f"Trained on different devices ({devices[0]}; {devices[1]}), so the times do not compare.")
    for item in (first, second):
        before, own = item.get("training", "stage_one_device"), item.get("training", "device")
        if None not in (before, own) and before != own:
            sentences.append(
                f"The autoencoder of {item.name} was trained on another device ({before}) than it ({own}), so the time "
                "that counts both is of neither."
            )
    return sentences


def _data_reservations(evaluation: Evaluation) -> list[str]:
    if evaluation.get("data", "source") != "embedded":
        return []
    return [f"Measured on the slice of {evaluation.get('data', 'name')} inside the package, not on the full set."]
