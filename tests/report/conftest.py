"""Made-up evaluations on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

HASH = "6726825d0af5f729"


def evaluation(name: str, kind: str, fid: float, seconds: float | None = None, stage_one: float | None = None) -> dict:
    """A complete ``evaluation.json``, whose other numbers follow from the FID."""
    latent = kind != "diffusion" or "latent" in name
    training = {
        "images_seen": 500_000,
        "seconds": seconds,
        "images_per_second": 416.0,
        "peak_memory_bytes": 1_200_000_000,
        "device": "a CPU, 2 threads",
        "command": f"python -m latentdiff.stages.diffusion --name {name}",
        "stage_one_seconds": stage_one,
        "history": [
            {"images_seen": 1000 * k, "seconds": 60.0 * k, "distance": fid / k, "loss": 0.2 / k, "val_loss": 0.3 / k}
            for k in (1, 2, 3)
        ],
    }
    return {
        "schema": 1,
        "name": name,
        "kind": kind,
        "data": {
            "name": "fashion-mnist",
            "source": "full",
            "train_images": 60_000,
            "test_images": 10_000,
            "image_shape": [1, 28, 28],
            "class_names": ["T-shirt", "Bag"],
            "train_fingerprint": "aa",
            "test_fingerprint": "bb",
        },
        "num_images": 10_000,
        "method": 2,
        "sampling": {
            "sampler": "dpmpp_2m",
            "steps": 20,
            "guidance_scale": 1.0,
            "seed": 0,
            "seconds": 162.0,
            "images_per_second": 61.73,
            "device": "a CPU, 2 threads",
        },
        "model": {
            "path": f"{name}.safetensors",
            "sha256": "0123456789abcdef",
            "parameters": 4_400_000,
            "latent_shape": [2, 7, 7] if latent else None,
            "compression": 8.0 if latent else None,
        },
        "training": training if seconds is not None else None,
        "features": {
            "inception": {"weights_sha256": HASH, "resize": "bilinear to 299"},
            "classifier": {"weights_sha256": "c1a551f1e4", "resize": "none"},
        },
        "metrics": {
            "inception": {
                "fid_test": fid,
                "fid_train": fid + 1,
                "kid_test": {"mean": fid / 1000, "std": 0.0005, "subsets": 100, "subset_size": 1000},
            },
            "classifier": {
                "distance_test": fid / 10,
                "distance_train": fid / 9,
                "class_accuracy": 0.934,
                "per_class_distance": {"T-shirt": fid / 5, "Bag": fid / 4},
                "per_class_mean": fid / 4.5,
            },
            "reconstruction": {"psnr": 23.1, "ssim": 0.9} if kind == "reconstruction" else None,
        },
        "floors": {"inception": {"fid_test": 3.1}, "classifier": {"distance_test": 0.2}},
        "grid": "grid.png",
        "environment": {"torch": "2.15.0"},
        "command": f"python -m latentdiff.stages.evaluate --model {name}.safetensors",
    }


def everything(values: dict) -> None:
    """Give a made-up evaluation a value in every column of the table, with the errors that make cells wide."""
    fid = values["metrics"]["inception"]["fid_test"]
    values["metrics"]["inception"] |= {
        "fid_test_error": 0.314,
        "kid_test_error": 0.000314,
        "fid_infinity": {"value": fid - 0.5, "residual": 0.1},
        "per_class_mean": 3 * fid,
        "taps": {layer: {"fid_test": fid / 9, "fid_train": fid / 8, "floor": 0.1} for layer in ("64", "192", "768")},
        **dict.fromkeys(("precision", "recall", "density", "coverage"), 0.787),
        "memorisation": {"median": 9.0, "test_median": 8.0, "share_closer": 0.011},
        "inception_score": {"mean": 4.19, "std": 0.12},
    }
    values["metrics"]["classifier"]["distance_test_error"] = 0.0314
    values["metrics"]["diversity"] = {"mean": 0.213, "error": 0.0012}
    if values["kind"] in ("noise", "gaussian"):  # Of no model, and drawn by no sampler.
        values.update(model=None, sampling=None)
        return
    values["model"]["training_flops"] = 1.2e9
    values["sampling"]["flops"] = 2.4e10
    values["training"] |= {"optimiser_steps": 156_000, "encode_seconds": 61.0, "energy_joules": 4.2e5}
    values["training"] |= {"flops": 1.1e15, "stage_one_flops": 9e14}


@pytest.fixture
def write(tmp_path: Path):
    """Writes a made-up evaluation, changed by ``change``, into a folder of its own and returns the folder."""

    def write(name: str, kind: str, fid: float, *times: float | None, change=None, folder: str | None = None) -> Path:
        values = evaluation(name, kind, fid, *times)
        if change:
            change(values)
        path = tmp_path / (folder or name)
        path.mkdir(parents=True)
        Image.new("L", (30, 20)).save(path / "grid.png")
        (path / "evaluation.json").write_text(json.dumps(values))
        return path

    return write


@pytest.fixture
def full(write) -> list[Path]:
    """An evaluation of every role, with a value in every column."""
    return [
        write("noise", "noise", 412.31, change=everything),
        write("gaussian", "gaussian", 309.44, change=everything),
        write("vae_baseline", "prior", 61.9, 1500.0, change=everything),
        write("pixel", "diffusion", 14.21, 2700.0, change=everything),
        write("latent", "diffusion", 9.87, 1200.0, 1500.0, change=everything),
        write("latent-20480-images", "diffusion", 13.1, 1200.0, 1500.0, change=everything),
        write("autoencoder", "reconstruction", 7.9, 1500.0, change=everything),
    ]


@pytest.fixture
def five(write) -> list[Path]:
    """One evaluation of every role, out of order; pixel and latent have had 45 minutes each."""
    return [
        write("autoencoder", "reconstruction", 7.9, 1500.0),
        write("latent", "diffusion", 9.87, 1200.0, 1500.0),
        write("noise", "noise", 412.0),
        write("pixel", "diffusion", 14.21, 2700.0),
        write("vae_baseline", "prior", 61.9, 1500.0),
    ]
