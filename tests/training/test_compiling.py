"""A compiled training is the training: same losses, same files, and it goes on where the compiler cannot.

torch's backends ``eager`` and ``aot_eager`` trace and take apart what would be compiled, and run it by the usual
kernels: their numbers are the same.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch import nn

from latentdiff.command_line import parse
from latentdiff.config import TrainerConfig
from latentdiff.config.training_stages import DiffusionStage
from latentdiff.errors import ConfigError
from latentdiff.models.text_encoder import FrozenTextEncoder
from latentdiff.run_checkpoint import read as read_checkpoint
from latentdiff.stages import autoencoder, diffusion
from latentdiff.training import compiling
from tests.training.test_host_reads import diffusion as diffusion_module
from tests.training.test_host_reads import prepare

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def tracing(monkeypatch):
    """Compiles by tracing alone, and counts the parts."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    compiled, compile_one = [], nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda part, **how: (compiled.append(part), compile_one(part, **how)))
    return compiled


def model_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        header = json.loads(file.metadata()["latentdiff"]) if "latentdiff" in file.metadata() else {}
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "flags", "parts"), [(diffusion, "unet", 1), (autoencoder, "codec", 2)])
def test_a_compiled_run_leaves_the_files_of_a_plain_one(stage, flags, parts, tiny, tmp_path, tracing):
    more = ["--autoencoder=none", "--quality_images=0"] if stage is diffusion else []
    for how in ("off", "on"):
        run = [f"--run.folder={tmp_path / how}", f"--trainer.compile={how}", "--trainer.num_threads=1"]
        stage.main([*tiny.trainer, *getattr(tiny, flags), *more, *run])
        assert len(tracing) == (0 if how == "off" else parts)
    (_, plain), (_, compiled) = (model_of(tmp_path / how) for how in ("off", "on"))
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-4, atol=1e-6)
    ours, theirs = (read_checkpoint(tmp_path / how / "last.ckpt") for how in ("on", "off"))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert not any("_orig_mod" in name for name in ours["state_dict"])
    names = [{path.name.partition(".tfevents.")[0] for path in (tmp_path / how).iterdir()} for how in ("on", "off")]
    assert names[0] == names[1]
    # A resumed run may turn it off, and on.
    resume = [f"--run.folder={tmp_path / 'on'}", "--run.resume", "--trainer.compile=off", "--trainer.max_images=96"]
    stage.main([*tiny.trainer, *getattr(tiny, flags), *more, *resume])


@pytest.mark.slow
def test_a_step_is_traced_once_and_its_losses_are_those_of_a_plain_one(tracing):
    found = []
    for how in ("off", "on"):
        torch.manual_seed(0)
        module, tensors = diffusion_module(settings={"compile": how, "gradient_accumulation_steps": 3})
        prepare(module, tensors)
        for _ in range(3):
            module.training_step(None, 0)
        found.append({"loss": module._sums["loss"][0], **module.state_dict()})
    assert found[0].keys() == found[1].keys()
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)
    # Eight images in parts of 3, 3 and 2: two shapes.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


def failing(*_, **__):
    raise OSError("no compiler on the PATH")


def test_a_compiler_that_fails_is_left_out_with_a_line_or_named(monkeypatch, capsys):
    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", failing)
    monkeypatch.setattr(compiling, "pays", lambda settings, device: settings.compile != "off")
    losses = {}
    for how in ("off", "auto"):
        torch.manual_seed(0)
        module, tensors = diffusion_module(settings={"compile": how})
        prepare(module, tensors)
        module.training_step(None, 0)
        module.training_step(None, 0)
        losses[how] = module._sums["loss"][0]
    assert torch.equal(losses["off"], losses["auto"])
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("not compiled: torch.compile fails here (")
    assert "no compiler on the PATH" in said
    module, tensors = diffusion_module(settings={"compile": "on"})
    prepare(module, tensors)
    with pytest.raises(ConfigError, match=r"no compiler on the PATH\): train with --trainer.compile off"):
        module.training_step(None, 0)


def test_an_error_of_the_network_is_no_error_of_the_compiler(tracing, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    module, tensors = diffusion_module(settings={"compile": "on"})
    prepare(module, tensors)
    assert module.step_flops.total is None  # operations of compiled code are not known
    module.update_averages = lambda: (_ for _ in ()).throw(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match=r"^out of memory"):
        module.training_step(None, 0)


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        ({"max_seconds": 900}, GPU, True),
        ({"max_seconds": 899}, GPU, False),
        ({"max_seconds": 3600, "max_images": 640_000}, GPU, True),
        ({"max_seconds": 3600, "max_images": 639_999}, GPU, False),
        ({"max_seconds": 3600, "strategy": "fsdp"}, GPU, False),
        ({"max_seconds": 3600}, CPU, False),
        ({"max_seconds": 1, "compile": "on"}, CPU, True),
        ({"max_seconds": 3600, "compile": "off"}, GPU, False),
    ],
)
def test_auto_compiles_long_runs_on_a_gpu(settings, device, expected):
    settings = replace(TrainerConfig(max_images=None, max_seconds=1.0, batch_size=64), **settings)
    assert compiling.pays(settings, device) is expected


def test_on_a_gpu_kernels_are_tuned_and_no_graphs_are_recorded(monkeypatch):
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda part, **how: asked.append(how))
    compiling.compile_parts([nn.Linear(1, 1)], GPU)
    compiling.compile_parts([nn.Linear(1, 1)], CPU)
    gpu = {"dynamic": False, "backend": "inductor", "mode": "max-autotune-no-cudagraphs"}
    assert asked == [gpu, {"dynamic": False, "backend": "inductor"}]


def test_the_states_of_a_frozen_text_encoder_are_looked_up_by_plain_python(tracing):
    class Pretrained:
        width, seen = 8, []

        def states(self, tokens):
            self.seen.append(torch.compiler.is_compiling())
            return torch.full((*tokens.shape, 8), float(len(self.seen))), tokens != 0

    encoder, tokens = FrozenTextEncoder(Pretrained()), torch.ones(2, 3, dtype=torch.int64)
    compiling.compile_parts([nn.Sequential(encoder)], CPU)
    compiling.compile_parts([encoder], CPU)
    states = encoder(tokens).states
    assert len(tracing) == 2
    assert Pretrained.seen == [False]
    torch.testing.assert_close(states, encoder.norm(torch.ones(2, 3, 8)))


def test_on_and_off_are_words_in_yaml(tmp_path):
    for word in ("on", "off"):
        (tmp_path / "run.yaml").write_text(f"trainer:\n  compile: {word}\n")
        assert parse(DiffusionStage, ["--config", str(tmp_path / "run.yaml")]).trainer.compile == word


@pytest.mark.slow
def test_kernels_of_its_own_give_the_same_losses():
    torch._dynamo.reset()
    losses = []
    for how in ("off", "on"):
        torch.manual_seed(0)
        module, tensors = diffusion_module(settings={"compile": how})
        prepare(module, tensors)
        for _ in range(3):
            module.training_step(None, 0)
        losses.append(module._sums["loss"][0])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)
