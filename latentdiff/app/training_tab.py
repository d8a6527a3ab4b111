"""The tab that follows a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.app.handlers import LIGHT, gr, in_words
from latentdiff.app.pictures import message
from latentdiff.app.training_runs import find_runs, show_run, version_of
from latentdiff.errors import LatentdiffError

# Seconds between two looks at the run.
REFRESH = 5.0
NONE = '<p class="ld-note">There is no training run here. Runs are looked for under the folder {folder}.</p>'


def training_tab(runs: Path) -> None:
    """Curves and grids of a run below ``runs``, looked at anew while the tab is open."""
    with gr.Tab("Training", id="training") as tab:
        with gr.Row(equal_height=True):
            name = gr.Dropdown([], label="Run", scale=4, filterable=False)
            again = gr.Button("Look for runs", scale=1)
        view = gr.HTML(elem_id="run")
        seen, timer = gr.State(""), gr.Timer(REFRESH, active=False)

    def listed(chosen: str | None) -> Any:
        found = find_runs(runs)
        kept = chosen if chosen in found else next(iter(found), None)
        return gr.Dropdown(choices=found, value=kept), gr.Timer(active=True), *shown(kept, "")

    def shown(chosen: str | None, version: str) -> tuple[Any, str]:
        if chosen is None:
            return NONE.format(folder=runs.name), ""
        try:
            now = version_of(runs, chosen)
            return (gr.skip() if now == version else show_run(runs, chosen)), now
        except LatentdiffError as error:  # it may begin anew at this moment: the timer looks again
            return message(str(error)), ""

    private = {**LIGHT, "api_visibility": "private"}
    for event in (tab.select, again.click):
        event(in_words(listed), name, [name, timer, view, seen], **private)
    name.input(in_words(lambda chosen: shown(chosen, "")), name, [view, seen], **private)
    timer.tick(in_words(shown), [name, seen], [view, seen], **private)
