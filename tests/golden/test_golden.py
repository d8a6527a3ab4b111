"""Golden checks: images, training steps and a report are what they were when ``make.py`` stored them.

The released weights must give the same images, and the trainers must take the same steps, however the package is laid
out. Everything works on the Fashion-MNIST slice inside the package, on images that a model made, or on seeded noise.
All uses of the package are in the first part of this file; ``python tests/golden/make.py`` stores what they give.
"""

from __future__ import annotations

import csv
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentdiff.config import (
    AutoencoderConfig,
    AutoencoderLossConfig,
    DataConfig,
    DiffusionConfig,
    NetworkConfig,
    RunConfig,
    TrainerConfig,
)
from latentdiff.config.model_stages import EvaluateStage
from latentdiff.data import load_dataset, load_split
from latentdiff.evaluation.evaluate import evaluate_with_settings
from latentdiff.inference.inpainting import inpaint
from latentdiff.inference.inversion import generate, interpolate, invert
from latentdiff.inference.likelihood import bits_per_dim
from latentdiff.inference.model import load
from latentdiff.inference.noising import forward_process, reconstruct, reverse_process
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.page import write_report
from latentdiff.training import train_autoencoder as autoencoder_training
from latentdiff.training import train_diffusion as diffusion_training

HERE = Path(__file__).resolve().parent

# --- the package's API, as these tests use it ---


@cache
def released(name: str) -> Any:
    """A released diffusion model or autoencoder, such as ``celeba/latent``."""
    return load(f"checkpoints/{name}.safetensors", exact=True)


def path_of(name: str) -> str:
    """What settings name a released model by."""
    return f"checkpoints/{name}.safetensors"


def sample_images(name: str, count: int, settings: dict[str, Any]) -> Tensor:
    """uint8 [count, c, h, w] of a released diffusion model."""
    return released(name).sample(count, **settings)


def encode_images(name: str, images: Tensor) -> Tensor:
    """The posterior's moments [n, 2 * latent_channels, h', w'] by a released autoencoder."""
    return released(name).encode(images)


def decode_latents(name: str, latents: Tensor) -> Tensor:
    """uint8 images of standardised latents."""
    return released(name).decode(latents)


def decode_prior(name: str, noise: Tensor) -> Tensor:
    """uint8 images of raw latents from N(0, I)."""
    return released(name).decode_prior(noise)


def reconstruct_images(name: str, images: Tensor) -> Tensor:
    """uint8 images through the posterior's mean and back."""
    return released(name).reconstruct(images)


def latent_shape(name: str) -> tuple[int, int, int]:
    return released(name).latent_shape


def fashion_images(count: int, split: str = "test") -> Tensor:
    """The first images of the slice inside the package, uint8 [count, 1, 28, 28]."""
    return load_split(DataConfig(source="embedded"), split).images[:count].clone()


def train_autoencoder(folder: Path, network: dict, loss: dict, trainer: dict, data: dict) -> Path:
    """Train stage one in ``folder``, which then holds model.safetensors and metrics.csv."""
    autoencoder_training.train_autoencoder(
        load_dataset(DataConfig(source="embedded", max_train_images=128, **data)),
        network=AutoencoderConfig(**network),
        loss=AutoencoderLossConfig(**loss),
        trainer=TrainerConfig(**trainer),
        validation_images=16,
        folder=folder,
    )
    return folder


def train_diffusion(
    folder: Path, autoencoder: str, network: dict, diffusion: dict, trainer: dict, data: dict, accumulate: int = 1
) -> Path:
    """Train stage two in ``folder``, which then holds model.safetensors and metrics.csv."""
    diffusion_training.train_diffusion(
        load_dataset(DataConfig(source="embedded", max_train_images=128, **data)),
        autoencoder=autoencoder,
        network=NetworkConfig(**network),
        diffusion=DiffusionConfig(**diffusion),
        trainer=TrainerConfig(**trainer, gradient_accumulation_steps=accumulate),
        sample_every=100,
        quality_images=0,
        validation_images=16,
        latents_folder=folder.with_name("latents"),
        folder=folder,
    )
    return folder


def evaluate_model(folder: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The evaluation record of a released model against the slice inside the package, by the classifier alone."""
    config = EvaluateStage(
        model=path_of(name),
        data=DataConfig(source="embedded"),
        inception="off",
        lpips="off",
        device="cpu",
        features_folder=str(folder / "features"),
        run=RunConfig(folder=str(folder / "evaluation")),
        **settings,
    )
    return json.loads((evaluate_with_settings(config).folder / "evaluation.json").read_text())


def make_report(folders: list[Path], folder: Path) -> dict[str, Any]:
    """``report.json`` of the evaluations in ``folders``."""
    write_report([read_evaluation(path) for path in folders], folder)
    return json.loads((folder / "report.json").read_text())


# --- the cases ---

SAMPLERS = {
    "dpmpp_2m": {"steps": 10},
    "ddim": {"steps": 10},
    "ddpm": {"steps": 10},
    "euler": {"steps": 8},
    "euler_ancestral": {"steps": 8, "guidance_scale": 1.5},
    "heun": {"steps": 6, "churn": 4.0},
    "dpmpp_2m_sde": {"steps": 8},
    "unipc": {"steps": 8, "spacing": "karras"},
    "euler_maruyama": {"steps": 10},
    "predictor_corrector": {"steps": 6},
}
GUIDED = {"guidance_scale": 1.5, "seed": 3}
GUIDE = {"guide": path_of("celeba/guide"), "guidance_scale": 2.0}
# Name: (model, number of images, settings). Photographs take far more room: 2 or 1 of them.
SAMPLES: dict[str, tuple[str, int, dict[str, Any]]] = {
    **{
        f"fashion-latent-{sampler}": ("fashion-mnist/latent", 8, {"sampler": sampler, **settings})
        for sampler, settings in SAMPLERS.items()
    },
    "fashion-pixel-dpmpp_2m": ("fashion-mnist/pixel", 8, {"steps": 6, **GUIDED}),
    "fashion-pixel-ddim": (
        "fashion-mnist/pixel",
        8,
        {"sampler": "ddim", "eta": 0.5, "steps": 6, "thresholding": "dynamic"},
    ),
    "fashion-pixel-heun": ("fashion-mnist/pixel", 8, {"sampler": "heun", "steps": 6}),
    "fashion-pixel-dpmpp_2m_sde": ("fashion-mnist/pixel", 8, {"sampler": "dpmpp_2m_sde", "steps": 6}),
    "flowers-latent-dpmpp_2m": ("flowers-102/latent", 2, {"steps": 8, "guidance_scale": 1.5}),
    "flowers-latent-ddpm": ("flowers-102/latent", 2, {"sampler": "ddpm", "steps": 8, "labels": [50, 60]}),
    "flowers-latent-heun": ("flowers-102/latent", 1, {"sampler": "heun", "steps": 6}),
    "flowers-latent-predictor_corrector": ("flowers-102/latent", 1, {"sampler": "predictor_corrector", "steps": 6}),
    "celeba-latent-dpmpp_2m": ("celeba/latent", 2, {"steps": 8}),
    "celeba-latent-ddim": ("celeba/latent", 1, {"sampler": "ddim", "steps": 8, "seed": 5}),
    "celeba-latent-heun": ("celeba/latent", 1, {"sampler": "heun", "steps": 6}),
    "celeba-latent-dpmpp_2m_sde": ("celeba/latent", 1, {"sampler": "dpmpp_2m_sde", "steps": 8}),
    "celeba-guided-dpmpp_2m": ("celeba/latent", 2, {"steps": 8, **GUIDE}),
    "celeba-guided-interval": ("celeba/latent", 1, {"steps": 8, **GUIDE, "guidance_interval": (0.2, 4.0)}),
}
# What costs seconds; the rest runs by default.
SLOW_SAMPLES = {
    "fashion-pixel-ddim",
    "fashion-pixel-heun",
    "fashion-pixel-dpmpp_2m_sde",
    "flowers-latent-heun",
    "flowers-latent-predictor_corrector",
    "celeba-latent-ddim",
    "celeba-latent-heun",
    "celeba-latent-dpmpp_2m_sde",
    "celeba-guided-interval",
}
# Autoencoder: the stored sheet of images that it encodes; None are those inside the package.
AUTOENCODERS = {
    "fashion-mnist/autoencoder": None,
    "fashion-mnist/vae_baseline": None,
    "flowers-102/autoencoder": "flowers-latent-dpmpp_2m",
    "celeba/autoencoder": "celeba-latent-dpmpp_2m",
}
TRAINER = {"max_images": 160, "images_per_epoch": 16, "batch_size": 16, "lr_warmup_images": 32, "seed": 7}
TRAINER |= {"accelerator": "cpu", "precision": "fp32", "ema_half_life": 40, "ema_warmup": 0.3}
CODEC = {"channels": (8, 32), "encoder_blocks": 1, "decoder_blocks": 1}
UNET = {"channels": (8, 8), "num_res_blocks": 1, "attention_levels": (1,), "head_channels": 8}
JUDGED = {"adversarial_start": 48, "discriminator_warmup": 32, "discriminator_channels": 8}
TRAININGS: dict[str, dict[str, Any]] = {
    "autoencoder": {"network": CODEC, "loss": {**JUDGED, "perceptual_weight": 0.0}, "data": {}},
    "autoencoder-lpips": {
        "network": {**CODEC, "patch": 2, "refine_channels": 8},
        "loss": {
            **JUDGED,
            "perceptual_net": "alexnet",
            "perceptual_weights": "trunk.safetensors",
            "adversarial_adaptive": True,
            "discriminator_bands": True,
            "feature_adversarial_weight": 0.5,
            "feature_discriminator_channels": 8,
        },
        "data": {"hflip": True},
    },
    "latent": {"autoencoder": path_of("fashion-mnist/autoencoder"), "network": UNET, "diffusion": {}, "data": {}},
    "pixel": {"autoencoder": "none", "network": UNET, "diffusion": {}, "data": {}},
    "learned-variance": {
        "autoencoder": path_of("fashion-mnist/autoencoder"),
        "network": UNET,
        "diffusion": {"learn_variance": True, "schedule": "linear", "target": "eps"},
        "data": {},
    },
    "accumulated-mirrored": {
        "autoencoder": path_of("fashion-mnist/autoencoder"),
        "network": UNET,
        "diffusion": {"schedule": "edm", "target": "edm", "loss_weight": "edm"},
        "data": {"hflip": True},
        "accumulate": 2,
    },
}
EVALUATIONS = {
    "latent": ("fashion-mnist/latent", {"num_images": 200, "real_images": 400, "steps": 6}),
    "autoencoder": ("fashion-mnist/autoencoder", {"num_images": 200, "real_images": 400}),
    "vae_baseline": ("fashion-mnist/vae_baseline", {"num_images": 200, "real_images": 400, "mode": "prior"}),
}
MODEL = "fashion-mnist/latent"


def codec_numbers(name: str) -> dict[str, list[float]]:
    return {"moments": projections([encode_images(name, codec_inputs(name))])}


def codec_images(name: str) -> Tensor:
    """Two reconstructions, then one decoded latent."""
    latents = noise(2, latent_shape(name), 11)[:1]
    decode = decode_prior if name.endswith("vae_baseline") else decode_latents
    return torch.cat([reconstruct_images(name, codec_inputs(name)[:2]), decode(name, latents)])


def codec_inputs(name: str) -> Tensor:
    sheet = AUTOENCODERS[name]
    if sheet is None:
        return fashion_images(8)
    return read_sheet(sheet).repeat_interleave(EVERY, 2).repeat_interleave(EVERY, 3)


def edits() -> dict[str, Tensor]:
    """What else one does with a model, as images."""
    model, images = released(MODEL), fashion_images(4)
    mask = torch.zeros(28, 28, dtype=torch.bool)
    mask[9:19, 9:19] = True
    labels = [9, 2, 1, 1]
    start = noise(4, latent_shape(released_autoencoder(MODEL)), 12)
    return {
        "forward": forward_process(model, images, [0.2, 0.6], seed=1).flatten(0, 1),
        "reverse": reverse_process(model, 2, 4, steps=6).flatten(0, 1),
        "reconstruct": reconstruct(model, images, [0.3, 0.7], labels, steps=6).flatten(0, 1),
        "interpolate": interpolate(model, images[:2], images[2:], 3, steps=4).flatten(0, 1),
        "generate": generate(model, start, labels, steps=6),
        "inpaint": inpaint(model, images, mask, labels, resamples=2, steps=5, seed=2),
    }


def edit_numbers() -> dict[str, list[float]]:
    """The noise behind images, and their likelihoods."""
    model, images = released(MODEL), fashion_images(2)
    return {
        "inverted": projections([invert(model, images, [9, 2], steps=8)]),
        "bound": bits_per_dim(model, images, [9, 2], steps=12).tolist(),
        "ode": bits_per_dim(model, images, [9, 2], method="ode", steps=6).tolist(),
    }


def pixel_numbers() -> dict[str, list[float]]:
    """Likelihoods of images by a pixel model."""
    model, images = released("fashion-mnist/pixel"), fashion_images(2)
    return {
        "bound": bits_per_dim(model, images, [9, 2], steps=4).tolist(),
        "ode": bits_per_dim(model, images, method="ode", steps=2).tolist(),
    }


def released_autoencoder(model: str) -> str:
    return model.rpartition("/")[0] + "/autoencoder"


def training_numbers(case: str, folder: Path) -> dict[str, Any]:
    """Losses step by step (an epoch is one step of 16 images) and the final averaged weights, as projections."""
    settings = dict(TRAININGS[case])
    if "perceptual_weights" in settings.get("loss", {}):
        settings["loss"] = {**settings["loss"], "perceptual_weights": str(random_trunk(folder))}
    train = train_autoencoder if "loss" in settings else train_diffusion
    run = train(folder / "run", trainer=TRAINER, **settings)
    weights = load_file(run / "model.safetensors")
    own = sorted(name for name in weights if not name.startswith("codec."))
    with open(run / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    timed = ("images_per_second", "seconds", "quality_seconds")
    columns = [name for name in rows[0] if name not in timed]
    # Losses that begin later have empty cells before.
    steps = {name: [float(row[name]) if row[name] else None for row in rows] for name in sorted({*columns})}
    return {"steps": steps, "weights": projections([weights[name] for name in own])}


def random_trunk(folder: Path) -> Path:
    """A file of AlexNet's convolutions with seeded random weights, for LPIPS."""
    torch.manual_seed(5)
    trunk = torchvision.models.alexnet(weights=None).features.state_dict(prefix="features.")
    path = folder / "trunk.safetensors"
    save_file(trunk, path)
    return path


def evaluation_numbers(case: str, folder: Path) -> dict[str, Any]:
    name, settings = EVALUATIONS[case]
    values = evaluate_model(folder, name, settings)
    return {key: values[key] for key in ("kind", "num_images", "metrics", "floors", "warnings")}


def report_of_stored(folder: Path) -> dict[str, Any]:
    """The report on the stored evaluations; without its copy of those and the version."""
    folders = []
    for values in json.loads((HERE / "evaluations.json").read_text()):
        folders.append(folder / values["name"])
        folders[-1].mkdir(parents=True)
        Image.new("L", (30, 20)).save(folders[-1] / "grid.png")
        (folders[-1] / "evaluation.json").write_text(json.dumps(values))
    report = make_report(folders, folder / "report")
    return {key: value for key, value in report.items() if key not in ("evaluations", "version")}


# --- how they are summed up, stored and compared ---


def noise(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def projections(tensors: list[Tensor], count: int = 64) -> list[float]:
    """Seeded random projections, in fp64 and of the values' own size: whatever changes a value changes all of them."""
    values = torch.cat([tensor.detach().double().flatten() for tensor in tensors]).cpu()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(len(values), generator=generator).double() @ values for _ in range(count)]
    return (torch.stack(rows) / math.sqrt(len(values))).tolist()


# Every other pixel of each side is stored: what changes images changes those too.
EVERY = 2


def thinned(images: Tensor) -> Tensor:
    return images[..., ::EVERY, ::EVERY].contiguous()


def read_sheet(name: str) -> Tensor:
    """Stored images, :func:`thinned`: uint8 [n, c, h, w] of square images in a row."""
    (path,) = (HERE / "images").glob(f"{name}.*")
    pixels = torch.from_numpy(np.array(Image.open(path)))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    side = pixels.shape[1]
    return pixels.unflatten(2, (-1, side)).permute(2, 0, 1, 3).contiguous()


def write_sheet(name: str, images: Tensor) -> None:
    row = torch.cat(list(thinned(images)), dim=2).permute(1, 2, 0).squeeze(2).contiguous()
    # WebP is a quarter smaller without loss, and has no images of one channel.
    path = HERE / "images" / f"{name}.{'png' if row.ndim == 2 else 'webp'}"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(row.numpy()).save(path, optimize=True, lossless=True, quality=100, method=6)


def stored_numbers(name: str) -> Any:
    return json.loads((HERE / "numbers.json").read_text())[name]


def assert_same_images(found: Tensor, name: str) -> None:
    """Equal, or off by one grey level in one value of ten thousand, four in a small sheet: kernels of another CPU add
    in another order and carry a few values over the edge between two levels."""
    stored = read_sheet(name)
    assert found.dtype == torch.uint8
    found = thinned(found)
    assert found.shape == stored.shape
    if torch.equal(found, stored):
        return
    off = (found.int() - stored.int()).abs()
    count, allowed = int((off > 0).sum()), max(4, -(-off.numel() // 10_000))
    assert off.max() <= 1, f"{name}: off by {int(off.max())} grey levels, in {count} of {off.numel():,} values"
    assert count <= allowed, f"{name}: {count} of {off.numel():,} values differ, more than {allowed}"


def assert_same_numbers(found: Any, stored: Any, where: str = "") -> None:
    """Equal, floats to 1e-4: kernels of another CPU add in another order, which ten training steps magnify.

    In a list of numbers the limit is that share of their root mean square where that is more: single ones may be near
    0. Trained weights agree to 1e-6 between AVX2 and AVX-512 kernels, and are held to 1e-5. A Fréchet distance of one
    class is of 20 images in 128 features, which magnifies more: 1e-3.
    """
    if isinstance(stored, dict):
        assert found.keys() == stored.keys(), where
        for key in stored:
            assert_same_numbers(found[key], stored[key], f"{where}/{key}")
    elif isinstance(stored, list):
        assert len(found) == len(stored), where
        numbers = [value for value in stored if isinstance(value, float)]
        size = math.sqrt(sum(value**2 for value in numbers) / len(numbers)) if numbers else 0.0
        for index, (one, other) in enumerate(zip(found, stored, strict=True)):
            if isinstance(one, float) and isinstance(other, float):
                _assert_close(one, other, f"{where}/{index}", size)
            else:
                assert_same_numbers(one, other, f"{where}/{index}")
    elif isinstance(stored, float) and isinstance(found, float):
        _assert_close(found, stored, where)
    else:
        assert found == stored, where


def _assert_close(found: float, stored: float, where: str, size: float = 0.0) -> None:
    relative = 1e-3 if "per_class" in where else 1e-5 if where.startswith("/weights/") else 1e-4
    limit = max(relative * max(size, abs(stored)), 1e-9)
    assert abs(found - stored) <= limit, f"{where}: {found!r} is not {stored!r}"


# --- the tests ---


@pytest.fixture(autouse=True)
def one_thread():
    """As the files were made: several threads may add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases(names, slow=()):
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize("case", cases(SAMPLES, SLOW_SAMPLES))
def test_released_models_sample_the_same_images(case):
    assert_same_images(sample_images(*SAMPLES[case]), case)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_released_autoencoders_encode_and_decode_the_same(name):
    assert_same_numbers(codec_numbers(name), stored_numbers(name))
    assert_same_images(codec_images(name), name.replace("/", "-"))


def test_edited_images_are_the_same():
    for name, images in edits().items():
        assert_same_images(images, f"edit-{name}")


def test_inverted_noise_and_likelihoods_are_the_same():
    assert_same_numbers(edit_numbers(), stored_numbers("edits"))


@pytest.mark.slow
def test_likelihoods_of_pixels_are_the_same():
    assert_same_numbers(pixel_numbers(), stored_numbers("pixels"))


@pytest.mark.parametrize("case", cases(TRAININGS, {"autoencoder-lpips"}))
def test_ten_training_steps_are_the_same(case, tmp_path):
    assert_same_numbers(training_numbers(case, tmp_path), stored_numbers(f"training {case}"))


@pytest.mark.slow
@pytest.mark.parametrize("case", EVALUATIONS)
def test_evaluations_measure_the_same(case, tmp_path):
    assert_same_numbers(evaluation_numbers(case, tmp_path), stored_numbers(f"evaluation {case}"))


def test_a_report_has_the_same_numbers_and_says_the_same(tmp_path):
    found, stored = report_of_stored(tmp_path), json.loads((HERE / "report.json").read_text())
    for part in ("rows", "columns", "verdict"):
        assert_same_numbers(found.pop(part), stored.pop(part), part)
    assert_same_numbers(found, stored)
