"""The commands and the Python of the guide and of README run, on miniature settings, in a folder of their own.

A comment before a block says what else is to be known: ``<!-- test: skip REASON -->`` or ``<!-- test: slow -->``.
"""

from __future__ import annotations

import importlib
import re
import shlex
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs" / "guide").glob("*.md")), ROOT / "README.md"]
# Pages that take five seconds or more: the slow test runs them.
LONG = ("compare", "evaluate", "sample", "train")
MARK = re.compile(r"<!-- test: (skip|slow)\b.*-->")
PROGRAM = re.compile(r"(?:python -m latentdiff\.stages\.|python -m latentdiff |latentdiff )(\w+)")
# Set-up, and programs of others: a block of commands may hold them, and they are not run.
OTHERS = ("make", "pip", "git", "cd", "source", "export", "tensorboard", "torchrun", "srun", "sbatch", "python")
# Appended to each command of a stage: the last of two equal flags counts.
TRAINING = [
    "--trainer.max_images=32",
    "--trainer.batch_size=16",
    "--trainer.num_threads=1",
    "--trainer.precision=fp32",
    "--data.max_train_images=48",
    "--validation_images=16",
]
MINIATURE = {
    "autoencoder": [*TRAINING, "--loss.perceptual_weight=0"],
    "latents": ["--data.max_train_images=48"],
    "diffusion": [*TRAINING, "--quality_images=0", "--sample_every=1000"],
    "classifier": ["--data.max_train_images=48", "--epochs=1", "--num_threads=1"],
    "sample": ["--steps=3"],
    "evaluate": ["--num_images=24", "--real_images=48", "--inception=off", "--lpips=off"],
    "samplers": ["--num_images=24", "--steps=[2,3]", "--threads=1"],
}
DIFFUSION_SAMPLES = ["--steps=2"]


@dataclass(frozen=True)
class Block:
    """Code of a page.

    Attributes:
        line: Number of its first line.
        code: Its text, or its commands one a line.
        python: Whether it is Python; else it is commands.
        mark: ``skip``, ``slow`` or nothing.
    """

    line: int
    code: str
    python: bool
    mark: str


def blocks(text: str) -> list[Block]:
    """The blocks of Python (fenced) and of commands (indented by four spaces) in a page."""
    found: list[Block] = []
    lines, mark, number = text.splitlines(), "", 0
    while number < len(lines):
        line = lines[number]
        start = number
        if line.startswith("```"):
            number = next(i for i in range(start + 1, len(lines)) if lines[i].startswith("```"))
            if line == "```python":
                found.append(Block(start + 2, "\n".join(lines[start + 1 : number]), True, mark))
            mark = ""
        elif line.startswith("    ") and not lines[start - 1].strip():
            while number + 1 < len(lines) and (lines[number + 1].startswith("    ") or not lines[number + 1].strip()):
                number += 1
            code = "\n".join(each.strip() for each in lines[start : number + 1]).replace("\\\n", "").strip()
            if code.split()[0] in ("latentdiff", *OTHERS) or "=" in code.split()[0]:
                found.append(Block(start + 1, code, False, mark))
            mark = ""
        elif match := MARK.match(line):
            mark = match[1]
        elif line.strip():
            mark = ""
        number += 1
    return found


def run_command(command: str) -> None:
    """Run one line: a stage of latentdiff, with miniature settings; other programs are left out."""
    words = shlex.split(command, comments=True)
    match = PROGRAM.match(" ".join(words))
    if not match:
        assert not words or words[0] in OTHERS, f"neither a stage nor a program that is known: {command}"
        return
    stage = match[1]
    argv = words[next(i for i, word in enumerate(words) if word.endswith(stage)) + 1 :]
    if "--help" in argv or "--print_config" in argv:
        return
    more = MINIATURE.get(stage, [])
    if stage == "evaluate" and not {"noise", "gaussian"} & set(argv) and "prior" not in argv:
        more = [*more, *DIFFUSION_SAMPLES]
    importlib.import_module(f"latentdiff.stages.{stage}").main([*argv, *more])


def run_page(page: Path, slow: bool) -> None:
    """Run the blocks of a page one after the other, as a reader does; Python blocks share their names."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.mark == "skip" or (block.mark == "slow" and not slow):
            continue
        if block.python:
            padding = "\n" * (block.line - 1)  # so that a traceback names the page's own lines
            exec(compile(padding + block.code, str(page), "exec"), names)
            continue
        for command in block.code.splitlines():
            run_command(command)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No server answers: images come from the package, and nets that are not in it are left out."""

    def refuse(*args, **kwargs):
        raise OSError("no network in the tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in LONG], ids=lambda page: page.stem)
def test_the_quick_blocks_of_a_page_run(page, offline):
    run_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem in LONG or "test: slow" in page.read_text()], ids=lambda p: p.stem
)
def test_all_blocks_of_a_page_run(page, offline):
    run_page(page, slow=True)


def test_blocks_are_found_with_their_marks():
    text = """
    not a command

<!-- test: slow -->

    python -m latentdiff.stages.sample \\
        --steps 3  # few

```python
x = 1
```

<!-- test: skip no network -->
```python
y = 2
```
"""
    commands, first, second = blocks(text)
    assert " ".join(commands.code.split()) == "python -m latentdiff.stages.sample --steps 3 # few"
    assert commands.mark == "slow"
    assert (first.code, first.python, first.mark) == ("x = 1", True, "")
    assert (second.code, second.mark) == ("y = 2", "skip")
