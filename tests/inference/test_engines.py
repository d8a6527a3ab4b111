"""Engines draw the same images; what is cached is of the very model; auto measures once and remembers."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from latentdiff import load
from latentdiff.config.model_stages import AppStage, EvaluateStage, SampleStage
from latentdiff.config.sampling import SamplerName
from latentdiff.errors import ConfigError
from latentdiff.inference import calibration
from latentdiff.inference.engines import auto_engine, build_engine, graphs, torch_engine
from latentdiff.inference.engines.auto_engine import AutoEngine, measure
from latentdiff.inference.engines.graphs import Compiled, Graphs
from latentdiff.inference.engines.recorded_passes import RecordedPasses
from latentdiff.inference.engines.torch_engine import TorchEngine
from latentdiff.inference.likelihood import bits_per_dim

RELEASED = "checkpoints/fashion-mnist/latent.safetensors"
ENGINES = ("onnxruntime", "openvino")
CPU = torch.device("cpu")


def assert_same_images(images, others, share):
    """At most a share of the values differ, four in few images, by one grey level."""
    off = (images.int() - others.int()).abs()
    assert off.max() <= 1
    assert (off > 0).sum() <= max(4 if share else 0, share * off.numel())


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_draws_and_encodes_what_torch_does(name, tiny_model_file):
    pytest.importorskip("onnxscript")
    pytest.importorskip(name)
    model, other = load(tiny_model_file, engine="torch"), load(tiny_model_file, engine=name)
    assert (model.engine.name, other.engine.name) == ("torch", name)
    settings = {"steps": 4, "guidance_scale": 2.0, "seed": 5}
    images = model.sample(6, **settings)
    assert_same_images(images, other.sample(6, **settings), 1e-3)
    assert_same_images(images, other.sample(6, batch_size=1, **settings), 1e-3)
    torch.testing.assert_close(other.codec.encode(images), model.codec.encode(images), rtol=0, atol=5e-6)


def test_eight_bits_are_calibrated_once_and_change_images_a_little(tiny_model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(calibration, "IMAGES", 8)
    model, settings = load(tiny_model_file, engine="onnxruntime"), {"steps": 4, "guidance_scale": 2.0, "seed": 5}
    with pytest.raises(ConfigError, match="onnxruntime does not support the precision bf16"):
        model.sample(1, precision="bf16")
    images = model.sample(6, **settings)
    capsys.readouterr()
    small = model.sample(6, precision="int8", **settings)
    assert "network in 8 bits" in capsys.readouterr().out
    # Of weights with more than 7 bits, processors without VNNI let the sums of two products overflow.
    onnx = pytest.importorskip("onnx")
    stored = onnx.load_from_string(model.engine._graphs.get("network-int8")).graph.initializer
    weights = [onnx.numpy_helper.to_array(each) for each in stored if each.data_type == onnx.TensorProto.INT8]
    assert max(abs(each.astype(int)).max() for each in weights if each.ndim > 1) in (63, 64)
    assert (small.float() - images.float()).square().mean().sqrt() < 5.0  # grey levels
    inputs = (torch.randn(6, 2, 5, 5), torch.full((6,), 500.0), torch.zeros(6, dtype=torch.long))
    whole, eight = (model.engine.network(precision)(*inputs) for precision in ("fp32", "int8"))
    assert 0 < (whole - eight).norm() / whole.norm() < 0.05
    if find_spec("openvino"):  # the extra onnx may be there alone
        other = load(tiny_model_file, engine="openvino").sample(6, precision="int8", **settings)
        assert_same_images(small, other, 0.1)
    assert capsys.readouterr().out == ""  # from the cache
    assert_same_images(small, model.sample(6, precision="int8", batch_size=1, **settings), 1e-3)


def test_ranges_are_measured_with_and_without_a_class(tiny_model_file):
    model = load(tiny_model_file)
    recorded = model.calibration.inputs()
    assert len(recorded) == calibration.STEPS
    x, time, labels = recorded[0]
    assert (len(x), len(time)) == (2 * calibration.IMAGES,) * 2
    assert set(labels.tolist()) == {0, 1, 2, model.network.null_label}
    other = load(tiny_model_file)
    other.diffusion = dataclasses.replace(other.diffusion, target="eps")
    assert model.calibration.key != other.calibration.key


def test_likelihoods_need_gradients_and_get_them_from_torch(tiny_model_file):
    model, images = load(tiny_model_file), torch.zeros(2, 1, 10, 10, dtype=torch.uint8)

    class NoGradients(TorchEngine):
        def network(self, precision):
            pytest.fail("an engine has no gradients")

    model.engine = NoGradients(model.network, None, exact=False)
    assert bits_per_dim(model, images, 0, method="ode", steps=2).isfinite().all()


def test_exact_images_do_not_depend_on_the_batch_and_others_hardly_do():
    exact = load(RELEASED, exact=True)
    images = exact.sample(4, steps=6)
    for batch_size in (1, 3):
        assert torch.equal(images, exact.sample(4, steps=6, batch_size=batch_size))
        assert_same_images(images, load(RELEASED).sample(4, steps=6, batch_size=batch_size), 1e-3)


def test_small_batches_are_filled_up_for_exact_images_alone(tiny_model_file):
    seen = []
    model = load(tiny_model_file)
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for exact in (False, True):
        model.with_engine("torch", exact).sample(1, steps=1)
    assert seen == [1, 16]


@pytest.mark.parametrize(("name", "package", "extra"), [("onnxruntime", "onnxruntime", "onnx"), ("openvino",) * 3])
def test_a_missing_package_is_one_line_that_names_the_extra(name, package, extra, tiny_model_file, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"^{package} is not installed: pip install 'latentdiff\[{extra}\]'$"):
        load(tiny_model_file, engine=name)


def test_what_an_engine_cannot_do_is_refused(tiny_model_file):
    with pytest.raises(ConfigError, match="exact needs the engine torch"):
        load(tiny_model_file, engine="onnxruntime", exact=True)
    with pytest.raises(ConfigError, match="engine must be torch, onnxruntime, openvino or auto, not 'tensorrt'"):
        load(tiny_model_file, engine="tensorrt")
    with pytest.raises(ConfigError, match="works only on the CPU"):
        build_engine("openvino", False, None, None, (1, 2, 2), torch.device("cuda"))
    assert isinstance(build_engine("auto", False, None, None, (1, 2, 2), torch.device("cuda")), TorchEngine)
    with pytest.raises(
        ConfigError, match="torch does not support the precision int8: use the engine onnxruntime or openvino"
    ):
        load(tiny_model_file, engine="torch").sample(1, precision="int8")


def test_another_engine_is_another_model_of_the_same_weights(tiny_model_file):
    model = load(tiny_model_file, engine="torch")
    exact = model.with_engine("torch", exact=True)
    assert exact.network is model.network
    assert (model.codec.engine.exact, exact.codec.engine.exact) == (False, True)


@pytest.fixture
def built(monkeypatch, tmp_path):
    """The names of the graphs that were built; the cache is empty."""
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    names = []
    for name in ("network", "encoder", "decoder"):
        monkeypatch.setattr(graphs, f"{name}_graph", lambda *_, name=name: (names.append(name), name.encode())[1])
    return names


def graphs_of(path):
    model = load(path)
    return Graphs(model.network, model.codec.model, model.codec.latent_shape)


def test_a_graph_is_built_once_and_again_where_it_is_damaged(built, tiny_model_file, tmp_path):
    for _ in range(2):
        assert graphs_of(tiny_model_file).get("network") == b"network"
    assert built == ["network"]
    (path,) = (tmp_path / "cache" / "graphs").iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert graphs_of(tiny_model_file).get("network") == b"network"
    assert built == ["network"] * 2
    assert graphs_of(tiny_model_file).get("decoder") == b"decoder"


def test_a_graph_is_of_the_very_model(built, tiny_model_file):
    digests = {graphs_of(tiny_model_file).model_digest for _ in range(2)}
    other = graphs_of(tiny_model_file)
    next(other._network.parameters()).add_(1e-3)
    digests.add(other.model_digest)
    other = graphs_of(tiny_model_file)
    other._autoencoder.decoder.smooth_colours = True
    digests.add(other.model_digest)
    assert len(digests) == 3


class Fake:
    """An engine whose pass takes so many milliseconds, and which writes its name into ``ran``."""

    ran: list[str] = []  # noqa: RUF012

    def __init__(self, name, milliseconds=0.0, precisions=("fp32",)):
        self.name, self.milliseconds, self.precisions = name, milliseconds, precisions

    def network(self, precision):
        if precision not in self.precisions:
            raise ConfigError("another precision")

        def run(x, time_, labels):
            time.sleep(self.milliseconds / 1e3 * len(x))
            self.ran.append(self.name)
            return x

        return run

    encode = decode = None


def auto(tiny_model_file, patience=0.0, **others):
    model = load(tiny_model_file)
    engine = AutoEngine(
        Fake("torch", 2.0), graphs_of(tiny_model_file), {name: lambda _, e=e: e for name, e in others.items()}
    )
    model.engine, engine.patience = engine, patience
    return engine


def run(engine, rows, precision="fp32"):
    """The name of the engine that ran a batch."""
    engine.network(precision)(torch.zeros(rows, 2, 5, 5), torch.zeros(rows), torch.zeros(rows, dtype=torch.long))
    return Fake.ran[-1]


def test_auto_takes_the_fastest_and_remembers_it(built, tiny_model_file, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    assert run(auto(tiny_model_file, slow=Fake("slow", 5.0), fast=Fake("fast")), 3) == "fast"
    assert capsys.readouterr().out.startswith("building")
    (path,) = (tmp_path / "cache" / "engines").iterdir()
    assert set(json.loads(path.read_text())["seconds"]) == {"torch", "slow", "fast"}
    monkeypatch.setattr(auto_engine, "measure", lambda *_: pytest.fail("it was measured already"))
    assert run(auto(tiny_model_file, slow=Fake("slow"), fast=Fake("fast")), 4) == "fast"  # 3 and 4 are one size
    assert capsys.readouterr().out == ""
    path.write_text("{")
    with pytest.raises(pytest.fail.Exception):
        run(auto(tiny_model_file, fast=Fake("fast")), 4)


def test_auto_builds_graphs_once_enough_was_drawn(built, tiny_model_file, monkeypatch, tmp_path, capsys):
    """Torch runs whole batches until the work of two is done. What is remembered, or built, is used at once."""
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    network = load(tiny_model_file).network
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    of_a_pass = 2.0 * sum(weight.numel() for layer in layers for weight in layer.parameters()) * 25
    fast = Fake("fast")
    engine = auto(tiny_model_file, patience=1.5 * 4 * of_a_pass, fast=fast)
    assert [run(engine, 4) for _ in range(3)] == ["torch", "torch", "fast"]
    assert capsys.readouterr().out.count("building") == 1
    assert run(auto(tiny_model_file, patience=1e30, fast=fast), 4) == "fast"
    assert run(auto(tiny_model_file, patience=1e30, fast=fast), 1) == "fast"
    batch = auto(tiny_model_file, patience=1e30, fast=fast)
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "empty"))
    assert run(batch, 4) == "torch"


def test_a_batch_is_drawn_by_one_engine(built, tiny_model_file):
    engine = auto(tiny_model_file, patience=1.0, fast=Fake("fast"))
    network = engine.network("fp32")
    for rows in (2, 4, 2):  # guidance in an interval doubles them
        network(torch.zeros(rows, 2, 5, 5), torch.zeros(rows), torch.zeros(rows, dtype=torch.long))
    assert Fake.ran[-3:] == ["torch"] * 3


def test_auto_does_not_wait_with_a_precision_that_torch_has_not(built, tiny_model_file, monkeypatch):
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    with pytest.raises(ConfigError, match="no engine that is installed here can run this model in the precision int8"):
        run(auto(tiny_model_file, patience=1e30, fast=Fake("fast")), 2, "int8")
    fast = Fake("fast", precisions=("int8",))
    assert run(auto(tiny_model_file, patience=1e30, fast=fast), 2, "int8") == "fast"


def test_auto_builds_no_graph_of_a_large_network_unasked(built, tiny_model_file, monkeypatch):
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    monkeypatch.setattr(auto_engine, "LARGE", 1000)
    fast = Fake("fast", precisions=("fp32", "int8"))
    engine = auto(tiny_model_file, fast=fast)
    assert [run(engine, 4) for _ in range(3)] == ["torch"] * 3
    assert run(engine, 4, "int8") == "fast"  # that needs it, and now it is there
    assert run(engine, 4) == "fast"


def test_a_model_loaded_in_inference_mode_is_followed_too(built, tiny_model_file, monkeypatch):
    with torch.inference_mode():
        model = load(tiny_model_file)
        states = [model.engine._graphs.weights_state()]
        next(model.network.parameters()).mul_(2.0)
        states.append(model.engine._graphs.weights_state())
    assert states[0] != states[1]


def test_sampling_takes_auto_and_evaluating_takes_torch(tiny_model_file):
    assert (SampleStage().engine, AppStage().engine, EvaluateStage().engine) == ("auto", "auto", "torch")
    assert isinstance(load(tiny_model_file).engine, AutoEngine)
    assert isinstance(load(tiny_model_file, exact=True).engine, TorchEngine)


def test_auto_begins_again_when_weights_change(built, tiny_model_file, monkeypatch):
    """Torch, which has the present weights, draws until graphs of them pay again."""
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    engine = auto(tiny_model_file, fast=Fake("fast"))
    assert run(engine, 2) == "fast"
    weights = next(engine._graphs._network.parameters())
    engine.patience = 1.0
    weights.mul_(2.0)
    assert [run(engine, 2), run(engine, 2), engine.chosen.name] == ["torch", "fast", "fast"]
    assert built == ["network"] * 2
    weights.data = weights.data.clone()  # at another address
    engine.patience = 1e30
    assert run(engine, 2) == "fast"  # as it was before: its graph is there
    assert built == ["network"] * 2


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_follows_the_weights(name, tiny_model_file):
    pytest.importorskip("onnxscript")
    pytest.importorskip(name)
    model, other = load(tiny_model_file, engine="torch"), load(tiny_model_file, engine=name)
    before = other.sample(4, steps=2, seed=5)
    for each in (model, other):
        for parameters in (each.network.parameters(), each.codec.model.parameters()):
            for weights in parameters:
                weights.mul_(1.5)
    images = model.sample(4, steps=2, seed=5)
    assert (images.int() - before.int()).abs().max() > 1
    assert_same_images(images, other.sample(4, steps=2, seed=5), 1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_an_optimizer_is_noticed(fused, tiny_model_file):
    """A fused one changes weights without torch's counting it."""
    own = graphs_of(tiny_model_file)
    weights = [weight.requires_grad_() for weight in own._network.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, fused=fused)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    before, digest = own.weights_state(), own.model_digest
    assert own.weights_state() == before
    optimizer.step()
    assert own.weights_state() != before
    assert own.model_digest != digest


def test_a_weight_that_is_replaced_twice_is_noticed(tiny_model_file):
    """Though the first one's place in memory is free again."""
    own = graphs_of(tiny_model_file)
    layer = next(module for module in own._network.modules() if isinstance(module, nn.Conv2d))
    for _ in range(20):
        before = own.weights_state()
        for _ in range(2):
            layer.weight = nn.Parameter(layer.weight.detach() * 1.01, requires_grad=False)
        assert own.weights_state() != before
        before = own.weights_state()
        for _ in range(2):
            layer.weight.data = layer.weight.detach() * 1.01
        assert own.weights_state() != before


def test_graphs_of_former_weights_are_dropped(built, tiny_model_file, monkeypatch, tmp_path):
    monkeypatch.setattr(graphs, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError("full")))
    own, kept = graphs_of(tiny_model_file), Compiled()
    weights = next(own._network.parameters())
    first = own.model_digest
    for _ in range(3):
        own.get("network")
        kept.get("network", own.model_digest, object)
        weights.mul_(2.0)
    assert len(own._unwritten) == 1
    assert len(kept._kept) == 1
    with pytest.raises(ConfigError, match="weights changed while it was drawing"):
        own.get("network", first)


def test_a_session_is_compiled_once_for_its_weights():
    kept, made = Compiled(), []
    for name, digest in (("network", "a"), ("decoder", "a"), ("network", "a"), ("network", "b"), ("network", "a")):
        kept.get(name, digest, lambda: made.append(name))  # noqa: B023
    assert made == ["network", "decoder", "network", "network"]


def test_recorded_passes_are_not_pickled(tiny_model_file, monkeypatch):
    """As on a GPU: what was recorded is a function that lives in this process alone."""
    monkeypatch.setattr(torch_engine, "can_record", lambda _: True)
    monkeypatch.setattr(RecordedPasses.__init__, "__defaults__", (lambda run, _: lambda given: run(*given),))
    model = load(tiny_model_file, engine="torch")
    images = model.sample(2, steps=8, seed=1)
    [(_, passes)] = model.engine._recorded.values()
    assert passes._replays
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert not other.engine._recorded
        assert torch.equal(other.sample(2, steps=8, seed=1), images)


@pytest.mark.parametrize("name", ["torch", "auto", *ENGINES])
def test_a_model_can_be_pickled_and_copied(name, tiny_model_file):
    if name in ENGINES:
        pytest.importorskip("onnxscript")
        pytest.importorskip(name)
    model = load(tiny_model_file, engine=name)
    images = model.sample(4, steps=2, seed=5)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.engine.name == name
        assert other.network is not model.network
        assert_same_images(images, other.sample(4, steps=2, seed=5), 1e-3)


def test_torch_draws_on_where_there_is_no_cache_folder(tiny_model_file, monkeypatch, tmp_path):
    """A user without a home folder, and one who may not search it."""
    monkeypatch.delenv("LATENTDIFF_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    with pytest.raises(ConfigError, match="no home folder to keep files in: set LATENTDIFF_CACHE"):
        graphs.cache_folder()
    monkeypatch.setattr(graphs, "network_graph", lambda *_: b"network")
    engine = auto(tiny_model_file, patience=1e30, fast=Fake("fast"))
    assert run(engine, 2) == "torch"
    engine.patience = 0.0
    assert run(engine, 2) == "torch"  # there is no place for a graph


def test_a_graph_that_cannot_be_written_is_built_once(built, tiny_model_file, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "file" / "cache"))
    found = graphs_of(tiny_model_file)
    assert [found.get("network") for _ in range(3)] == [b"network"] * 3
    assert built == ["network"]


def test_auto_decodes_by_torch_where_the_decoder_has_no_graph(built, tiny_model_file, monkeypatch, capsys):
    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    fast = Fake("fast")
    fast.decode = lambda latents: (_ for _ in ()).throw(RuntimeError("no such operator"))
    engine = auto(tiny_model_file, fast=fast)
    engine._torch.decode = lambda latents: latents
    engine._torch.milliseconds = 50.0
    assert run(engine, 1) == "fast"
    capsys.readouterr()
    latents = torch.zeros(1)
    assert engine.decode(latents) is engine.decode(latents) is latents
    assert capsys.readouterr().out == "the autoencoder is run by torch: fast fails here (no such operator)\n"


def test_auto_leaves_out_an_engine_whose_library_cannot_be_loaded(built, tiny_model_file, monkeypatch, capsys):
    def fail(_):
        raise OSError("libfoo.so is missing")

    engine = AutoEngine(Fake("torch"), graphs_of(tiny_model_file), {"broken": fail})
    engine.patience = 0.0
    assert run(engine, 1) == "torch"
    assert "the engine broken is left out: it fails here (libfoo.so is missing)" in capsys.readouterr().out


def test_auto_is_torch_where_nothing_else_is_there(built, tiny_model_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    model = load(tiny_model_file, engine="auto")
    model.engine.patience = 0.0
    assert_same_images(model.sample(2, steps=2), load(tiny_model_file, engine="torch").sample(2, steps=2), 0.0)
    assert capsys.readouterr().out == "engine torch: no other is installed (pip install 'latentdiff[onnx]')\n"

    def refuse(*_):
        raise RuntimeError("no such operator\nmore")

    monkeypatch.setattr(graphs, "network_graph", refuse)
    assert run(auto(tiny_model_file, fast=Fake("fast")), 2) == "torch"
    assert capsys.readouterr().out.endswith("engine torch: the network has no ONNX graph here (no such operator)\n")
    assert run(auto(tiny_model_file, fast=Fake("fast")), 2) == "torch"
    assert capsys.readouterr().out == ""  # remembered


def test_auto_leaves_out_an_engine_that_fails(built, tiny_model_file, monkeypatch, capsys):
    def fail(x, time_, labels):
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(measure, "__defaults__", (0.02,))
    broken = Fake("broken")
    broken.network = lambda precision: fail
    assert run(auto(tiny_model_file, broken=broken), 2) == "torch"
    assert "the engine broken is left out: it fails here (illegal instruction)" in capsys.readouterr().out


def test_measuring_keeps_to_its_time():
    engines = {"one": Fake("one", 4.0), "two": Fake("two", 8.0)}
    inputs = (torch.zeros(64, 1), torch.zeros(64), None)
    found, rows = measure(engines, "fp32", inputs, budget=0.2)
    assert 1 <= rows < 64
    assert found["one"] < found["two"]
    # One that is slow to begin and fast with many images is the best for many.
    begins = Fake("begins")
    begins.network = lambda precision: lambda x, time_, labels: time.sleep(5e-3)
    found, rows = measure({"one": Fake("one", 1.0), "begins": begins}, "fp32", inputs, budget=0.4)
    assert rows > 5
    assert found["begins"] < found["one"]
    with_bf16 = Fake("with")
    with_bf16.network = lambda precision: lambda x, time_, labels: x
    assert list(measure({"without": Fake("without"), "with": with_bf16}, "bf16", inputs, 0.01)[0]) == ["with"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion-mnist/latent", "fashion-mnist/pixel", "flowers-102/latent", "celeba/latent"])
def test_released_models_are_the_same_by_every_engine(name):
    pytest.importorskip("onnxscript")
    path = f"checkpoints/{name}.safetensors"
    exact = load(path, exact=True)
    guide = {} if exact.conditional else {"guide": "checkpoints/celeba/guide.safetensors"}
    for sampler in get_args(SamplerName):
        settings = {"steps": 20, "sampler": sampler, "guidance_scale": 1.5, **guide}
        images = exact.sample(8, **settings)
        for engine in ("torch", *ENGINES):
            pytest.importorskip("torch" if engine == "torch" else engine)
            other = load(path, engine=engine).sample(8, batch_size=4, **settings)
            off = (images.int() - other.int()).abs()
            print(f"{name} {sampler} {engine}: {(off > 0).float().mean():.1e} of the values differ, by {off.max()}")
            assert_same_images(images, other, 1e-4)
