"""The tables of the five class projects behind this one, as Markdown, from evaluations made here."""

from __future__ import annotations

from latentdiff.report.evaluation import Evaluation
from latentdiff.report.formats import amount, distance, duration, kid, percent, plus_minus

UNKNOWN = "–"
# The second project's figures on Fashion-MNIST, of all samples and within each class, and the keys of ours.
PUBLISHED = {"FID": ("107", "fid_test"), "mean of the FIDs within each class": ("87.8", "per_class_mean")}
ROWS = 12  # Of a training's course, at most.
COURSE = {"loss": "Loss", "val_loss": "Held out", "kid": "KID × 1000", "distance": "Distance"}


def training_table(evaluations: list[Evaluation], projects: dict[str, tuple[int, str]]) -> str:
    """What each model is, what training it cost, and its losses: the fourth project's table for all of them."""
    rows = []
    for item in evaluations:
        project, about = projects.get(item.name, (0, ""))
        losses = [row["loss"] for row in _history(item) if row.get("loss") is not None]
        held_out = [row["val_loss"] for row in _history(item) if row.get("val_loss") is not None]
        rows.append(
            [
                str(project or UNKNOWN),
                f"`{item.name}`",
                about,
                amount(item.get("model", "parameters")),
                amount(item.get("training", "images_seen")),
                duration(item.get("training", "seconds")),
                f"{losses[0]:.3g} → {min(losses):.3g}" if losses else UNKNOWN,
                f"{min(held_out):.3g}" if held_out else UNKNOWN,
                _metric(item, "inception", "fid_test"),
                _metric(item, "classifier", "distance_test"),
            ]
        )
    heads = "Project|Config|What it is|Parameters|Images seen|Training|Loss, first → best|Held out, best|FID|Distance"
    return _section(
        "The models",
        "Losses of different targets and spaces do not compare; distances do, since all are of as many images.",
        heads.split("|"),
        rows,
        left=3,
    )


def published_table(found: dict[str, list[Evaluation]], projects: dict[str, tuple[int, str]]) -> str:
    """The figures that the second project published, beside them those of its models and of the released ones."""
    second = [item for item in found.get("sources", []) if projects.get(item.name, (0, ""))[0] == 2]
    released = [item for item in found.get("released", []) if item.role in ("pixel", "latent")]
    rows = [
        [f"`{item.name}`", figure, theirs, ours]
        for figure, (theirs, key) in PUBLISHED.items()
        for item in (*second, *released)
        if (ours := _metric(item, "inception", key)) != UNKNOWN
    ]
    text = "How many images theirs are of, and what training they took, is not known to us."
    return _section("Published figures beside ours", text, ["Model", "Figure", "Published", "Ours"], rows, left=2)


def class_table(found: dict[str, list[Evaluation]]) -> str:
    """The second project's table: the distance within each class, for every class-conditional model."""
    key, having = next(
        (
            (net, models)
            for net in ("inception", "classifier")
            if (models := [item for group in found.values() for item in group if _by_class(item, net)])
        ),
        ("", []),
    )
    if not having:
        return ""
    classes = list(dict.fromkeys(name for item in having for name in _by_class(item, key)))
    rows = [[name, *(_text(_by_class(item, key).get(name)) for item in having)] for name in classes]
    rows.append(["mean", *(_text(item.get("metrics", key, "per_class_mean")) for item in having)])
    what = "FID within each class" if key == "inception" else "Classifier distance within each class"
    text = "Between the images asked for in a class and the test images of that class."
    return _section(what, text, ["Class", *(f"`{item.name}`" for item in having)], rows, left=1)


def baseline_table(evaluations: list[Evaluation], data_name: str) -> str:
    """The third project's table: noise, VAE and diffusion on one data set, by Inception Score and FID."""
    rows = []
    for item in evaluations:
        score = item.get("metrics", "inception", "inception_score")
        values = [
            f"{score['mean']:.2f} ± {score['std']:.2f}" if score else UNKNOWN,
            _metric(item, "inception", "fid_test"),
            _text(item.get("metrics", "inception", "taps", "64", "fid_test")),
            _kid(item),
            _metric(item, "classifier", "distance_test"),
            percent(value) if (value := item.get("metrics", "classifier", "class_accuracy")) is not None else UNKNOWN,
        ]
        rows.append([item.name, *values])
    text = "The Inception Score needs weights with a classification head and 100 images; else it is left out, not 1.0."
    heads = ["Model", "Inception Score", "FID", "FID, 64 features", "KID × 1000", "Distance", "Class accuracy"]
    return _section(f"Noise, VAE and diffusion: {data_name}", text, heads, rows, left=1)


def course_table(evaluations: list[Evaluation]) -> str:
    """The first and the fifth project's tables: quality and loss as training goes on."""
    sections = []
    for item in evaluations:
        history = _history(item)
        columns = [(key, title) for key, title in COURSE.items() if any(row.get(key) is not None for row in history)]
        if len(history) < 2 or not columns:
            continue
        step = -(-len(history) // ROWS)
        kept = [row for index, row in enumerate(history, 1) if index % step == 0 or index == len(history)]
        rows = [
            [
                amount(row["images_seen"]),
                duration(row["seconds"]),
                *(_figure(row.get(key), 1e3 if key == "kid" else 1) for key, _ in columns),
            ]
            for row in kept
        ]
        heads = ["Images seen", "Time", *(title for _, title in columns)]
        sections.append(_section(f"Course of `{item.name}`", "", heads, rows, left=0))
    return "\n".join(sections)


def _history(item: Evaluation) -> list[dict[str, float]]:
    return item.get("training", "history") or []


def _by_class(item: Evaluation, net: str) -> dict[str, float]:
    # Noise and reconstructions have classes too, but nobody asked them for one.
    own = item.get("metrics", net, "per_class_distance") if item.role in ("pixel", "latent") else None
    return own or {}


def _metric(item: Evaluation, net: str, key: str) -> str:
    value = item.get("metrics", net, key)
    return UNKNOWN if value is None else distance(value) + plus_minus(value, item.get("metrics", net, f"{key}_error"))


def _kid(item: Evaluation) -> str:
    value = item.get("metrics", "inception", "kid_test")
    return kid(value, item.get("metrics", "inception", "kid_test_error")) if value else UNKNOWN


def _figure(value: float | None, times: float = 1) -> str:
    return UNKNOWN if value is None else f"{times * value:.3g}"


def _text(value: float | None) -> str:
    return UNKNOWN if value is None else distance(value)


def _section(title: str, text: str, heads: list[str], rows: list[list[str]], left: int) -> str:
    """A heading, a sentence and a table whose first ``left`` columns are texts."""
    if not rows:
        return ""
    lines = [f"## {title}", "", *([text, ""] if text else [])]
    lines += [f"| {' | '.join(heads)} |", "|" + ":--|" * left + "--:|" * (len(heads) - left)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, ""])
