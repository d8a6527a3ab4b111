"""The same job by one process and by several: real ones, which meet by gloo."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latentdiff import distributed
from latentdiff.errors import ConfigError, StageError
from latentdiff.runs import launch
from latentdiff.stages import autoencoder as autoencoder_stage
from latentdiff.stages import diffusion as diffusion_stage

RELEASED = Path(__file__).parents[2] / "checkpoints" / "fashion-mnist"
SMALL = ["--data.source", "embedded", "--data.max_train_images", "120", "--trainer.precision", "fp32"]
SMALL += ["--trainer.images_per_epoch", "24", "--trainer.max_images", "48", "--trainer.lr_warmup_images", "24"]
NETWORK = ["--network.channels", "[8,16]", "--network.num_res_blocks", "1", "--network.attention_levels", "[]"]
NETWORK += ["--network.head_channels", "8", "--quality_images", "0", "--validation_images", "10"]
NETWORK += ["--autoencoder", str(RELEASED / "autoencoder.safetensors")]
VAE = ["--network.channels", "[8,16]", "--network.attention", "false", "--validation_images", "10"]
VAE += ["--loss.adversarial_start", "0", "--loss.discriminator_warmup", "0", "--loss.discriminator_channels", "8"]
VAE += ["--loss.perceptual_net", "alexnet", "--loss.degradation", "noise", "--loss.adversarial_adaptive", "true"]
VAE += ["--loss.feature_adversarial_weight", "0.5", "--loss.feature_discriminator_channels", "4"]


@pytest.fixture
def stage(tmp_path):
    """Runs a stage in an empty folder, by default as one process."""

    def run(name: str, *arguments: str, check: bool = True, **more) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}
        command = [sys.executable, "-m", f"latentdiff.stages.{name}", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    return run


def trunk(folder: Path) -> list[str]:
    """Settings that name an LPIPS trunk of random weights, which it makes in ``folder``."""
    import torchvision

    weights = torchvision.models.alexnet(weights=None).features.state_dict()
    save_file({f"features.{name}": tensor for name, tensor in weights.items()}, folder / "trunk.safetensors")
    return ["--loss.perceptual_weights", "trunk.safetensors"]


def losses(folder: Path) -> list[dict[str, float]]:
    """What a run measured of its training, epoch by epoch, without its speed."""
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return [
        {name: float(value) for name, value in row.items() if value and name not in ("seconds", "images_per_second")}
        for row in rows
    ]


@pytest.mark.slow
def test_two_processes_train_diffusion_as_one_does(stage, tmp_path):
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12"]
    diffusion_stage.main([*arguments, "--trainer.num_threads", "1", "--run.folder", "one"])
    done = stage(
        "diffusion", *arguments, "--trainer.devices", "2", "--latents_folder", "two-latents", "--run.folder", "two"
    )
    assert done.stdout.count("UNet:") == 1  # the others say nothing
    for ours, theirs in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    # Each encoded its half: the one file is the same.
    one, two = (sorted((tmp_path / name).glob("*.safetensors")) for name in ("stages/latents", "two-latents"))
    assert [path.name for path in one] == [path.name for path in two]


def needs(text: str) -> dict[str, float]:
    """Megabytes by part, of what a dry run says."""
    rows = re.findall(r"^(\w[\w ]+?) {2,}([\d.]+) MiB", text, re.MULTILINE)
    return {name: float(amount) for name, amount in rows}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_dry_run_by_two_processes_says_what_each_of_them_needs(stage, tmp_path, strategy):
    arguments = [*SMALL, *NETWORK, "--network.channels", "[64,64]", "--trainer.batch_size", "32", "--dry_run"]
    alone = needs(stage("diffusion", *arguments).stdout)
    done = stage("diffusion", *arguments, "--trainer.devices", "2", "--trainer.strategy", strategy)
    each = needs(done.stdout)
    assert done.stdout.count("UNet:") == 1  # the others say nothing
    assert each["optimiser"] == pytest.approx(alone["optimiser"] / (2 if strategy == "fsdp" else 1), abs=0.1)
    assert each["activations and gradients"] < 0.75 * alone["activations and gradients"]
    assert each["memory of each of 2"] < alone["memory in all"]
    assert not (tmp_path / "stages" / "diffusion").exists()


COMPILED = """
from latentdiff.command_line import run_stage
from latentdiff.stages.diffusion import main
from latentdiff.training import compiling

compiling.BACKEND = "aot_eager"  # traces, and takes the usual kernels
run_stage(main, several_processes=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_compile_what_they_train(stage, tmp_path, strategy):
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12", "--trainer.devices", "2"]
    arguments += ["--trainer.strategy", strategy]
    stage("diffusion", *arguments, "--run.folder", "plain")
    (tmp_path / "compiled.py").write_text(COMPILED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "compiled.py"]
    subprocess.run(
        [*command, *arguments, "--trainer.compile", "on", "--run.folder", "compiled"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    for ours, theirs in zip(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("compiled", "plain"))
    assert ours.keys() == theirs.keys()


@pytest.mark.slow
def test_a_run_goes_on_sharded_and_whole_again_as_if_it_had_never_been_cut(stage, tmp_path):
    """Weights, their average and Adam's state pass through ``last.ckpt`` from one process to two and back."""
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12", "--trainer.lr_schedule", "constant"]
    stage("diffusion", *arguments, "--trainer.max_images", "72", "--run.folder", "whole")
    fsdp = ["--trainer.devices", "2", "--trainer.strategy", "fsdp"]
    for images, more in ((24, []), (48, fsdp), (72, [])):
        more = [*more, "--trainer.max_images", str(images), "--run.folder", "cut"]
        more += ["--run.resume", "true"] if images > 24 else []
        stage("diffusion", *arguments, *more)
    for ours, theirs in zip(losses(tmp_path / "cut"), losses(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_gradient_that_is_no_number_ends_the_job_by_name_and_leaves_the_checkpoint(stage, tmp_path, strategy):
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12", "--trainer.images_per_epoch", "12"]
    arguments += ["--trainer.devices", "2", "--trainer.strategy", strategy, "--trainer.lr", "100"]
    # The decay multiplies the weights by -9,999 in each step, until they are beyond fp32.
    arguments += ["--trainer.weight_decay", "100", "--trainer.lr_warmup_images", "0", "--trainer.max_images", "600"]
    done = stage("diffusion", *arguments, "--run.folder", "run", check=False)
    assert done.returncode != 0
    seen = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["latentdiff"]["images_seen"]
    assert len(re.findall(f"error: the .* after {seen} images", done.stderr)) == 1, done.stderr


@pytest.mark.slow
def test_an_autoencoder_and_its_discriminators_go_on_sharded_and_whole_again(stage, tmp_path):
    arguments = [*SMALL, *VAE, "--trainer.batch_size", "12", "--trainer.lr_schedule", "constant"]
    arguments += ["--trainer.images_per_epoch", "12", *trunk(tmp_path)]
    stage("autoencoder", *arguments, "--trainer.max_images", "36", "--run.folder", "whole")
    fsdp = ["--trainer.devices", "2", "--trainer.strategy", "fsdp"]
    for images, more in ((12, []), (24, fsdp), (36, [])):
        more = [*more, "--trainer.max_images", str(images), "--run.folder", "cut"]
        more += ["--run.resume", "true"] if images > 12 else []
        stage("autoencoder", *arguments, *more)
        if images == 12:
            begun = load_file(tmp_path / "cut" / "model.safetensors")
    for ours, theirs in zip(losses(tmp_path / "cut"), losses(tmp_path / "whole"), strict=True):
        # The gradient of the discriminator's last bias is zero but for rounding, which Adam makes whole steps of.
        assert ours == pytest.approx(theirs, rel=1e-3, abs=5e-3)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    moved = sum((theirs[name] - begun[name]).square().sum() for name in theirs)
    apart = sum((theirs[name] - ours[name]).square().sum() for name in theirs)
    assert apart.sqrt() < 0.05 * moved.sqrt()


@pytest.mark.slow
def test_a_decoder_behind_a_frozen_encoder_trains_sharded_as_whole(stage, tmp_path):
    """Its encoder has no backward pass; the learned variance is a scalar, which cannot be sharded."""
    arguments = [*SMALL, *VAE, "--trainer.batch_size", "12", "--loss.perceptual_weight", "0"]
    arguments += ["--loss.feature_adversarial_weight", "0", "--loss.adversarial_weight", "0"]
    stage("autoencoder", *arguments, "--trainer.max_images", "24", "--run.folder", "before")
    arguments += ["--init", "before", "--loss.frozen_encoder", "true", "--loss.reconstruction", "gaussian"]
    arguments += ["--trainer.gradient_accumulation_steps", "2", "--trainer.grad_clip", "0.1"]
    stage("autoencoder", *arguments, "--run.folder", "one")
    stage("autoencoder", *arguments, "--trainer.devices", "2", "--trainer.strategy", "fsdp", "--run.folder", "two")
    for ours, theirs in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_three_processes_train_an_autoencoder_as_one_does(stage, tmp_path, strategy):
    arguments = [*SMALL, *VAE, "--trainer.batch_size", "12", "--trainer.images_per_epoch", "12", *trunk(tmp_path)]
    stage("autoencoder", *arguments, "--run.folder", "one")
    three = ["--trainer.devices", "3", "--trainer.strategy", strategy, "--run.folder", "three"]
    stage("autoencoder", *arguments, *three)
    ours, theirs = losses(tmp_path / "three"), losses(tmp_path / "one")
    judged = {"adversarial", "discriminator", "feature_adversarial", "feature_discriminator"}
    assert {"reconstruction", "perceptual", *judged} <= set(theirs[-1])
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    for row, other in zip(ours, theirs, strict=True):
        # The gradient of the discriminator's last bias is zero but for rounding, which Adam makes whole steps of.
        assert row == pytest.approx(other, rel=1e-3, abs=5e-3)


@pytest.mark.slow
def test_images_are_the_same_for_any_number_of_processes(stage, tmp_path):
    arguments = ["--model", str(RELEASED / "latent.safetensors"), "--num_images", "7", "--steps", "2", "--npz"]
    arguments += ["--pngs"]
    for count in (1, 3):
        # Batches of three, in one share of seven or three of two, two and three.
        stage("sample", *arguments, "--batch_size", "3", "--exact", "--devices", str(count), "--run.folder", str(count))
    one, *others = (np.load(tmp_path / str(count) / "samples.npz") for count in (1, 3))
    for other in others:
        assert np.array_equal(one["images"], other["images"])
        assert np.array_equal(one["labels"], other["labels"])
    # Interrupted, and gone on with by other processes.
    pngs = {path.name: path.read_bytes() for path in (tmp_path / "1" / "images").iterdir()}
    for name in ("000002.png", "000003.png", "000006.png"):
        (tmp_path / "3" / "images" / name).unlink()
    more = ["--exact", "--devices", "2", "--batch_size", "2", "--run.folder", "3", "--run.resume"]
    stage("sample", *arguments, *more)
    assert {path.name: path.read_bytes() for path in (tmp_path / "3" / "images").iterdir()} == pngs
    assert np.array_equal(np.load(tmp_path / "3" / "samples.npz")["images"], one["images"])


@pytest.mark.slow
def test_measuring_is_shared_even_where_some_have_nothing(stage, tmp_path):
    import json

    arguments = ["--model", str(RELEASED / "latent.safetensors"), "--num_images", "21", "--real_images", "60"]
    arguments += ["--steps", "1", "--inception", "off", "--lpips", "off", "--data.source", "embedded"]
    for count in (1, 2):
        stage("evaluate", *arguments, "--devices", str(count), "--run.folder", str(count))
    one, two = (json.loads((tmp_path / str(n) / "evaluation.json").read_text())["metrics"] for n in (1, 2))
    assert one["classifier"]["distance_test"] == pytest.approx(two["classifier"]["distance_test"], rel=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_which_goes_on_afterwards(stage, tmp_path):
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12", "--run.folder", "run"]
    endless = [*arguments, "--trainer.max_images", "100000000"]
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *endless, "--trainer.devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    job = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "run" / "last.ckpt"
    try:
        wait_for(lambda: checkpoint.is_file() or job.poll() is not None)
        assert checkpoint.is_file()
        os.kill(workers(job.pid)[-1], signal.SIGKILL)
        _, said = job.communicate(timeout=120)
    finally:
        job.terminate()
    assert job.returncode != 0
    assert "one of the 2 processes failed or was killed" in said
    assert "--run.resume" in said
    seen = torch.load(checkpoint, weights_only=True)["latentdiff"]["images_seen"]
    stage("diffusion", *arguments, "--trainer.max_images", str(seen + 24), "--run.resume", "true")
    assert losses(tmp_path / "run")[-1]["images_seen"] >= seen + 24


@pytest.mark.slow
def test_ending_the_command_ends_its_processes(tmp_path):
    arguments = [*SMALL, *NETWORK, "--trainer.batch_size", "12", "--trainer.max_images", "100000000"]
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *arguments, "--trainer.devices", "2"]
    job = subprocess.Popen([*command, "--run.folder", "run"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "run" / "last.ckpt").is_file)
    begun = workers(job.pid)
    assert len(begun) >= 2
    job.terminate()
    assert job.wait(timeout=60) != 0
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in begun))
    assert not any(Path(f"/proc/{pid}").exists() for pid in begun)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def workers(launcher: int) -> list[int]:
    """The processes that torchrun began under ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "stat").read_text().rsplit(")", 1)[1].split()
            environment = (path / "environ").read_bytes()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        ours = b"TORCHELASTIC_RUN_ID=" in environment and b"latentdiff.stages.diffusion" in command
        if ours and launcher in ancestors(int(words[1])):
            found.append(int(path.name))
    return sorted(found)


def ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


@pytest.mark.slow
def test_a_slurm_step_is_understood(stage, tmp_path):
    arguments = ["-m", "latentdiff.stages.sample", "--model", str(RELEASED / "latent.safetensors")]
    arguments += ["--num_images", "3", "--steps", "1", "--run.folder", "run"]
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "4711"}
    slurm |= {"SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "OMP_NUM_THREADS": "1"}
    tasks = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, **slurm, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    said = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0]
    assert "3 images" in said[0]
    assert not said[1]
    assert (tmp_path / "run" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "words"),
    [
        ({}, 0, 1, "one node, not 0"),
        ({}, 2, 3, "torchrun --nnodes 3 --nproc-per-node 2"),
        ({"WORLD_SIZE": "4"}, 3, 1, "4 processes were started, but --trainer.devices asks for 3"),
    ],
)
def test_numbers_that_cannot_be_are_refused(monkeypatch, environment, devices, nodes, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        launch.start_processes("diffusion", [], devices, nodes, "trainer.")


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "_job", lambda *_: pytest.fail("processes were started"))
    arguments = ["--trainer.devices", "5", "--trainer.batch_size", "16", "--run.folder", str(tmp_path / "run")]
    for stage in (autoencoder_stage, diffusion_stage):
        with pytest.raises(ConfigError, match=r"^--trainer\.batch_size 16 cannot be shared by 5 processes: take .*$"):
            stage.main(arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("began", [True, False])
def test_what_is_kept_is_said_where_something_is(monkeypatch, tmp_path, began):
    monkeypatch.setattr(launch, "_job", lambda *_: 1)
    if began:
        (tmp_path / "last.ckpt").touch()
    with pytest.raises(StageError) as caught:
        launch.start_processes("diffusion", [], 2, 1, "trainer.", 16, tmp_path)
    assert ("The last checkpoint is kept" in str(caught.value)) == began


def test_one_process_is_left_alone(monkeypatch):
    assert not launch.start_processes("diffusion", [], 1)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        assert not launch.start_processes("diffusion", [], 1)
    distributed.init_process_group()
    own = torch.arange(3)
    assert (distributed.world_size(), distributed.rank(), distributed.is_main_process()) == (1, 0, True)
    assert distributed.shard_range(5) == range(5)
    assert distributed.gather(own) is own
    assert distributed.all_reduce_mean(own) is own
    assert distributed.broadcast(own) is own
    distributed.barrier()


def test_shares_cover_everything_once(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    for total in (0, 1, 3, 4, 10, 11):
        shares = []
        for rank in range(4):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(distributed.shard_range(total))
        assert [i for share in shares for i in share] == list(range(total))
        assert len(shares[0]) == max(map(len, shares)) <= min(map(len, shares)) + 1


def test_what_decides_about_meeting_must_be_the_same_everywhere(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(
        distributed.dist, "all_gather_object", lambda values, value: values.__setitem__(slice(None), [value, "x"])
    )
    with pytest.raises(ValueError, match="differ in the images"):
        distributed.check_same("the images", "y")
    distributed.check_same("the images", "x")


@pytest.mark.slow
def test_a_stage_for_one_process_refuses_several(stage):
    done = stage("demo", check=False, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
    assert done.returncode
    assert "works in one process" in done.stderr
