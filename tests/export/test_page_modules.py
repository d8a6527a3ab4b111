"""The page's modules in Node: noise, samplers, guidance, codec, links and GIFs against Python's numbers."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.codec import to_uint8
from latentdiff.config import DiffusionConfig
from latentdiff.diffusion.denoiser import Guidance, NetworkDenoiser
from latentdiff.diffusion.noise import PerImageNoise
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.diffusion.schedule import build_schedule
from latentdiff.diffusion.target import build_target
from latentdiff.export import web_folder
from latentdiff.inference.inversion import _slerp
from latentdiff.resources import PACKAGE
from tests.export.node_program import run_module

EXPORTED = re.compile(r"^export (?:async )?(?:function\*?|const|class) (\w+)", re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
SHAPE = (2, 3, 4)
STEPS = 8
# A network that is easily written twice: it mixes its input with the time and the class, or the sum of the tokens.
NETWORK = """
const network = async (x, time, labels) => {
  const shares = labels.map((label) => 0.1 * time / 1000 + 0.05 * [label].flat().reduce((a, b) => a + b));
  return x.map((value, i) => Math.fround(0.3 * Math.sin(2 * value) + shares[Math.floor(i / 24)]));
};
"""
PROCESSES = {
    "v": {"schedule": "cosine"},
    "eps": {"schedule": "linear"},
    "score": {"schedule": "scaled_linear", "num_train_steps": None},
    "x0": {"schedule": "cosine", "zero_terminal_snr": True},
    "edm": {"schedule": "edm", "sigma_data": 0.5},
}


def network(x, time, labels):
    told = labels.reshape(len(labels), -1).sum(1)
    share = (0.1 * time / 1000 + 0.05 * told)[:, None, None, None]
    return (0.3 * torch.sin(2 * x.double()) + share).float()


def rows(levels):
    return list(zip(levels.time.tolist(), levels.alpha.tolist(), levels.sigma.tolist(), strict=True))


def test_noise_is_torchs(tmp_path):
    cases = [(seed, n, size) for seed, n in ((0, 3), (7, 1), (2**32 - 1, 2)) for size in (16, 98, 784)]
    code = """
    const { BatchNoise } = await module("noise");
    return given.map(([seed, n, size]) => {
      const noise = new BatchNoise(seed, n, size);
      return [noise.draw(), noise.draw()].map((drawn) => Array.from(drawn));
    });
    """
    for (seed, n, size), drawn in zip(cases, run_module(code, cases, tmp_path), strict=True):
        noise = PerImageNoise(seed, range(n), (size,))
        for ours in drawn:
            np.testing.assert_allclose(ours, noise().flatten().numpy(), rtol=0, atol=2e-6)


def test_samplers_targets_and_guidance_are_pythons(tmp_path):
    """Every sampler with every target, guided or not: each state to the last digits of fp32."""
    unguided = [{"sampler": name, "scale": 1.0} for name in web_folder.SAMPLERS]
    guided = [{"sampler": "dpmpp_2m", "scale": 0.0}, {"sampler": "heun", "scale": 2.5}]
    asked = [{"target": target, **settings} for target in PROCESSES for settings in unguided + guided]
    assert_pythons([each | {"labels": [0, 2], "null_label": 3} for each in asked], tmp_path)


def test_a_negative_prompt_is_pythons(tmp_path):
    """Guidance of prompts away from no caption, and away from a negative prompt, of which scale 1 takes no notice."""
    words = {"labels": [[3, 1, 0], [2, 0, 0]], "null_label": 0, "text": {"context": 3}}
    asked = [{"target": "v", "sampler": sampler, "scale": 2.5} for sampler in ("dpmpp_2m", "heun", "ddpm")]
    asked += [{"target": "x0", "sampler": "unipc", "scale": scale} for scale in (0.0, 1.0)]
    assert_pythons([each | words | told for each in asked for told in ({}, {"negative": [4, 0, 0]})], tmp_path)


def assert_pythons(asked, tmp_path):
    """Each run of the page's modules has the states of Python's: a target, a sampler, labels, and guidance's scale."""
    cases, wanted = [], []
    for each in asked:
        config = DiffusionConfig(target=each["target"], **PROCESSES[each["target"]])
        schedule, levels = build_schedule(config), build_schedule(config).sampling_levels(STEPS)
        noise = PerImageNoise(3, range(2), SHAPE)
        x = noise() * float(levels.sigma[0])
        denoiser = NetworkDenoiser(
            network=network,
            target=build_target(config),
            labels=torch.tensor(each["labels"]),
            null_label=each["null_label"],
            negative=torch.tensor([each["negative"]] * 2) if "negative" in each else None,
            guidance=Guidance(scale=each["scale"]),
            value_range=(-1.0, 1.0),
        )
        options = {"level_at": schedule.levels_at_sigma} if each["sampler"] == "heun" else {}
        states = list(SAMPLERS[each["sampler"]](denoiser, x, levels, noise, **options))
        wanted.append([(state.x.flatten(), state.pred_x0.flatten()) for state in states])
        model = {name: each[name] for name in ("target", "null_label", "text") if name in each}
        cases.append(each | {"model": model | {"sigma_data": config.sigma_data, "clips": True}, "levels": rows(levels)})
    code = (
        NETWORK
        + """
    const { BatchNoise } = await module("noise");
    const { SAMPLERS, combine } = await module("samplers");
    const { denoiser } = await module("denoiser");
    const { levelsOf } = await module("levels");
    const results = [];
    for (const { model, sampler, labels, scale, negative, levels: rows } of given) {
      const noise = new BatchNoise(3, 2, 24);
      const levels = levelsOf(rows);
      const x = combine([levels[0].sigma, noise.draw()]);
      const denoise = denoiser(model, network, labels, scale, { negative });
      const states = [];
      for await (const state of SAMPLERS[sampler](denoise, x, levels, () => noise.draw())) {
        states.push([state.x, state.guess].map((values) => Array.from(values)));
      }
      results.push(states);
    }
    return results;
    """
    )
    found = run_module(code, cases, tmp_path)
    for case, states, expected in zip(cases, found, wanted, strict=True):
        assert len(states) == len(expected) == STEPS
        for ours, theirs in zip(states, expected, strict=True):
            for mine, yours in zip(ours, theirs, strict=True):
                scale = max(1.0, float(yours.abs().max()))
                off = np.abs(np.array(mine) - yours.numpy()).max() / scale
                assert off < 3e-5, ({name: case[name] for name in ("target", "sampler", "scale")}, off)


def test_grey_levels_are_rounded_as_in_python(tmp_path):
    values = torch.cat([torch.linspace(-1.2, 1.2, 5000), (torch.arange(256) + 0.5) / 127.5 - 1])
    code = 'const { toBytes } = await module("codec"); return Array.from(toBytes(Float32Array.from(given)));'
    assert run_module(code, values.tolist(), tmp_path) == to_uint8(values).tolist()


def test_the_way_between_two_noises_is_pythons(tmp_path):
    a, b = torch.randn(2, 24)
    code = """
    const { slerp } = await module("flow");
    const [a, b] = given.map((values) => Float32Array.from(values));
    return [0, 0.3, 1].map((share) => Array.from(slerp(a, b, share)));
    """
    found = run_module(code, [a.tolist(), b.tolist()], tmp_path)
    for share, ours in zip((0, 0.3, 1), found, strict=True):
        np.testing.assert_allclose(ours, _slerp(a[None], b[None], share)[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("coloured", [False, True])
def test_a_gif_holds_the_frames(coloured, tmp_path):
    """PIL reads back what was written; colours are exact where there are at most 256."""
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (3, 60, 90, 3), dtype=np.uint8)  # noise: each code length of LZW, and its reset
    frames = frames // 64 * 64 if coloured else np.repeat(frames[..., :1], 3, axis=-1)
    given = [np.concatenate([frame, np.full((60, 90, 1), 255, np.uint8)], -1).flatten().tolist() for frame in frames]
    code = """
    const { gifOf } = await module("gif");
    return Array.from(gifOf(given.map((data) => ({ width: 90, height: 60, data: Uint8ClampedArray.from(data) })), 12));
    """
    gif = Image.open(io.BytesIO(bytes(run_module(code, given, tmp_path))))
    assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (3, 0, 120)
    for number, frame in enumerate(frames):
        gif.seek(number)
        np.testing.assert_array_equal(np.array(gif.convert("RGB")), frame)
    assert gif.info["duration"] == 1200


def test_a_link_sets_only_what_there_is(tmp_path):
    code = """
    const { settingsOf, linkOf } = await module("link");
    const allowed = { model: ["a", "b"], seed: { least: 0, most: 99, whole: true }, guidance: { least: 0, most: 6 } };
    const settings = { model: "b", seed: "7", guidance: "1.5" };
    return [
      settingsOf("#" + linkOf(settings), allowed),
      settingsOf("#model=c&seed=100&guidance=-1&__proto__=x&toString=1&other=2", allowed),
      settingsOf("#seed=7.4&guidance=1e3", allowed),
      settingsOf("#own", allowed),
    ];
    """
    settings = {"model": "b", "seed": "7", "guidance": "1.5"}
    assert run_module(code, None, tmp_path) == [settings, {}, {"seed": "7"}, {}]


def test_what_a_module_uses_of_another_it_imports():
    """A function that is neither defined nor imported is found only when a visitor comes to its line."""
    sources = {path.stem: path.read_text() for path in (PACKAGE / "export" / "web" / "js").glob("*.js")}
    exported = {name for text in sources.values() for name in EXPORTED.findall(text)}
    assert "tokensCut" in exported
    missing = {
        (module, name)
        for module, text in sources.items()
        for name in exported
        if re.search(rf"(?<![.\w$#]){name}\(", COMMENT.sub("", text))
        and not re.search(rf"(?:function\*?|const|let|class)\s+{name}\b|import\s*\{{[^}}]*\b{name}\b", text)
    }
    assert missing == set()
