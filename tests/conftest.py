"""Tests run on the CPU, without a network, in a folder of their own."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import torch
from filelock import FileLock
from torch import nn

from latentdiff.codec import AutoencoderCodec, IdentityCodec
from latentdiff.comparison import cached_runs as kept
from latentdiff.config import AutoencoderConfig, DiffusionConfig, NetworkConfig
from latentdiff.data import download
from latentdiff.evaluation import feature_nets
from latentdiff.inference.model import DiffusionModel
from latentdiff.models import lpips
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network
from latentdiff.models.unet import UNet
from latentdiff.stages import autoencoder, diffusion, latents
from latentdiff.text.vocabulary import Vocabulary
from latentdiff.training import diffusion_epoch_end

TRAINER = ["--data.source=embedded", "--trainer.max_images=64", "--trainer.images_per_epoch=32"]
TRAINER += ["--trainer.batch_size=16", "--trainer.accelerator=cpu"]
CODEC = [
    "--network.channels=[8,16,16]",
    "--network.decoder_blocks=1",
    "--network.attention=false",
    "--validation_images=16",
]
CODEC += ["--loss.perceptual_weight=0", "--loss.adversarial_weight=0"]
UNET = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
UNET += ["--network.head_channels=8", "--quality_images=20"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# As root, which a container's user is, Chromium has no sandbox.
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Say by which signal a process of pytest-xdist was ended: 9 is how a system out of memory ends one."""
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    if error and process is not None:
        try:
            print(f"\n{node.gateway.id} ended with status {process.wait(10)}", flush=True)
        except subprocess.TimeoutExpired:
            print(f"\n{node.gateway.id} is still running, and was lost", flush=True)


def only_here(url, *rest, _answers=download.server_answers):
    """Whether a server of this machine answers; those of others are not asked."""
    return (urlsplit(url).hostname in ("127.0.0.1", "localhost")) and _answers(url, *rest)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Graphs are cached for the session, and not in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENTDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_child_signals():
    """What torch's DataLoader does when a child process ends is not done in later tests, whose children are others."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Relative paths of a run fall into the test's own folder. The user's data and weights, and the network, are not
    seen."""
    monkeypatch.chdir(tmp_path)
    for module in (download, feature_nets, lpips):
        monkeypatch.setattr(module, "server_answers", only_here)
    for name in ("LATENTDIFF_DATA", "LATENTDIFF_LPIPS", "LATENTDIFF_INCEPTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # milliseconds for each of thousands of files
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request):
    """Each device that this machine has. A test that works on a device takes it from here."""
    return torch.device(request.param)


@pytest.fixture(scope="session", autouse=True)
def quick_grids():
    """The grid of samples that each epoch ends with is drawn in a few steps; it is most of a miniature training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_epoch_end, "GRID_STEPS", 3)
        yield


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """An Inception of random weights, written in torch-fidelity's names."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "random.pth"

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **kwargs):
            """Keep the random weights; there is no file to read them from yet."""

    empty = path.with_name("empty.pth")
    torch.save({}, empty)
    net = Blank("random", ["64"], feature_extractor_weights_path=empty)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # else the signal dies on its way
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_model_file(tmp_path_factory):
    """The file of a latent diffusion model with random weights, 1x10x10 images and three classes, always the same."""
    torch.manual_seed(0)
    network_config = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    codec_config = AutoencoderConfig(channels=(8,), encoder_blocks=1, decoder_blocks=1, attention=False, patch=2)
    network, autoencoder = UNet(2, 3, network_config), Autoencoder((1, 10, 10), codec_config)
    for parameter in (*network.parameters(), *autoencoder.parameters()):
        nn.init.normal_(parameter, std=0.1)
    codec = AutoencoderCodec(autoencoder, codec_config, torch.tensor([0.2, 0.1]), torch.tensor([1.5, 0.7]))
    names = ("Coat", "Dress", "T-shirt, top")
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    DiffusionModel(network, network_config, DiffusionConfig(), codec, names).save(path)
    return path


@pytest.fixture(scope="session")
def tiny():
    """Settings of models that train in a moment: flags of both trainers, of the autoencoder and of the U-Net."""
    return SimpleNamespace(trainer=TRAINER, codec=CODEC, unet=UNET)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, tiny):
    """A folder where both stages have been run, on latents and on pixels. It stays as it is.

    The processes of one test run share it: the first that needs it trains.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not (finished := folder.with_suffix(".finished")).exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that died here
            folder.mkdir()
            patch.chdir(folder)
            autoencoder.main([*tiny.trainer, *tiny.codec])
            latents.main(["--data.source=embedded"])
            diffusion.main([*tiny.trainer, *tiny.unet])
            diffusion.main([*tiny.trainer, *tiny.unet, "--name=pixel", "--autoencoder=none"])
            finished.touch()
    return folder


@pytest.fixture(scope="module")
def workbench(trained_once, tmp_path_factory):
    """A copy of that folder for the tests of a file, which leave more in it."""
    folder = tmp_path_factory.mktemp("workbench")
    shutil.copytree(trained_once, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def inside(workbench, isolated, monkeypatch):
    """The test runs in the workbench."""
    monkeypatch.chdir(workbench)


# Not for the session: while Playwright runs, its event loop is in the way of tests that start one.
@pytest.fixture(scope="module")
def browser_with():
    """Starts headless Chromium with more flags. Without it, or without Playwright, a test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        yield lambda flags: started.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(browser_with):
    """Headless Chromium, which looks nothing up by itself."""
    browser = browser_with(["--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def read_rows():
    """Reads a CSV file: a dictionary for each row."""

    def read(path):
        with open(path) as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def trainings(monkeypatch):
    """The commands of the training runs, which are made in this process; from the one ``trainings.fail_at`` on they
    fail."""

    class Made(list):
        fail_at = None

    made = Made()

    def run(command):
        if len(made) == made.fail_at:
            raise KeyboardInterrupt
        made.append(command)
        monkeypatch.setattr("sys.argv", command)
        {"latentdiff.stages.diffusion": diffusion, "latentdiff.stages.autoencoder": autoencoder}[command[2]].main(
            command[3:]
        )
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(kept.subprocess, "run", run)
    return made


@pytest.fixture(scope="session")
def reading_model():
    """A diffusion model with random weights that reads captions: 3x8x8 pixels, always the same."""
    torch.manual_seed(0)
    captions = ("a red dress", "a blue bag", "a green ankle boot")
    config = NetworkConfig(channels=(8, 8), num_res_blocks=1, attention_levels=(1,), head_channels=8, text="own")
    network = build_network(3, 0, config, tokenizer=Vocabulary.of_captions(captions, context=8))
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, std=0.4 if name.startswith(("text.", "caption.")) else 0.1)
    model = DiffusionModel(network, config, DiffusionConfig(), IdentityCodec((3, 8, 8)))
    model.captions = captions
    return model
