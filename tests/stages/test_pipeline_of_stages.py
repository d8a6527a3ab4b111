"""Every stage after the other as a user runs them, on a few images of the embedded slice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from latentdiff import checkpoint, load
from latentdiff.checkpoint import CheckpointError
from latentdiff.config import RunConfig
from latentdiff.evaluation import feature_nets
from latentdiff.stages import autoencoder, average, compare, diffusion, evaluate, folders, latents, release, sample
from latentdiff.stages.folders import FolderError

TRAINER = ["--data.source=embedded", "--trainer.max_images=64", "--trainer.images_per_epoch=32"]
TRAINER += ["--trainer.batch_size=16", "--trainer.accelerator=cpu"]
CODEC = [
    "--model.channels=[8,16,16]",
    "--model.decoder_blocks=1",
    "--loss.perceptual_weight=0",
    "--model.attention=false",
]
CODEC += ["--loss.adversarial_weight=0", "--validation_images=16"]
UNET = ["--network.channels=[8,16]", "--network.num_res_blocks=1", "--network.attention_levels=[]"]
UNET += ["--network.head_channels=8", "--quality_images=20"]


def read_rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    """A folder where both stages have been run, on latents and on pixels."""
    folder, before = tmp_path_factory.mktemp("workbench"), Path.cwd()
    os.chdir(folder)
    try:
        autoencoder.main([*TRAINER, *CODEC])
        latents.main(["--data.source=embedded"])
        diffusion.main([*TRAINER, *UNET])
        diffusion.main([*TRAINER, *UNET, "--name=pixel", "--autoencoder=none"])
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def inside(workbench, isolated, monkeypatch):
    monkeypatch.chdir(workbench)


def test_training_leaves_a_whole_run_folder(workbench):
    for run, columns in (
        ("autoencoder/fashion-mnist-autoencoder", {"psnr", "ssim", "val_kl_per_dim", "latent_mean_0", "latent_std_1"}),
        ("diffusion/fashion-mnist-latent", {"loss", "val_loss", "distance", "class_accuracy", "quality_seconds"}),
        ("diffusion/fashion-mnist-pixel", {"loss", "distance", "class_accuracy"}),
    ):
        folder = workbench / "stages" / run
        names = {path.name for path in folder.iterdir()}
        assert {"config.yaml", "metrics.csv", "last.ckpt", "model.safetensors", "samples"} <= names
        assert any(name.startswith("events.out.tfevents") for name in names)
        rows = read_rows(folder / "metrics.csv")
        assert [row["images_seen"] for row in rows] == ["32", "64"]
        assert columns <= set(rows[0])
        assert sorted(path.name for path in (folder / "samples").iterdir()) == ["000000032.png", "000000064.png"]
        provenance = checkpoint.read_header(folder / "model.safetensors")["provenance"]
        assert provenance["images_seen"] == 64
        assert provenance["data"]["source"] == "embedded"
        assert "--trainer.max_images=64" in provenance["command"]


def test_the_latent_cache_was_made_once_and_used(workbench, capsys):
    assert len(list((workbench / "stages" / "latents").iterdir())) == 1
    latents.main(["--data.source=embedded"])
    shown = capsys.readouterr().out
    assert "using 10,000 cached latents" in shown
    assert "std 1.0" in shown


def test_bad_settings_are_refused_before_an_old_run_is_touched(workbench):
    model = workbench / "stages/diffusion/fashion-mnist-latent/model.safetensors"
    before = model.read_bytes()
    for setting in ("--network.attention_levels=[5]", "--trainer.max_images=null", "--diffusion.target=eps"):
        with pytest.raises(ValueError):
            diffusion.main([*TRAINER, *UNET, "--run.overwrite", setting])
    assert model.read_bytes() == before


def test_an_existing_run_is_not_overwritten(workbench):
    with pytest.raises(Exception, match="already holds a run"):
        diffusion.main([*TRAINER, *UNET])


def test_sample_writes_what_is_asked_for(workbench):
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    sample.main(
        [
            "--checkpoint",
            model,
            "--num-images=5",
            "--steps=3",
            "--labels=bag,1,2,3,Shirt",
            "--pngs",
            "--npz",
            "--strip=3",
            "--gif",
            "--run.folder=out",
        ]
    )
    arrays = np.load("out/samples.npz")
    assert arrays["images"].shape == (5, 28, 28, 1)
    assert arrays["labels"].tolist() == [8, 1, 2, 3, 6]
    single = np.asarray(Image.open("out/images/000003.png"))
    assert np.array_equal(single, arrays["images"][3, :, :, 0])
    assert Image.open("out/strip.png").height > Image.open("out/strip.png").width
    assert Image.open("out/denoising.gif").n_frames == 4  # the noise, and a frame a step
    again = load(model).sample(5, labels=[8, 1, 2, 3, 6], steps=3)
    assert np.array_equal(arrays["images"][:, :, :, 0], again[:, 0].numpy())
    with pytest.raises(ValueError, match="'hat' is no class"):
        sample.main(["--checkpoint", model, "--labels=hat", "--run.folder=other"])
    assert not Path("other").exists()


def test_evaluate_and_compare_make_a_report(workbench, monkeypatch, capsys):
    monkeypatch.setattr(feature_nets, "answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(workbench))
    monkeypatch.setattr("latentdiff.perceptual.answers", lambda *_: False)
    common = ["--data.source=embedded", "--num_images=40", "--steps=2"]
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    evaluate.main([*common, "--checkpoint=noise"])
    printed = capsys.readouterr().out
    assert "no FID or KID" in printed
    assert "no LPIPS: AlexNet's convolutions are not here" in printed
    evaluate.main([*common, f"--checkpoint={codec}", "--name=vae", "--mode=prior"])
    Path("trunks").mkdir()
    alexnet = torchvision.models.alexnet(weights=None).features.state_dict()
    save_file({f"features.{name}": tensor for name, tensor in alexnet.items()}, "trunks/alexnet_features.safetensors")
    monkeypatch.setenv("LATENTDIFF_LPIPS", "trunks")
    evaluate.main([*common, f"--checkpoint={codec}", "--name=autoencoder"])
    for name in ("latent", "pixel"):
        evaluate.main(
            [*common, f"--checkpoint=stages/diffusion/fashion-mnist-{name}/model.safetensors", "--name", name]
        )
    values = json.loads(Path("stages/evaluate/latent/evaluation.json").read_text())
    assert values["num_images"] == 40
    assert values["data"]["source"] == "embedded"
    assert np.sum(values["density"]["images"]) == pytest.approx(1.0, abs=1e-4)
    assert values["training"]["stage_one_seconds"] > 0
    assert [row["images_seen"] for row in values["training"]["history"]] == [32, 64]
    assert values["floors"]["classifier"]["distance_test"] < values["metrics"]["classifier"]["distance_test"]
    reconstruction = json.loads(Path("stages/evaluate/autoencoder/evaluation.json").read_text())["metrics"]
    assert reconstruction["reconstruction"].keys() == {"psnr", "ssim", "lpips"}
    assert values["metrics"]["diversity"]["pairs"] == 20
    assert values["floors"]["diversity"]["mean"] > 0
    with pytest.raises(checkpoint.CheckpointError, match="could not be downloaded"):
        evaluate.main([*common, "--checkpoint=noise", "--inception=require", "--run.folder=never"])
    with pytest.raises(ValueError, match="the FID Inception is off or not here, which fid_infinity"):
        evaluate.main([*common, "--checkpoint=noise", "--fid_infinity=true", "--run.folder=never"])
    assert not Path("never").exists()
    capsys.readouterr()
    compare.main([])
    report = json.loads(Path("stages/compare/fashion-mnist/report.json").read_text())
    assert {"index.html", "report.md"} <= set(os.listdir("stages/compare/fashion-mnist"))
    assert "slice" in report["verdict"]
    shown = capsys.readouterr().out
    assert shown.index("noise") < shown.index("pixel") < shown.index("latent")


def test_bad_requests_end_in_one_sentence(workbench):
    for arguments in (
        ["evaluate", "--checkpoint", "absent.safetensors"],
        ["diffusion", "--data.source", "embedded", "--autoencoder", "absent.safetensors"],
        ["compare", "nowhere"],
    ):
        command = [sys.executable, "-m", f"latentdiff.stages.{arguments[0]}", *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert arguments[-1] in done.stderr


def test_a_process_that_is_killed_resumes_to_the_same_weights(workbench):
    """SIGKILL at whatever moment it comes: after the first checkpoint, in the middle of something."""
    long = ["--trainer.max_images=960", *UNET, "--quality_images=0", "--sample_every=100", "--autoencoder=none"]
    long += ["--validation_images=10"]
    settings = [
        "--data.source=embedded",
        "--data.hflip",
        "--trainer.images_per_epoch=32",
        "--trainer.batch_size=16",
        *long,
    ]
    diffusion.main([*settings, "--run.folder=alone"])
    command = [sys.executable, "-m", "latentdiff.stages.diffusion", *settings, "--run.folder=killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while not Path("killed/last.ckpt").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    for asked in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(FolderError, match="a run is writing into killed just now"):
            folders.prepare(RunConfig(folder="killed", **asked), "diffusion", "name", resumable=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("killed/model.safetensors").exists()
    diffusion.main([*settings, "--run.folder=killed", "--run.resume"])
    (_, ours), (_, theirs) = (checkpoint.read(f"{run}/model.safetensors") for run in ("alone", "killed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(read_rows("killed/metrics.csv")) == 30


def test_a_latent_run_is_not_resumed_on_another_autoencoders_latents(workbench):
    settings = [*TRAINER, *UNET, "--quality_images=0", "--run.folder=resumed"]
    diffusion.main([*settings, "--autoencoder=stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"])
    autoencoder.main([*TRAINER, *CODEC, "--trainer.seed=1", "--run.folder=other_autoencoder"])
    other = Path("other_autoencoder/model.safetensors")
    # As if the autoencoder had been trained anew behind the same name.
    config = Path("resumed/config.yaml")
    config.write_text(
        config.read_text().replace("stages/autoencoder/fashion-mnist-autoencoder/model.safetensors", str(other))
    )
    longer = [*settings, "--trainer.max_images=96", "--run.resume"]
    with pytest.raises(checkpoint.CheckpointError, match="the latents of another autoencoder"):
        diffusion.main([*longer, f"--autoencoder={other}"])


def test_a_run_says_which_images_it_used(workbench, monkeypatch, capsys):
    monkeypatch.setattr("latentdiff.data.download.answers", lambda *_: False)
    latents.main(["--folder=elsewhere"])
    assert "embedded slice, not the full set" in capsys.readouterr().out


def test_a_decoder_trained_on_alone_leaves_the_latents_and_serves_the_model_trained_before(workbench):
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    frozen = [*TRAINER, *CODEC, "--loss.frozen_encoder=true", "--name=decoder"]
    with pytest.raises(ValueError, match="name that one with --init"):
        autoencoder.main(frozen)
    autoencoder.main([*frozen, "--init", codec])
    after = "stages/autoencoder/fashion-mnist-decoder/model.safetensors"
    # The same from the run, whose running encoder is not the averaged one that its model holds.
    autoencoder.main([*frozen[:-1], "--name=decoder_of_run", "--init", str(Path(codec).parent)])
    for path in (after, "stages/autoencoder/fashion-mnist-decoder_of_run/model.safetensors"):
        (_, before), (_, trained) = checkpoint.read(codec), checkpoint.read(path)
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], trained[name])}
        assert changed == {"decoder"}

    other = "stages/autoencoder/fashion-mnist-decoder_of_run/model.safetensors"
    models = f"--models=[{after}, {other}]"
    average.main([models, "--to=averaged/model.safetensors"])
    (_, one), (_, two), (header, mean) = (
        checkpoint.read(path) for path in (after, other, "averaged/model.safetensors")
    )
    assert all(torch.allclose(mean[name], (one[name] + two[name]) / 2, atol=1e-6) for name in mean)
    assert [found["images_seen"] for found in header["provenance"]["averaged"]] == [128, 128]
    release.main(["--model=averaged/model.safetensors", "--to=averaged/autoencoder.safetensors"])
    assert "It is the mean of 2 models" in Path("averaged/autoencoder.md").read_text()
    with pytest.raises(FolderError, match="there already"):
        average.main([models, "--to=averaged/model.safetensors"])
    autoencoder.main([*TRAINER, *CODEC, "--name=unrelated", "--trainer.seed=3"])
    with pytest.raises(checkpoint.CheckpointError, match="have other latents"):
        average.main([f"--models=[{after}, stages/autoencoder/fashion-mnist-unrelated/model.safetensors]", "--to=no"])
    with pytest.raises(checkpoint.CheckpointError, match="another kind or shape"):
        average.main([f"--models=[{after}, {model}]", "--to=no"])

    # A model written before a setting existed has not got it in its header.
    header, tensors = checkpoint.read(model)
    header["codec"]["autoencoder"].pop("patch")
    content = {key: value for key, value in header.items() if key not in ("format", "kind")}
    checkpoint.save(Path("older.safetensors"), "diffusion", tensors, content)
    release.main(["--model", "older.safetensors", "--autoencoder", after, "--to", "shelf/swapped.safetensors"])
    noise = load("shelf/swapped.safetensors").codec
    assert noise.same_space(load(model).codec)
    z = torch.randn(4, *noise.latent_shape)
    assert (noise.decode(z).int() - load(after).decode(z).int()).abs().max() <= 4  # bf16
    assert checkpoint.read_header("shelf/swapped.safetensors")["provenance"]["decoder"]["images_seen"] == 128
    card = Path("shelf/swapped.md").read_text()
    assert "trained on, behind the same encoder, to 128 images" in card
    assert "--loss.frozen_encoder=true" in card

    autoencoder.main([*TRAINER, *CODEC, "--name=other", "--trainer.seed=1"])
    other = "stages/autoencoder/fashion-mnist-other/model.safetensors"
    with pytest.raises(checkpoint.CheckpointError, match="is not the one that the model was trained with"):
        release.main(["--model", model, "--autoencoder", other, "--to", "shelf/wrong.safetensors"])
    assert not Path("shelf/wrong.safetensors").exists()


def test_a_released_model_may_share_the_autoencoder_beside_it(workbench, capsys):
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    release.main(["--model", model, "--to", "whole/latent.safetensors"])
    arguments = ["--model", model, "--to", "pair/latent.safetensors", "--codec_beside=true"]
    with pytest.raises(checkpoint.CheckpointError, match="no model file pair/autoencoder"):
        release.main(arguments)
    release.main(["--model", codec, "--to", "pair/autoencoder.safetensors"])
    release.main(arguments)
    whole, pair = Path("whole/latent.safetensors"), Path("pair/latent.safetensors")
    assert pair.stat().st_size < whole.stat().st_size - 0.8 * Path("pair/autoencoder.safetensors").stat().st_size
    assert torch.equal(load(pair).sample(3, steps=2), load(whole).sample(3, steps=2))
    assert "autoencoder.safetensors beside it" in pair.with_suffix(".md").read_text()
    pixel = "stages/diffusion/fashion-mnist-pixel/model.safetensors"
    with pytest.raises(checkpoint.CheckpointError, match="this one has no autoencoder"):
        release.main(["--model", pixel, "--to", "pair/pixel.safetensors", "--codec_beside=true"])
    # A released file can be released anew, whole or as it was, without the run that it came from.
    again = ["--model", "pair/latent.safetensors", "--to"]
    release.main([*again, "pair/whole.safetensors"])
    assert "codec_file" not in checkpoint.read_header("pair/whole.safetensors")
    assert torch.equal(load("pair/whole.safetensors").sample(3, steps=2), load(whole).sample(3, steps=2))
    release.main([*again, "pair/again.safetensors", "--codec_beside=true"])
    assert Path("pair/again.safetensors").read_bytes() == pair.read_bytes()
    Path("pair/again.safetensors").unlink()
    capsys.readouterr()
    release.main(["--model", codec, "--to", "pair/autoencoder.safetensors", "--overwrite"])
    assert "pair/latent.safetensors decodes with the file that was replaced" in capsys.readouterr().out
    content = Path("pair/autoencoder.safetensors").read_bytes()
    Path("pair/autoencoder.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(checkpoint.CheckpointError, match="is not the autoencoder that pair/latent"):
        load(pair)
    Path("pair/autoencoder.safetensors").unlink()
    with pytest.raises(checkpoint.CheckpointError, match="which is not beside it: copy both"):
        load(pair)


def test_a_released_history_is_short_and_still_a_curve():
    row = {"images_seen": 123456, "loss": 0.123456789, "seconds": 1234567.8, "latent_std_0": 1.0}
    short = release.thinned({"seconds": 1.23456789, "history": [row]})
    assert short == {"seconds": 1.23456789, "history": [{"images_seen": 123456, "loss": 0.12346, "seconds": 1234600.0}]}
    assert release.thinned({"seconds": 1.0}) == {"seconds": 1.0}


def test_release_halves_the_file_and_writes_a_card(workbench):
    source = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    arguments = ["--model", source, "--to", "shelf/latent.safetensors"]
    release.main(arguments)
    assert Path("shelf/latent.safetensors").stat().st_size < 0.7 * Path(source).stat().st_size
    card = Path("shelf/latent.md").read_text()
    assert "--trainer.max_images=64" in card
    assert "embedded set" in card
    assert load("shelf/latent.safetensors").sample(2, steps=2).shape == (2, 1, 28, 28)
    with pytest.raises(FolderError, match="is there already"):
        release.main(arguments)
    evaluate.main(
        [
            "--data.source=embedded",
            "--num_images=40",
            "--steps=2",
            "--inception=off",
            "--lpips=off",
            "--checkpoint=shelf/latent.safetensors",
            "--run.folder=measured",
        ]
    )
    release.main([*arguments, "--overwrite", "--evaluation=measured"])
    card = Path("shelf/latent.md").read_text()
    assert "classifier distance to test" in card
    assert "![Samples](latent.jpg)" in card
    assert "MIT licence" in card
    assert Image.open("shelf/latent.jpg").height == 4 * 58 + 2
    release.main(["--model", source, "--to", "shelf/latent.safetensors", "--overwrite"])
    diffusion.main([*TRAINER, *UNET, "--name=other", "--trainer.seed=1"])
    other = "stages/diffusion/fashion-mnist-other/model.safetensors"
    with pytest.raises(ValueError, match="measured another file"):
        release.main(["--model", other, "--to", "shelf/other.safetensors", "--evaluation=measured"])


def test_anyones_images_and_matched_noise_are_measured_and_compared(workbench, capsys):
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    np.savez("theirs.npz", images=images[:, 0].numpy(), labels=np.arange(40) % 10)
    common = ["--data.source=embedded", "--inception=off", "--lpips=off"]
    evaluate.main([*common, "--checkpoint=theirs.npz"])
    evaluate.main([*common, "--checkpoint=gaussian", "--num_images=40"])
    assert "class accuracy" in capsys.readouterr().out
    theirs, gaussian = (
        json.loads(Path(f"stages/evaluate/{name}/evaluation.json").read_text()) for name in ("theirs", "gaussian")
    )
    assert (theirs["kind"], theirs["num_images"], gaussian["kind"]) == ("images", 40, "gaussian")
    distances = [values["metrics"]["classifier"]["distance_test"] for values in (theirs, gaussian)]
    assert distances[1] < distances[0]  # a mean and a covariance are more than nothing
    compare.main(["stages/evaluate/theirs", "stages/evaluate/gaussian", "--run.folder=theirs"])
    assert "images from files" in Path("theirs/report.md").read_text()
    with pytest.raises(ValueError, match="holds 40 images, not 41"):
        evaluate.main([*common, "--checkpoint=theirs.npz", "--num_images=41", "--run.folder=none"])
    assert not Path("none").exists()


def test_the_best_model_is_kept_beside_the_last(workbench):
    watched = ["--trainer.monitor=val_loss", "--trainer.lr=0.01", "--name=watched", "--quality_images=0"]
    diffusion.main([*TRAINER, *UNET, *watched])
    folder = workbench / "stages/diffusion/fashion-mnist-watched"
    rows = read_rows(folder / "metrics.csv")
    best = min(rows, key=lambda row: float(row["val_loss"]))
    kept = checkpoint.read_header(folder / "best.safetensors")["provenance"]
    assert kept["images_seen"] == int(best["images_seen"])
    assert load(folder / "best.safetensors").sample(2, steps=2).shape == (2, 1, 28, 28)
    # Its held-out images are the test split's, by which nothing is chosen unasked.
    assert not (workbench / "stages/diffusion/fashion-mnist-latent/best.safetensors").exists()


def test_the_best_model_by_quality_is_kept_unasked_where_there_is_a_validation_split(workbench, capsys):
    split = ["--data.split=fractions", "--data.fractions=[0.8,0.1,0.1]", "--trainer.max_images=48"]
    looks = ["--trainer.images_per_epoch=16", "--quality_images=10", "--name=chosen"]
    diffusion.main([*TRAINER, *UNET, *split, *looks])
    assert "the best model by distance on the validation images" in capsys.readouterr().out
    folder = workbench / "stages/diffusion/fashion-mnist-chosen"
    rows = read_rows(folder / "metrics.csv")
    best = min(rows, key=lambda row: float(row["distance"]))
    assert checkpoint.read_header(folder / "best.safetensors")["provenance"]["images_seen"] == int(best["images_seen"])
    none = ["--name=unwatched", "--trainer.monitor=null"]
    diffusion.main([*TRAINER, *UNET, *split, *looks, *none])
    assert not (workbench / "stages/diffusion/fashion-mnist-unwatched/best.safetensors").exists()
    # Where there is nothing to watch, a rule that needs it is refused.
    with pytest.raises(ValueError, match=r"stop_patience needs --trainer\.monitor"):
        diffusion.main([*TRAINER, *UNET, "--name=blind", "--quality_images=0", "--trainer.stop_patience=2"])
    assert not (workbench / "stages/diffusion/fashion-mnist-blind").exists()


def test_held_out_images_are_measured_each_epoch_and_costly_looks_are_rarer(workbench):
    often = ["--trainer.max_images=80", "--trainer.images_per_epoch=16", "--validation_images=10"]
    diffusion.main([*TRAINER, *UNET, *often, "--name=rarely", "--quality_images=10", "--sample_every=2"])
    rows = read_rows(workbench / "stages/diffusion/fashion-mnist-rarely/metrics.csv")
    assert len(rows) == 5
    assert all(row["val_loss"] for row in rows)
    looked = [bool(row["distance"]) for row in rows]
    assert looked == [number % 2 == 0 or number == len(rows) for number in range(1, len(rows) + 1)]


def test_a_model_that_may_have_seen_the_test_images_is_told_of(workbench, capsys):
    anew = ["--data.split=fractions", "--data.fractions=[0.9,0.0,0.1]", "--data.max_images=null"]
    diffusion.main([*TRAINER, *UNET, *anew, "--autoencoder=none", "--name=seen", "--quality_images=0"])
    common = ["--inception=off", "--lpips=off", "--num_images=20", "--steps=1", "--run.overwrite"]
    model = ["--checkpoint=stages/diffusion/fashion-mnist-seen/model.safetensors", "--name=seen"]
    warned = []
    for split in (["--data.split=fractions"], anew):
        evaluate.main([*model, *common, *split])
        values = json.loads(Path("stages/evaluate/seen/evaluation.json").read_text())
        warned.append("it may have seen test images" in " ".join(values["warnings"]))
        assert "split" in values["data"]["test_split"]
        assert values["metrics"]["pixels"]["train_images"] == values["data"]["train_images"]
    assert warned == [True, False]


def test_a_classifier_of_other_images_is_left_out_before_any_work(workbench, capsys):
    arguments = ["--checkpoint=noise", "--num_images=20", "--inception=off", "--lpips=off", "--run.folder=none"]
    with pytest.raises(CheckpointError, match="nothing to measure fashion-mnist with"):
        evaluate.main([*arguments, "--data.size=32"])
    assert "the classifier is for images of 1x28x28" in capsys.readouterr().out
    assert not Path("none").exists()


def test_a_folder_of_ones_own_images_goes_through_both_stages(workbench):
    """Colour images of unequal size, without classes and without a classifier to measure with."""
    for index in range(40):
        Path("own").mkdir(exist_ok=True)
        size = (20 + index % 7, 31)
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"own/{index}.png")
    data = ["--data.name=folder", "--data.path=own", "--data.size=16", "--data.hflip=true"]
    trainer = [setting for setting in TRAINER if "data.source" not in setting]
    autoencoder.main([*trainer, *CODEC, *data])
    diffusion.main([*trainer, *UNET, *data, "--autoencoder=stages/autoencoder/folder-autoencoder/model.safetensors"])
    images = load("stages/diffusion/folder-latent/model.safetensors").sample(3, steps=2)
    assert images.shape == (3, 3, 16, 16)
