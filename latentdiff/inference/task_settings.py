"""Which settings of the stage ``sample`` belong to which of its tasks."""

from __future__ import annotations

from latentdiff.config.model_stages import SampleStage
from latentdiff.errors import ConfigError

TASKS_OF = {
    "pngs": ("sample",),
    "npz": ("sample",),
    "columns": ("sample",),
    "strip": ("sample", "noise"),
    "gif": ("sample", "noise", "reconstruct", "interpolate", "inpaint"),
    "labels": ("sample", "reconstruct", "interpolate", "inpaint", "likelihood"),
    "prompt": ("sample", "reconstruct", "interpolate", "inpaint", "likelihood"),
    "negative_prompt": ("sample", "reconstruct"),
    "strengths": ("noise", "reconstruct"),
    "frames": ("interpolate",),
    "mask": ("inpaint",),
    "resamples": ("inpaint",),
    "method": ("likelihood",),
}


def check_task_settings(config: SampleStage) -> None:
    """Raise :class:`ConfigError` for a setting that is not at its default and that the task does not use."""
    usual = SampleStage()
    if config.task == "sample" and config.data != usual.data:
        name = next(key for key, value in vars(config.data).items() if value != getattr(usual.data, key))
        raise ConfigError(
            f"--data.{name} has no effect on the task sample, which takes no images: leave it out, or give "
            "another --task"
        )
    for name, tasks in TASKS_OF.items():
        if config.task not in tasks and getattr(config, name) != getattr(usual, name):
            listed = f"task {tasks[0]}" if len(tasks) == 1 else f"tasks {', '.join(tasks[:-1])} and {tasks[-1]}"
            raise ConfigError(f"--{name} belongs to the {listed}, not to {config.task}: leave it out")
