"""The learning rate's course, and stopping early: functions of what has been seen, so that resuming needs no state."""

from __future__ import annotations

import math
from typing import Any

from latentdiff.config import TrainerConfig
from latentdiff.errors import ConfigError


def lr_factor(settings: TrainerConfig, images_seen: int, progress: float, history: list[dict[str, Any]]) -> float:
    """The learning rate as a share of its peak, for the step that begins now.

    Args:
        settings: The trainer's; ``lr_schedule`` and what belongs to it.
        images_seen: Images before this step.
        progress: Share of the budget that is spent, 0 to 1.
        history: The rows of the epochs so far.
    """
    warmup = min(1.0, (images_seen + settings.batch_size) / max(settings.lr_warmup_images, 1))
    return warmup * _decay(settings, images_seen, progress, history)


def is_long_warmup(warmup_images: float, max_images: int) -> bool:
    """Whether the warm-up takes more than half of a run, which then learns little."""
    return warmup_images > max_images // 2


def _decay(settings: TrainerConfig, images_seen: int, progress: float, history: list[dict[str, Any]]) -> float:
    kind = settings.lr_schedule
    if kind == "constant":
        return 1.0
    if kind == "step":
        return settings.lr_step_factor ** (images_seen // settings.lr_step_images)
    if kind == "plateau":
        return settings.lr_step_factor ** count_stalls(history, settings, settings.lr_patience)[0]
    if kind == "cosine_then_constant":
        progress = min(1.0, progress / settings.lr_decay_share)
    return settings.lr_final + (1.0 - settings.lr_final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def count_stalls(history: list[dict[str, Any]], settings: TrainerConfig, patience: int) -> tuple[int, int]:
    """How often ``monitor`` went ``patience`` measurements without a new best, and those since the last best or stall.

    Some metrics are measured only every few epochs.
    """
    sign = -1.0 if settings.monitor_mode == "max" else 1.0
    values = [sign * row[settings.monitor] for row in history if settings.monitor in row]
    best, since, count = math.inf, 0, 0
    for value in values:
        since = 0 if value < best else since + 1
        best = min(best, value)
        if since >= patience:
            count, since = count + 1, 0
    return count, since


def is_best(settings: TrainerConfig, history: list[dict[str, Any]]) -> bool:
    """Whether the last epoch measured ``monitor`` and found it better than ever before."""
    if not settings.monitor or settings.monitor not in history[-1]:
        return False
    sign = -1.0 if settings.monitor_mode == "max" else 1.0
    *before, now = (sign * row[settings.monitor] for row in history if settings.monitor in row)
    return now < min(before, default=math.inf)


def stopped_early(settings: TrainerConfig, history: list[dict[str, Any]]) -> bool:
    """Whether ``monitor`` has gone ``stop_patience`` measurements without a new best."""
    return settings.stop_patience is not None and count_stalls(history, settings, settings.stop_patience)[0] > 0


def early_stop_message(settings: TrainerConfig, history: list[dict[str, Any]]) -> str:
    """What a run that stopped early says: which metric stalled, and its best value."""
    name, patience = settings.monitor, settings.stop_patience
    choose = max if settings.monitor_mode == "max" else min
    best = choose((row for row in history if name in row), key=lambda row: row[name])
    times = "measurement" if patience == 1 else "measurements"
    return (
        f"stopped early: {name} has not improved for {patience} {times} (trainer.stop_patience). Its best value is "
        f"{best[name]:.4g}, after {best['images_seen']:,} images"
    )


def check(settings: TrainerConfig) -> None:
    """Raise ConfigError for a learning rate or a stop that cannot be followed."""
    for wanted, what in (
        (settings.lr_schedule == "plateau", "lr_schedule plateau"),
        (settings.stop_patience, "stop_patience"),
    ):
        if wanted and not settings.monitor:
            raise ConfigError(f"--trainer.{what} needs --trainer.monitor, the metric to watch")
