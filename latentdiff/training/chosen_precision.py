"""The precision of a run, where its settings leave the choice to the machine."""

from __future__ import annotations

from pathlib import Path

import torch

from latentdiff import distributed, run_checkpoint
from latentdiff.config import TrainerConfig
from latentdiff.precision import resolve_precision, supports_bf16
from latentdiff.run_checkpoint import LAST


def choose_precision(settings: TrainerConfig, device: torch.device, earlier: Path | None = None) -> torch.dtype:
    """Return the type that a run computes in, the same in all processes.

    Args:
        settings: Those of the run.
        device: Where it trains.
        earlier: Folder of the run that this one goes on with. Where ``auto`` chose for it, that choice is kept, so that
            a run ends with the same weights whether it was interrupted or not.
    """
    dtype = resolve_precision(settings.precision, device)
    if settings.precision == "auto" and earlier is not None and (earlier / LAST).is_file():
        begun = run_checkpoint.read(earlier / LAST, mapped=True)["latentdiff"].get("precision")
        if begun == "fp32" or (begun == "bf16" and supports_bf16(device)):
            dtype = torch.bfloat16 if begun == "bf16" else torch.float32
        elif begun == "bf16":
            print("the run was begun in bf16, which this device lacks: it goes on in fp32")
    return distributed.broadcast(dtype)
