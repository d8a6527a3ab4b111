"""Sample images from this folder's model with numpy and onnxruntime alone: ``python sample.py --help``.

It is DPM-Solver++ 2M (Lu et al. 2022), with classifier-free guidance where --guidance-scale is not 1.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import struct
import unicodedata
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent


class Noise:
    """Standard normal numbers of a seed: those of torch's CPU generator, to the last bits.

    Args:
        seed: From 0 to 2^32 - 1.
    """

    def __init__(self, seed: int):
        self.random = np.random.RandomState(seed)  # the Mersenne twister, as in torch

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the next fp32 numbers of ``shape``, at least 16 of them."""
        size = math.prod(shape)
        uniform = self._uniform(size)
        normal = _box_muller(uniform[: size // 16 * 16])
        if size % 16:  # torch draws the last 16 anew
            normal = np.concatenate([normal[: size - 16], _box_muller(self._uniform(16))])
        return normal.reshape(shape)

    def _uniform(self, size: int) -> np.ndarray:
        raw = self.random.randint(0, 1 << 32, size=size, dtype=np.uint32)
        return ((raw & 0xFFFFFF) / np.float64(1 << 24)).astype(np.float32)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Return normal numbers from uniform ones, by torch's blocks of 16."""
    first, second = uniform.reshape(-1, 2, 8).swapaxes(0, 1)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = np.float32(2 * math.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32).reshape(-1)


class Model:
    """The networks and the settings of a folder.

    Args:
        folder: Holds model.json and the ONNX files.
    """

    def __init__(self, folder: Path = HERE):
        self.folder = folder
        self.settings = json.loads((folder / "model.json").read_text())
        self.negative: str | None = None  # what guidance steers away from, of a model that reads
        self.network = self._session("network.onnx")
        self.decoder = self._session("decoder.onnx") if (folder / "decoder.onnx").is_file() else None

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(self.folder / name), providers=["CPUExecutionProvider"])

    def label(self, name: str) -> int:
        """Return the index of a class that is given by name or index."""
        names, folded = self.settings["class_names"], unicodedata.normalize("NFC", name).lower()
        # Exactly, or else the only one that differs in case or in how accents are stored.
        found = [index for index, each in enumerate(names) if each == name] or [
            index for index, each in enumerate(names) if unicodedata.normalize("NFC", each).lower() == folded
        ]
        if found:
            if len(found) > 1:
                raise SystemExit(f"{name!r} may be {' or '.join(names[index] for index in found)}: write it exactly")
            return found[0]
        count = self.settings["null_label"] or 0
        if not (name.isascii() and name.isdigit()) or int(name) >= count:
            raise SystemExit(f"there is no class {name!r}: name one of {', '.join(names)}, or give 0 to {count - 1}")
        return int(name)

    def tokens(self, prompt: str) -> list[int]:
        """Return a prompt's tokens: 0 is padding, 1 to 256 are bytes, and the words of model.json follow."""
        text, found = self.settings["text"], []
        words = {word: 257 + index for index, word in enumerate(text["words"])}
        for word in re.findall(r"\w+(?:['’-]\w+)*|[^\w\s]", unicodedata.normalize("NFC", prompt).lower()):
            found += [words[word]] if word in words else [1 + byte for byte in f" {word}".encode("utf-8", "replace")]
        return (found + [0] * text["context"])[: text["context"]]

    def x0(self, x: np.ndarray, level: dict[str, float], labels: np.ndarray | None) -> np.ndarray:
        """Return the clean latents that the network predicts for ``x`` [b, c, h, w] at a noise level."""
        alpha, sigma = np.float32(level["alpha"]), np.float32(level["sigma"])
        sigma_data, target = self.settings["sigma_data"], self.settings["target"]
        total = np.float32(sigma_data**2) * alpha**2 + sigma**2
        inputs = {"x": x / np.sqrt(total), "time": np.full(len(x), level["time"], np.float32)}
        if labels is not None:
            inputs["labels"] = labels
        output = self.network.run(None, inputs)[0][:, : x.shape[1]]
        if target == "eps":
            return (x - sigma * output) / alpha
        if target == "score":
            return (x + sigma * output) / alpha
        if target == "v":
            return alpha * x - sigma * output
        if target == "edm":
            skip, out = np.float32(sigma_data**2) * alpha / total, np.float32(sigma_data) * sigma / np.sqrt(total)
            return skip * x + out * output
        return output

    def guided_x0(self, x: np.ndarray, level: dict[str, float], labels: np.ndarray | None, scale: float) -> np.ndarray:
        """Return :meth:`x0` with classifier-free guidance, within the bounds of pixels."""
        if scale == 1 or labels is None:
            x0 = self.x0(x, level, labels)
        else:
            nulls = np.full_like(labels, self.settings["null_label"])
            if self.negative is not None:
                nulls[:] = self.tokens(self.negative)
            both = self.x0(np.concatenate([x, x]), level, np.concatenate([labels, nulls]))
            strong, weak = np.split(both, 2)
            x0 = weak + scale * (strong - weak)
        return x0.clip(-1, 1) if self.settings["clips"] else x0

    def sample(self, labels: np.ndarray | None, indices: range, steps: int, scale: float, seed: int) -> np.ndarray:
        """Return images ``indices`` of a request, uint8 [n, c, h, w]. Image i depends on (seed, i) alone."""
        tables = self.settings["levels"]
        if str(steps) not in tables:
            raise SystemExit(f"model.json has the noise levels of {', '.join(tables)} steps, not of {steps}")
        levels = [dict(zip(("time", "alpha", "sigma"), row, strict=True)) for row in tables[str(steps)]]
        shape = tuple(self.settings["latent_shape"])
        noise = [Noise((seed * 0x9E3779B1 + index) % (1 << 32))(shape) for index in indices]
        x = np.stack(noise) * np.float32(1.0 if self.settings["unit_noise"] else levels[0]["sigma"])
        before, h_before = None, 0.0
        for now, then in pairwise(levels):
            x0 = estimate = self.guided_x0(x, now, labels, scale)
            h = half_log_snr(then) - half_log_snr(now)
            if before is not None and math.isfinite(h):
                estimate = x0 + (x0 - before) * (0.5 * h / h_before)
            x = then["sigma"] / now["sigma"] * x - then["alpha"] * math.expm1(-h) * estimate
            before, h_before = x0, h
        return self.decode(x)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Return the images, uint8 [n, c, h, w], of standardised latents."""
        images = latents
        if self.decoder:
            mean, std = (
                np.array(self.settings[name], np.float32)[:, None, None] for name in ("latent_mean", "latent_std")
            )
            images = self.decoder.run(None, {"latents": latents * std + mean})[0]
        return np.rint(((images + 1) * np.float32(127.5)).clip(0, 255)).astype(np.uint8)


def half_log_snr(level: dict[str, float]) -> float:
    """Return log(alpha / sigma)."""
    if level["sigma"] == 0:
        return math.inf
    return math.log(level["alpha"] / level["sigma"]) if level["alpha"] else -math.inf


def write_png(path: Path, images: np.ndarray) -> None:
    """Write images, uint8 [n, 1 or 3, h, w], as one grid."""
    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    grid = np.zeros((rows * columns, channels, height, width), np.uint8)
    grid[:n] = images
    grid = grid.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    lines = np.ascontiguousarray(grid.reshape(rows * height, -1))
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">2I5B", columns * width, rows * height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(raw), b"IEND": b""}
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def main() -> None:
    """Sample as the command line says."""
    model = Model()
    usual = model.settings["defaults"]
    parser = argparse.ArgumentParser(description="Sample images with onnxruntime into a PNG.")
    parser.add_argument("--num-images", type=int, default=16)
    parser.add_argument("--labels", nargs="+", help="one class for all images, or one for each; default: in turn")
    parser.add_argument("--prompt", nargs="+", help="of a model that reads: one for all images, or one for each")
    parser.add_argument("--negative-prompt", help="what guidance steers away from")
    parser.add_argument("--steps", type=int, default=usual["steps"])
    parser.add_argument("--guidance-scale", type=float, default=usual["guidance_scale"])
    parser.add_argument("--seed", type=int, default=usual["seed"])
    parser.add_argument("--batch-size", type=int, default=usual["batch_size"])
    parser.add_argument("--to", type=Path, default=Path("samples.png"))
    asked = parser.parse_args()
    classes, labels = model.settings["null_label"], None
    if not model.settings.get("text") and (asked.prompt or asked.negative_prompt):
        raise SystemExit("this model takes no prompts: leave out --prompt and --negative-prompt")
    if asked.negative_prompt and asked.guidance_scale in (0, 1):
        raise SystemExit("--negative-prompt does nothing at --guidance-scale 0 and 1: use more than 1, such as 2")
    for name in ("num_images", "batch_size", "steps"):
        if getattr(asked, name) < 1:
            raise SystemExit(f"--{name.replace('_', '-')} must be at least 1, not {getattr(asked, name)}")
    if not asked.to.parent.is_dir():
        raise SystemExit(f"there is no folder {asked.to.parent} for {asked.to}")
    if model.settings.get("text"):
        prompts = asked.prompt or model.settings["captions"] or [""]
        if asked.labels or (asked.prompt and len(prompts) not in (1, asked.num_images)):
            raise SystemExit(f"give one --prompt, or one for each of {asked.num_images} images, and no --labels")
        chosen = [prompts[index % len(prompts)] for index in range(asked.num_images)]
        labels, model.negative = np.array([model.tokens(prompt) for prompt in chosen]), asked.negative_prompt
    elif classes is not None:
        given = [model.label(name) for name in asked.labels or ()] or list(range(classes))
        if asked.labels and len(given) not in (1, asked.num_images):
            raise SystemExit(f"{len(given)} labels were given for {asked.num_images} images")
        labels = np.resize(np.array(given), asked.num_images)
    elif asked.labels:
        raise SystemExit("this model is unconditional: leave out --labels")
    if asked.guidance_scale != 1 and not model.settings["can_guide"]:
        raise SystemExit("this model was not trained for guidance: --guidance-scale must be 1")
    chunks = []
    for start in range(0, asked.num_images, asked.batch_size):
        indices = range(start, min(start + asked.batch_size, asked.num_images))
        own = None if labels is None else labels[start : indices.stop].astype(np.int64)
        chunks.append(model.sample(own, indices, asked.steps, asked.guidance_scale, asked.seed))
    write_png(asked.to, np.concatenate(chunks))
    print(asked.to)


if __name__ == "__main__":
    main()
