"""Several evaluations side by side, as one page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latentdiff.config import DataConfig, RunConfig
from latentdiff.stages.budget import BudgetConfig
from latentdiff.stages.folders import default_folder


@dataclass(frozen=True, kw_only=True)
class CompareStage:
    """Write index.html, report.json and report.md from evaluated models.

    Args:
        evaluations: Folders that hold an evaluation.json. Default: every one under stages/evaluate; where there is none
            yet, the released models of ``data`` are evaluated first, under stages/released.
        title: Title of the page.
        num_images: Images of each released model. Default: 10,000 on a GPU, 1,000 on a CPU with Inception and 2,000
            with the classifier alone.
        budget: Train both paths at equal budgets first, under stages/budget, and compare those; what was interrupted
            goes on.
        data: The real images that released models and budgets are measured against.
        run: Where the files go.
    """

    evaluations: tuple[str, ...] = ()
    title: str = "Pixel against latent"
    num_images: int | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


def run(config: CompareStage) -> Path:
    """Write the report and return the path of its page."""
    from latentdiff.report import build_table, check_comparable, read_evaluation, verdict, write_report
    from latentdiff.stages import folders
    from latentdiff.stages.budget import run_budgets
    from latentdiff.stages.released import evaluate_released

    named = [Path(folder) for folder in config.evaluations]
    found = named or sorted(path.parent for path in default_folder("evaluate", "").glob("*/evaluation.json"))
    groups: dict[str, list[Path]] = {}
    if config.budget.asked or not found:
        folders.check(config.run, "compare", config.data.name)  # before the work, not after
    if config.budget.asked:
        if named:
            raise ValueError("a comparison is either of evaluations that are named or of runs at a budget, not both")
        groups = run_budgets(config.budget, config.data, config.num_images)
        found = list(dict.fromkeys(folder for group in groups.values() for folder in group))
    elif not found:
        found = evaluate_released(config.data, config.num_images)
    read = {folder: read_evaluation(folder) for folder in found}
    evaluations = list(read.values())
    check_comparable(evaluations)
    judged = {words: [read[folder] for folder in group] for words, group in groups.items()}
    folder = folders.prepare(config.run, "compare", evaluations[0].values["data"]["name"])
    page = write_report(evaluations, folder, config.title, judged)
    print(f"\n{build_table(evaluations).text()}\n")
    for words, group in (judged or {"": evaluations}).items():
        print(f"{words and f'At {words}. '}{verdict(group)}\n")
    print(page)
    return page


def main(argv: list[str] | None = None) -> None:
    import sys

    from latentdiff.stages import cli

    arguments = sys.argv[1:] if argv is None else argv
    # `compare A B C` reads better than a list in brackets: folders before the first flag are the evaluations.
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    positional = [f"--evaluations={arguments[:count]}"] if count else []
    run(cli.parse(CompareStage, [*positional, *arguments[count:]]))


if __name__ == "__main__":
    from latentdiff.stages.cli import run_stage

    run_stage(main)
