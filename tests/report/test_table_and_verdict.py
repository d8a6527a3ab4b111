from dataclasses import replace
from pathlib import Path

import pytest

from latentdiff.report.evaluation import Evaluation, read_evaluation
from latentdiff.report.formats import amount, distance, duration, kid, plus_minus
from latentdiff.report.table import MOST_COLUMNS, build_table, total_training_flops
from latentdiff.report.verdict import verdict


def read(*folders):
    return [read_evaluation(folder) for folder in folders]


def test_formats():
    assert [distance(value) for value in (412.3, 7.904, 0.2)] == ["412.30", "7.90", "0.200"]
    assert [plus_minus(*pair) for pair in ((7.9, 0.31), (0.0123, 0.0002), (0.2, 0.0104), (1.0, None))] == [
        " ± 0.31",
        " ± 0.0002",
        " ± 0.010",
        "",
    ]
    assert [duration(value) for value in (45, 1200, 9000)] == ["45 s", "20 min", "2.5 h"]
    assert [amount(value) for value in (5.2, 36.4, 416.4, 9_999, 98_300, 4.4e6)] == [
        "5.20",
        "36.4",
        "416",
        "9,999",
        "98.3 k",
        "4.40 M",
    ]
    assert kid({"mean": 0.00512, "std": 0.0004}, 0.0003) == "5.12 ± 0.30"
    assert kid({"mean": -0.00001}) == "-0.01"


def test_order_values_and_floor(five):
    table = build_table(read(*five))
    assert [row.name for row in table.rows] == [
        "noise",
        "vae_baseline",
        "pixel",
        "latent",
        "autoencoder",
        "real images",
    ]
    columns = [column.key for column in table.columns]
    latent = dict(zip(columns, table.rows[3].cells, strict=True))
    assert {key: cell.text for key, cell in latent.items()} == {
        "fid_test": "9.87",
        "fid_train": "10.87",
        "kid_test": "9.87",
        "distance_test": "0.987",
        "class_accuracy": "93.4 %",
        "parameters": "4.40 M",
        "train_rate": "416",
        "images_seen": "500 k",
        "train_seconds": "20 min",
        "stage_one_seconds": "25 min",
        "all_seconds": "45 min",
        "peak_memory": "1.20 GB",
        "sample_rate": "61.7",
        "steps": "20",
    }
    assert latent["kid_test"].value == pytest.approx(0.00987)
    floor = dict(zip(columns, table.rows[-1].cells, strict=True))
    assert {key: cell.value for key, cell in floor.items() if cell.value is not None} == {
        "fid_test": 3.1,
        "distance_test": 0.2,
    }


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"flops": 2e12}, 2e12),
        ({"flops": 2e12, "stage_one_seconds": 60.0, "stage_one_flops": 3e12}, 5e12),
        ({"flops": 2e12, "stage_one_seconds": 60.0, "stage_one_flops": None}, None),
        ({"flops": None, "stage_one_seconds": 60.0, "stage_one_flops": 3e12}, None),
        ({"flops": 2e12, "config": {"autoencoder": "diffusers:vae"}}, None),  # how it was trained is not known
        ({"flops": 2e12, "config": {"autoencoder": "none"}}, 2e12),
    ],
)
def test_operations_in_all_have_those_of_stage_one(training, expected):
    assert total_training_flops(Evaluation(Path(), "latent", {"training": training})) == expected


def test_columns_without_a_value_and_an_unknown_floor_are_dropped(write):
    def bare(values):
        values.update(metrics={"classifier": {"distance_test": 1.5}}, floors=None, training=None, sampling=None)

    table = build_table(read(write("latent", "diffusion", 9.0, change=bare)))
    assert [column.key for column in table.columns] == ["distance_test", "parameters"]
    assert [row.name for row in table.rows] == ["latent"]


def test_a_page_has_quality_and_cost_apart(five):
    parts = dict(build_table(read(*five)).parts())
    assert list(parts) == ["Quality", "Cost"]
    keys = [column.key for column in parts["Quality"].columns]
    assert keys == ["fid_test", "fid_train", "kid_test", "distance_test", "class_accuracy"]
    latent = next(row for row in parts["Cost"].rows if row.name == "latent")
    assert [latent.cells[0].text, latent.cells[-1].text] == ["4.40 M", "20"]


def test_much_quality_is_in_two_tables(full):
    table = build_table(read(*full))
    parts = dict(table.parts())
    assert list(parts) == ["Quality: distances to real images", "Quality: fidelity and variety", "Cost"]
    distances, fidelity, cost = parts.values()
    assert max(len(part.columns) for part in (distances, fidelity)) <= MOST_COLUMNS
    assert {column.key for part in parts.values() for column in part.columns} == {c.key for c in table.columns}
    # All rows are in the first; the floor has no more than its distances, and noise costs nothing.
    names = [row.name for row in table.rows]
    assert [[row.name for row in part.rows] for part in (distances, fidelity, cost)] == [names, names[:-1], names[2:-1]]


def test_a_row_of_which_nothing_is_known_is_in_the_first_table(write):
    def bare(values):
        values.update(metrics=None, sampling=None, model={"path": "model.safetensors"})

    folders = [write("bare pixel", "diffusion", 1.0, change=bare), write("latent", "diffusion", 9.0, 60.0)]
    parts = build_table(read(*folders)).parts()
    assert [[row.name for row in part.rows] for _, part in parts] == [
        ["bare pixel", "latent", "real images"],
        ["latent"],
    ]


def test_terminal_table_is_aligned_and_fits(five):
    lines = build_table(read(*five)).text().splitlines()
    assert max(map(len, lines)) <= 160
    assert lines[0].split()[:4] == ["FID", "FID", "KID", "Classifier"]
    assert [line.split("  ")[0] for line in lines[3:]] == [
        "noise",
        "vae_baseline",
        "pixel",
        "latent",
        "autoencoder (ceiling)",
        "real images (floor)",
    ]
    end = lines[1].index("test") + len("test")
    assert [line[:end].split()[-1] for line in lines[3:]] == ["412.00", "61.90", "14.21", "9.87", "7.90", "3.10"]


def test_latent_better_at_the_same_budget(five):
    sentence = verdict(read(*five))
    assert sentence.startswith(
        "Latent beat pixel: FID to the test images 9.87 against 14.21 (lower is better), "
        "after 45 min of training (25 min of it for the autoencoder) against 45 min."
    )
    assert "budget" not in sentence
    assert "One training run each" in sentence


def test_pixel_better_but_trained_longer(write):
    pair = read(write("pixel", "diffusion", 8.0, 3600.0), write("latent", "diffusion", 9.0, 600.0, 900.0))
    sentence = verdict(pair)
    assert sentence.startswith("Pixel beat latent: FID to the test images 8.00 against 9.00")
    assert "Not the same time: pixel trained 2.4 times as long as latent, which may be all of its lead." in sentence


def test_latent_better_with_less_time(write):
    pair = read(write("pixel", "diffusion", 9.0, 3600.0), write("latent", "diffusion", 8.0, 600.0, 900.0))
    assert "Not the same time: pixel trained 2.4 times as long as latent and was still beaten." in verdict(pair)


def test_equal_diffusion_times_are_read_both_ways(write):
    pair = read(write("pixel", "diffusion", 9.0, 1000.0), write("latent", "diffusion", 8.0, 1000.0, 1500.0))
    expected = "trained equally long; counting the autoencoder's training, latent took 2.5 times as long as pixel."
    assert expected in verdict(pair)
    assert "Not the same time" not in verdict(pair)


@pytest.mark.parametrize(("seconds", "same"), [(1099.0, True), (1101.0, False)])
def test_ten_per_cent_is_the_same_budget(write, seconds, same):
    pair = read(write("pixel", "diffusion", 9.0, 1000.0), write("latent", "diffusion", 8.0, seconds - 500, 500.0))
    assert ("Not the same time" not in verdict(pair)) is same


def test_a_tiny_lead_is_none(write):
    pair = read(write("pixel", "diffusion", 9.1, 1000.0), write("latent", "diffusion", 9.0, 500.0, 500.0))
    assert verdict(pair).startswith("Latent and pixel are level: FID to the test images 9.00 against 9.10")
    assert "A lead below 2% is taken for none" in verdict(pair)
    assert "beat" not in verdict(pair)


@pytest.mark.parametrize(("error", "level"), [(0.1, False), (0.5, True)])
def test_a_lead_within_the_standard_errors_is_none(write, error, level):
    def change(values):
        values["metrics"]["inception"]["fid_test_error"] = error

    pair = read(
        write("pixel", "diffusion", 9.9, 1000.0, change=change),
        write("latent", "diffusion", 9.0, 500.0, 500.0, change=change),
    )
    assert (" are level: " in verdict(pair)) is level
    assert f"9.00 ± {error:.2f} against 9.90 ± {error:.2f}" in verdict(pair)
    assert f"9.00 ± {error:.2f}" in build_table(pair).text()


def test_unknown_times_are_said(write):
    pair = read(write("pixel", "diffusion", 9.0), write("latent", "diffusion", 8.0, 500.0))
    assert "after 8 min of training against an unrecorded time." in verdict(pair)
    assert "Whether the budget was the same cannot be said: pixel has no training time." in verdict(pair)
    assert "The autoencoder's own training time is not known and not counted." in verdict(pair)
    encoded = write("latent", "diffusion", 8.0, 500.0, 100.0, folder="encoded")
    (unknown,) = read(encoded)
    said = "How long its latents took to encode is not known and not counted."
    assert said in verdict([pair[0], unknown])
    unknown.values["training"]["encode_seconds"] = 20.0
    assert said not in verdict([pair[0], unknown])


def test_an_autoencoder_of_another_device_is_said(write):
    def change(values):
        values["training"]["stage_one_device"] = "a GPU"

    pair = read(
        write("pixel", "diffusion", 9.0, 1000.0), write("latent", "diffusion", 8.0, 1000.0, 900.0, change=change)
    )
    said = "The autoencoder of latent was trained on another device (a GPU) than it (a CPU, 2 threads)"
    assert said in verdict(pair)
    pair[1].values["training"]["stage_one_device"] = "a CPU, 2 threads"
    assert "another device" not in verdict(pair)


def test_different_devices_samplers_and_the_slice_are_said(write):
    def change(values):
        values["training"]["device"] = "a GPU"
        values["sampling"].update(steps=50, guidance_scale=1.5)

    def slice_(values):
        values["data"]["source"] = "embedded"
        values["num_images"] = 2_000

    pair = read(
        write("pixel", "diffusion", 9.0, 1000.0, change=lambda values: (change(values), slice_(values))),
        write("latent", "diffusion", 8.0, 500.0, 500.0, change=slice_),
    )
    sentence = verdict(pair)
    assert "Trained on different devices (a CPU, 2 threads; a GPU), so the times do not compare." in sentence
    assert "latent by dpmpp_2m, 20 steps, guidance off; pixel by dpmpp_2m, 50 steps, guidance 1.5." in sentence
    assert "An FID from 2,000 images is unreliable" in sentence
    assert "the slice of fashion-mnist inside the package, not on the full set" in sentence


def test_without_inception_the_classifier_decides_and_is_named(write):
    def no_inception(values):
        values["metrics"]["inception"] = None

    pair = read(
        write("pixel", "diffusion", 20.0, 1000.0, change=no_inception),
        write("latent", "diffusion", 10.0, 500.0, 500.0),
    )
    assert verdict(pair).startswith("Latent beat pixel: classifier distance to the test images 1.00 against 2.00")
    assert "No FID decides here" in verdict(pair)


@pytest.mark.parametrize(
    ("images", "test_images", "few"), [(8, 11, "8 images and 11 test images"), (99, 100, "99 images"), (100, 100, "")]
)
def test_no_winner_is_named_from_too_few_images(write, images, test_images, few):
    def change(values):
        values["metrics"]["inception"], values["num_images"] = None, images
        values["features"]["classifier"] |= {"dim": 64, "test_images": test_images}
        values["floors"]["classifier"]["class_accuracy"] = 0.45

    pair = [
        read(write(name, "diffusion", fid, 1000.0, change=change, folder=name))[0]
        for name, fid in (("pixel", 20.0), ("latent", 10.0))
    ]
    for found in (verdict(pair), verdict([pair[0], replace(pair[0], name="other")])):
        assert ("too few to tell which is better: 100 of each are needed" in found) == bool(few)
        assert f"{few} are too few" in found or not few
        assert ("beat" in found or "best first" in found) == (not few)
        assert "The classifier recognises only 45% of the test images" in found


def test_what_cannot_be_said(write, five):
    noise, latent = read(five[2]), read(five[1])
    assert verdict(noise + latent) == (
        "Whether the latent space paid off cannot be said: there is no pixel model here. "
        "By FID to the test images, best first: latent 9.87, noise 412.00."
    )
    assert "there is no latent and no pixel model here" in verdict(noise)
    bare = read(write("bare pixel", "diffusion", 1.0, change=lambda values: values.update(metrics=None)))
    assert "latent and pixel share no metric" in verdict(latent + bare)


def test_of_several_models_the_best_is_compared(write, five):
    again = write("latent", "diffusion", 9.5, 1200.0, 1500.0, folder="again")
    sentence = verdict(read(*five, again))
    assert sentence.startswith("Latent (again) beat pixel: FID to the test images 9.50")
    assert "The best of 2 latent models is compared" in sentence


def test_models_that_their_samples_cannot_tell_apart_are_named(write, five):
    def error(value):
        return lambda values: values["metrics"]["inception"].update(fid_test_error=value)

    close = write("latent-b", "diffusion", 10.0, 1200.0, 1500.0, change=error(0.2))
    sentence = verdict(read(*five, close))
    assert "These cannot be told apart by their FID to the test images: latent and latent-b." in sentence
    far = write("latent-c", "diffusion", 12.0, 1200.0, 1500.0, change=error(0.2))
    assert "latent-b and latent-c" not in verdict(read(*five, close, far))
    assert "is not known, and counted as none" not in sentence  # of the two that are compared, neither has one
    own = read(write("a", "images", 20.0, change=error(0.5)), write("b", "images", 20.4, change=error(0.5)))
    assert "By FID to the test images, best first: a 20.00 ± 0.50, b 20.40 ± 0.50." in verdict(own)
    assert "cannot be told apart by their FID to the test images: a and b" in verdict(own)


def test_an_error_that_only_one_of_two_has_is_said_to_be_missing(write):
    latent = write("latent", "diffusion", 9.0, 1200.0, 1500.0)
    known = {"fid_test_error": 0.1}
    pixel = write(
        "pixel", "diffusion", 14.0, 2700.0, change=lambda values: values["metrics"]["inception"].update(known)
    )
    assert "The standard error of latent is not known, and counted as none" in verdict(read(latent, pixel))
