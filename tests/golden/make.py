"""Store what the golden checks compare with: ``python tests/golden/make.py`` makes all of it anew.

``python tests/golden/make.py images numbers report`` makes these parts alone. Only a change that is meant to change
images, training steps or reports is a reason to run it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import test_golden as golden
import torch


def main(parts: list[str]) -> None:
    for name in ("LATENTDIFF_DATA", "LATENTDIFF_LPIPS", "LATENTDIFF_INCEPTION"):
        os.environ.pop(name, None)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for part in parts:
            {"images": images, "numbers": numbers, "report": report}[part](Path(folder))
        os.chdir(golden.HERE)


def images(folder: Path) -> None:
    for case, asked in golden.SAMPLES.items():
        start = time.perf_counter()
        golden.write_sheet(case, golden.sample_images(*asked))
        print(f"{case}: {time.perf_counter() - start:.1f} s", flush=True)
    for name in golden.AUTOENCODERS:
        golden.write_sheet(name.replace("/", "-"), golden.codec_images(name))
    for name, found in golden.edits().items():
        golden.write_sheet(f"edit-{name}", found)


def numbers(folder: Path) -> None:
    found = {name: golden.codec_numbers(name) for name in golden.AUTOENCODERS}
    found["edits"] = golden.edit_numbers()
    found["pixels"] = golden.pixel_numbers()
    for what, cases, measure in (
        ("training", golden.TRAININGS, golden.training_numbers),
        ("evaluation", golden.EVALUATIONS, golden.evaluation_numbers),
    ):
        for case in cases:
            own = folder / f"{what}-{case}"
            own.mkdir()
            start = time.perf_counter()
            found[f"{what} {case}"] = measure(case, own)
            print(f"{what} {case}: {time.perf_counter() - start:.1f} s", flush=True)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    (golden.HERE / "numbers.json").write_text(f"{{\n{lines}\n}}\n")


def report(folder: Path) -> None:
    found = golden.report_of_stored(folder / "evaluations")
    (golden.HERE / "report.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["images", "numbers", "report"])
