"""Where a model comes from: what its file's header and its card say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff import checkpoint
from latentdiff.checkpoint import device_name, environment
from latentdiff.data import ImageDataset
from latentdiff.errors import CheckpointError
from latentdiff.training.base_module import StageModule


def finished_before(module: StageModule, path: Path, kind: str) -> dict[str, Any] | None:
    """The record in a model's file, where a resumed run had nothing left to do; None where the file is to be written.

    Written again, it would name this process's device and memory for the work of another one.

    Args:
        module: The trainer, after training.
        path: The model's file.
        kind: ``autoencoder`` or ``diffusion``.
    """
    if module.resumed_at != module.images_seen:
        return None
    try:
        made = checkpoint.read_header(path, kind).get("provenance") or {}
    except CheckpointError:
        return None
    before = (module.started_from or {}).get("images_seen", 0)
    return made if made.get("images_seen") == before + module.images_seen else None


def provenance(module: StageModule, data: ImageDataset, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Data, budget spent, device, versions, the commands and every setting, as plain values.

    ``command`` is the one that began the run, ``resumed_by`` are those that went on with it.

    Images, seconds and operations (``flops``) are those of the run and of the one that its weights come from, which
    ``started_from`` holds; the energy is the run's own. Energy and operations are None where they are not known.
    """
    before = module.started_from or {"images_seen": 0, "seconds": 0.0, "flops": 0.0}
    flops = (before.get("flops"), module.step_flops.total)
    return {
        "data": {
            "name": data.name,
            "source": data.source,
            "images": len(data),
            "shape": list(data.image_shape),
            "fingerprint": data.fingerprint,
            "split": data.split_description,
            "class_names": list(data.class_names),
        },
        "images_seen": before["images_seen"] + module.images_seen,
        "seconds": before["seconds"] + module.seconds,
        "started_from": module.started_from,
        "images_per_second": module.images_seen / module.seconds,
        "energy_joules": module.energy,
        "flops": None if None in flops else sum(flops),
        "peak_memory_bytes": module.peak_memory_bytes(),
        "device": device_name(module.device),
        "history": module.history,
        "environment": environment(),
        "command": module.commands[0] if module.commands else "",
        "resumed_by": module.commands[1:],
        "config": config,
        **more,
    }
