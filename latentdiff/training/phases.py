"""Phases of a stage-one run: which losses hold at which part of the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise

from latentdiff.config import AutoencoderLossConfig, PhaseConfig, TrainerConfig
from latentdiff.errors import ConfigError

NO_LOSSES = ("start", "lr_factor", "lr_restart")
LOSS_FIELDS = tuple(field.name for field in fields(PhaseConfig) if field.name not in NO_LOSSES)


def check_phases(loss: AutoencoderLossConfig, phases: Sequence[PhaseConfig], trainer: TrainerConfig) -> None:
    """Raise ConfigError for phases out of order, for a frozen encoder that a later phase would train again, and for a
    restart of a schedule that cannot restart."""
    starts = [0.0, *(phase.start for phase in phases)]
    for before, after in pairwise(starts):
        if not before < after < 1.0:
            raise ConfigError(
                f"phases must start one after the other, above 0 and below 1, as fractions of the budget, not at "
                f"{', '.join(f'{start:g}' for start in starts[1:])}"
            )
    if trainer.lr_schedule != "cosine" and any(phase.lr_restart for phase in phases):
        raise ConfigError(f"lr_restart of a phase needs the lr_schedule cosine, not {trainer.lr_schedule}")
    frozen = [losses.frozen_encoder for losses in losses_of_phases(loss, phases)]
    if frozen != sorted(frozen):
        raise ConfigError(
            "a phase trains the encoder that an earlier phase froze: the latents would no longer be valid"
        )


def losses_of_phases(loss: AutoencoderLossConfig, phases: Sequence[PhaseConfig]) -> list[AutoencoderLossConfig]:
    """The losses before the first phase and in each of them: one more than ``phases``."""
    losses = [loss]
    for phase in phases:
        changes = {name: getattr(phase, name) for name in LOSS_FIELDS if getattr(phase, name) is not None}
        losses.append(replace(losses[-1], **changes))
    return losses


def phase_index(phases: Sequence[PhaseConfig], progress: float) -> int:
    """How many phases have begun where the share ``progress`` of the budget is spent."""
    return sum(progress >= phase.start for phase in phases)


def lr_factor(phases: Sequence[PhaseConfig], index: int) -> float:
    """The factor on the learning rate once ``index`` phases have begun: that of the last which names one."""
    factors = [phase.lr_factor for phase in phases[:index] if phase.lr_factor is not None]
    return factors[-1] if factors else 1.0


def lr_progress(phases: Sequence[PhaseConfig], progress: float) -> float:
    """Where the schedule of the learning rate is, 0 to 1: it runs once from each restart to the next or to the end.

    Args:
        phases: Of the run.
        progress: Share of the budget that is spent.
    """
    bounds = [0.0, *(phase.start for phase in phases if phase.lr_restart), 1.0]
    for begin, end in pairwise(bounds):
        if progress < end:
            return (progress - begin) / (end - begin)
    return 1.0
