import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources

import jsonschema
import pytest

from latentdiff.errors import FolderError, ReportError
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.page import write_report
from latentdiff.report.verdict import verdict


class Page(HTMLParser):
    """Collects what a browser would fetch, and the table's texts."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.rows, self.tags, self.cell = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for key, value in attributes if key in ("src", "href", "srcset")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell:
            self.rows[-1][-1] += data


@pytest.fixture
def evaluations(five):
    return [read_evaluation(folder) for folder in five]


def test_page_is_whole_and_fetches_nothing(evaluations, tmp_path):
    path = write_report(evaluations, tmp_path / "new" / "report", "A title")
    assert path == tmp_path / "new" / "report" / "index.html"
    text = path.read_text()
    page = Page(text)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"@import|url\(|<link[^>]+stylesheet|https?://", text)
    assert [row[:2] for row in page.rows[:7]] == [
        ["Model", "FIDtest"],
        ["noiseindependent random pixels", "412.00"],
        ["vae_baselinedecoded random latents", "61.90"],
        ["pixeldiffusion on 1×28×28 pixels", "14.21"],
        ["latentdiffusion on 2×7×7 latents", "9.87"],
        ["autoencoderceiling: reconstruction", "7.90"],
        ["real imagesfloor: train against test", "3.10"],
    ]
    assert page.tags.count("figure") == 5 + 5
    for expected in (
        "<title>A title</title>",
        "fashion-mnist, the full set: 60,000 training and 10,000 test images of 1×28×28.",
        "Weights 6726825d0af5, resize: bilinear to 299.",
        "It is not an FID",
        "A scale of 1 is off",
        "PSNR 23.1 dB, SSIM 0.900",
        "dpmpp_2m, 20 steps, guidance off, seed 0",
        "python -m latentdiff.stages.evaluate --model latent.safetensors",
        "torch 2.15.0",
    ):
        assert expected in text


def test_json_holds_everything(evaluations, tmp_path):
    write_report(evaluations, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == 1
    assert report["verdict"] == verdict(evaluations)
    assert [row["role"] for row in report["rows"]] == ["noise", "prior", "pixel", "latent", "reconstruction", "floor"]
    assert report["rows"][3]["cells"]["fid_test"] == {"value": 9.87, "text": "9.87"}
    assert {column["key"] for column in report["columns"]} == set(report["rows"][3]["cells"])
    by_name = {item.name: item.values for item in evaluations}
    assert {values["name"]: values for values in report["evaluations"]} == by_name


def test_json_follows_the_published_schema(evaluations, tmp_path):
    schema = json.loads((resources.files("latentdiff.report") / "report.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    write_report(evaluations, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    validator.validate(report)
    report["rows"][0]["cells"]["fid_test"]["value"] = "412"
    report["evaluations"][0]["metrics"]["inception"]["precision"] = 1.5
    assert len(list(validator.iter_errors(report))) == 2


def test_markdown_has_the_tables_and_its_pictures_exist(evaluations, tmp_path):
    write_report(evaluations, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| latent, diffusion on 2×7×7 latents | 9.87 | 10.87 | 9.87 |" in text
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(pictures) == 5 + 5
    assert all((tmp_path / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    tables = {part.split("\n")[0]: part for part in text.split("\n## ") if "|--:|" in part}
    assert list(tables) == ["Quality", "Cost"]
    assert "| latent | 4.40 M |" in tables["Cost"]
    for table in tables.values():
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_warnings_copies_and_every_setting_are_on_the_page(write, tmp_path):
    def with_more(values):
        values["warnings"] = ["1,000 images are few"]
        values["training"]["config"] = {"name": "latent", "trainer": {"lr": 0.00123}, "run": {"folder": "secret"}}
        values["metrics"]["inception"] |= {
            "memorisation": {"median": 9.0, "test_median": 8.0, "share_closer": 0.123},
            "inception_score": {"mean": 4.5, "std": 0.25},
            "density": 0.875,
        }

    folder = write("latent", "diffusion", 9.0, 600.0, change=with_more)
    html = write_report([read_evaluation(folder)], tmp_path / "out").read_text()
    markdown = (tmp_path / "out" / "report.md").read_text()
    for text in ("1,000 images are few", "12.3 %", "4.50 ± 0.25", "0.875"):
        assert text in html
        assert text in markdown
    assert "lr: 0.00123" in html
    assert "secret" not in html


def test_what_the_kids_are_means_over_is_said_also_where_it_differs(write, tmp_path):
    def few(values):
        values["metrics"]["inception"]["kid_test"] |= {"subsets": 10, "subset_size": 50}

    folders = [write("latent", "diffusion", 9.0, 600.0), write("pixel", "diffusion", 9.9, 600.0, change=few)]
    write_report([read_evaluation(folder) for folder in folders], tmp_path / "out")
    text = " ".join((tmp_path / "out" / "report.md").read_text().split())
    # In the order of the rows: pixel before latent.
    assert "the mean over 10 subsets of 50 images or 100 subsets of 1,000 images" in text


def test_what_samplers_reach_is_drawn(evaluations, tmp_path):
    rows = [
        {"sampler": name, "passes": n, "distance_test": 1 + 1 / n} for name in ("ddim", "heun") for n in (5, 10, 20)
    ]
    record = {"rows": rows, "num_images": 300, "floor": 0.9, "model": {"sha256": "0123456789abcdef"}}
    text = write_report(evaluations, tmp_path, samplers={"latent": record}).read_text()
    assert "Quality against sampling steps, latent" in text
    assert (tmp_path / "samplers-1.png").read_bytes().startswith(b"\x89PNG")


def test_special_characters_are_escaped(write, tmp_path):
    name = "latent <img src=http://x onerror=alert(1)> & \"$|`'"
    folder = write(name, "diffusion", 9.0, 600.0, folder="odd")
    path = write_report([read_evaluation(folder)], tmp_path / "out", "<script>alert(1)</script>")
    page = Page(path.read_text())
    assert page.rows[1][0].startswith(name)
    assert page.tags.count("script") == 1
    assert all(address.startswith("data:") for address in page.addresses)
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# \\<script\\>")
    assert "latent \\<img src=http://x onerror=alert(1)\\> \\& \"$\\|\\`'" in text


def test_a_report_of_almost_nothing(write, tmp_path):
    def bare(values):
        for key in ("sampling", "model", "training", "features", "metrics", "floors", "grid", "environment", "command"):
            del values[key]
        values["data"]["source"] = "embedded"

    text = write_report([read_evaluation(write("noise", "noise", 1.0, change=bare))], tmp_path / "out").read_text()
    assert "cannot be said: there is no latent and no pixel model here." in text
    assert "the slice inside the package, not the full set" in text
    assert "None" not in text
    assert "<figure" not in text


def test_what_does_not_compare_is_not_written(write, tmp_path):
    folders = [
        write("pixel", "diffusion", 9.0),
        write("latent", "diffusion", 8.0, change=lambda values: values.update(num_images=5)),
    ]
    with pytest.raises(ReportError, match="the number of images differs"):
        write_report([read_evaluation(folder) for folder in folders], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_report_replaces_the_first(evaluations, tmp_path):
    page = tmp_path / "page"
    write_report(evaluations, page, "first")
    first = {path.name: path.read_bytes() for path in page.glob("*.*")}
    write_report(evaluations, page, "first")
    assert {path.name: path.read_bytes() for path in page.glob("*.*")} == first
    write_report(evaluations, page, "second")
    assert "<title>second</title>" in (page / "index.html").read_text()


def test_a_report_does_not_replace_the_files_of_others(evaluations, tmp_path):
    (tmp_path / "quality.png").write_bytes(b"mine")
    with pytest.raises(FolderError, match="would be lost"):
        write_report(evaluations, tmp_path)
    assert (tmp_path / "quality.png").read_bytes() == b"mine"


def test_importing_the_report_does_not_import_torch():
    command = "import sys, latentdiff.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_pixel_values_are_drawn_where_they_were_measured(write, tmp_path):
    def measured(values):
        values["density"] = {"images": [[1 / 256] * 256], "test": [[0.5] + [0.5 / 255] * 255]}

    report = tmp_path / "report"
    with_density = write("latent", "diffusion", 9.0, 60.0, change=measured)
    write_report([read_evaluation(write("noise", "noise", 400.0))], report)
    assert not (report / "density.png").exists()
    both = [read_evaluation(tmp_path / "noise"), read_evaluation(with_density)]
    text = write_report(both, report).read_text()
    assert (report / "density.png").read_bytes().startswith(b"\x89PNG")
    assert "Pixel values" in text


def test_reconstructions_of_training_images_are_called_that_and_not_ranked(write, tmp_path):
    def learned(values):
        values["reconstructed_split"] = "train"

    folders = [write("tested", "reconstruction", 7.0), write("learned", "reconstruction", 6.0, change=learned)]
    folders.append(write("noise", "noise", 400.0))
    found = [read_evaluation(folder) for folder in folders]
    text = html.unescape(write_report(found, tmp_path / "report").read_text())
    assert "training images, encoded and decoded" in text
    assert "test images, encoded and decoded" in text
    assert "ceiling: reconstruction of training images" in text
    (ranked,) = [sentence for sentence in verdict(found).split(". ") if "best first" in sentence]
    assert "tested" in ranked
    assert "learned" not in ranked
    assert "best first" not in verdict([found[1], found[1]])  # nothing is left to be ranked
