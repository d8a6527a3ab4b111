import json

import pytest

from latentdiff.errors import ReportError
from latentdiff.report.evaluation import check_comparable, in_order, read_evaluation
from latentdiff.report.table import build_table
from latentdiff.report.verdict import verdict


def test_reads_values_and_roles(five):
    evaluations = {item.name: item for item in map(read_evaluation, five)}
    assert evaluations["latent"].get("metrics", "inception", "fid_test") == 9.87
    assert evaluations["latent"].get("metrics", "absent", "fid_test") is None
    assert evaluations["noise"].get("training", "seconds") is None
    assert {name: item.role for name, item in evaluations.items()} == {
        "autoencoder": "reconstruction",
        "latent": "latent",
        "noise": "noise",
        "pixel": "pixel",
        "vae_baseline": "prior",
    }


def test_a_latent_of_the_images_own_shape_is_pixels(write):
    folder = write("x", "diffusion", 9.0, change=lambda values: values["model"].update(latent_shape=[1, 28, 28]))
    assert read_evaluation(folder).role == "pixel"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"there is no .*nowhere/evaluation\.json: run the evaluate stage"):
        read_evaluation(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[1, 2", '{"schema": 1, "name": NaN}'])
def test_bad_json_is_named(write, text):
    folder = write("latent", "diffusion", 9.0)
    (folder / "evaluation.json").write_text(text)
    with pytest.raises(ReportError, match=r"latent/evaluation\.json cannot be read as JSON"):
        read_evaluation(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 2}'])
def test_another_schema_is_refused(write, content):
    folder = write("latent", "diffusion", 9.0)
    (folder / "evaluation.json").write_text(content)
    with pytest.raises(ReportError, match=r"has schema (None|2); this version of latentdiff reads 1"):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("num_images"), "lacks num_images"),
        (lambda values: values["data"].pop("test_fingerprint"), "lacks data.test_fingerprint"),
        (lambda values: values.update(data=None), "lacks data"),
        (lambda values: values.update(model=None), "lacks model"),
        (lambda values: values.update(features=None), "lacks features.inception.weights_sha256"),
        (lambda values: values.update(kind="gan"), "is of kind 'gan'"),
        (lambda values: values.update(name="two\nlines"), "a row's name is one line"),
        (
            lambda values: values.update(grid="absent.png"),
            r"names the picture absent.png \(grid\), which",
        ),
        (lambda values: values.update(grid="../secret.png"), "is not in its folder"),
        (lambda values: values.update(grid="evaluation.json"), "is no PNG and no GIF"),
    ],
)
def test_incomplete_evaluations_are_named(write, change, message):
    with pytest.raises(ReportError, match=message):
        read_evaluation(write("latent", "diffusion", 9.0, change=change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(num_images=2_000), "the number of images differs: 10000 against 2000"),
        (lambda values: values["data"].update(name="flowers-102"), "the data set differs"),
        (lambda values: values["data"].update(source="embedded"), "the source of the data set differs"),
        (lambda values: values["data"].update(test_fingerprint="cc"), "the test images differs: bb against cc"),
        (
            lambda values: values["features"]["inception"].update(weights_sha256="other"),
            "the Inception network differs",
        ),
        (lambda values: values["features"]["classifier"].update(weights_sha256="other"), "the classifier differs"),
        (lambda values: values["features"]["inception"].update(resize="area"), "Inception's resize rule differs"),
        (lambda values: values.update(method=3), "the method of measuring differs: 2 against 3"),
        (lambda values: values.pop("method"), "the method of measuring differs: 2 against 1"),
    ],
)
def test_what_does_not_compare_is_refused_with_both_folders(write, change, message):
    folders = [
        write("pixel", "diffusion", 9.0),
        write("latent", "diffusion", 8.0, change=change),
    ]
    with pytest.raises(ReportError, match=f"pixel and .*latent do not compare, {message}.*; evaluate"):
        check_comparable([read_evaluation(folder) for folder in folders])


def test_a_metric_that_one_row_lacks_still_compares(write):
    def no_inception(values):
        values["features"]["inception"] = values["metrics"]["inception"] = None

    folders = [write("pixel", "diffusion", 9.0, change=no_inception), write("latent", "diffusion", 8.0)]
    check_comparable([read_evaluation(folder) for folder in folders])


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ReportError, match="nothing to compare"):
        check_comparable([])


@pytest.mark.parametrize("names", [("steps-20", "steps-50"), ("here/steps-20", "there/steps-20")])
def test_rows_of_one_name_are_told_apart_by_as_much_of_their_path_as_it_takes(write, names):
    folders = [write("latent", "diffusion", fid, folder=name) for name, fid in zip(names, (9.0, 8.0), strict=True)]
    ordered = in_order([read_evaluation(folder) for folder in folders])
    assert [item.name for item in ordered] == [f"latent ({name})" for name in names]
    assert in_order(ordered) == ordered
    assert json.loads((folders[0] / "evaluation.json").read_text())["name"] == "latent"


def plain(values):
    """Every place in nested plain values, of a list the first two."""
    if isinstance(values, dict | list):
        for key, item in list(values.items() if isinstance(values, dict) else enumerate(values[:2])):
            yield values, key
            yield from plain(item)


def test_values_of_a_wrong_type_are_refused_in_one_line_or_do_no_harm(full):
    """Each value of an evaluation, replaced by others: it is read and can be shown, or refused by name."""
    (folder,) = (folder for folder in full if folder.name == "latent")
    path = folder / "evaluation.json"
    values, messages = json.loads(path.read_text()), []
    values["features"]["inception"]["train_images"] = values["metrics"]["diversity"]["pairs"] = 4
    values |= {"warnings": ["few images"], "density": {"images": [[0.0] * 256]}}
    for holder, key in plain(values):
        whole = holder[key]
        for other in (None, True, -1, "text", [], {"a": None}):
            holder[key] = other
            path.write_text(json.dumps(values))
            try:
                evaluation = read_evaluation(folder)
            except ReportError as error:
                messages.append(str(error))
                continue
            check_comparable(in_order([evaluation]))
            assert build_table([evaluation]).text()
            assert verdict([evaluation])
            assert str(evaluation)
        holder[key] = whole
    assert len(messages) > 500
    assert {len(message.splitlines()) for message in messages} == {1}


def test_what_is_saved_is_read_back_and_a_change_of_it_is_noticed(write, tmp_path):
    evaluation = read_evaluation(write("latent", "diffusion", 9.87))
    evaluation.save(tmp_path / "saved")
    again = read_evaluation(tmp_path / "saved")
    assert again.values == evaluation.values
    path = tmp_path / "saved" / "evaluation.json"
    path.write_text(path.read_text().replace("9.87", "1.87"))
    with pytest.raises(ReportError, match=r'is damaged: its content does not match.*remove its line "digest"'):
        read_evaluation(tmp_path / "saved")
