"""Every stage after the other as a user runs them, on a few images of the embedded slice."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from latentdiff import checkpoint, load
from latentdiff.command_line import run_stage
from latentdiff.config import RunConfig
from latentdiff.errors import CheckpointError, FolderError
from latentdiff.evaluation import feature_nets
from latentdiff.folder_mark import MARKER, read_mark
from latentdiff.runs import run_folder
from latentdiff.stages import analyse, autoencoder, compare, diffusion, evaluate, latents, sample
from latentdiff.training.base_module import StageModule

MODEL = "stages/diffusion/fashion-mnist-latent/model.safetensors"
pytestmark = pytest.mark.usefixtures("inside")


def test_training_leaves_a_whole_run_folder(workbench, read_rows):
    flops = {}
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
        flops[run] = provenance["flops"], provenance.get("stage_one_flops")
    of_stage_one, of_latent, of_pixel = flops.values()
    assert of_stage_one[0] == of_latent[1] > 0
    assert of_latent[0] > 0 < of_pixel[0]
    assert of_stage_one[1] is of_pixel[1] is None


def test_the_latent_cache_was_made_once_and_used(workbench, capsys):
    assert len(list((workbench / "stages" / "latents").iterdir())) == 1
    latents.main(["--data.source=embedded"])
    shown = capsys.readouterr().out
    assert "using 10,000 cached latents" in shown
    assert "std 1.0" in shown


def test_an_existing_run_is_not_overwritten(workbench, tiny):
    with pytest.raises(Exception, match="already holds a run of the stage diffusion:"):
        diffusion.main([*tiny.trainer, *tiny.unet])


def test_sample_writes_what_is_asked_for(workbench):
    model = "stages/diffusion/fashion-mnist-latent/model.safetensors"
    sample.main(
        [
            "--model",
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
        sample.main(["--model", model, "--labels=hat", "--run.folder=other"])
    assert not Path("other").exists()


def test_evaluate_and_compare_make_a_report(workbench, monkeypatch, capsys):
    monkeypatch.setattr(feature_nets, "server_answers", lambda *_: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(workbench))
    monkeypatch.setattr("latentdiff.models.lpips.server_answers", lambda *_: False)
    common = ["--data.source=embedded", "--num_images=40", "--real_images=200", "--steps=2"]
    codec = "stages/autoencoder/fashion-mnist-autoencoder/model.safetensors"
    evaluate.main([*common, "--model=noise"])
    printed = capsys.readouterr().out
    assert "no FID or KID" in printed
    assert "no LPIPS: AlexNet's convolutions are not here" in printed
    evaluate.main([*common, f"--model={codec}", "--name=vae", "--mode=prior"])
    Path("trunks").mkdir()
    alexnet = torchvision.models.alexnet(weights=None).features.state_dict()
    save_file({f"features.{name}": tensor for name, tensor in alexnet.items()}, "trunks/alexnet_features.safetensors")
    monkeypatch.setenv("LATENTDIFF_LPIPS", "trunks")
    evaluate.main([*common, f"--model={codec}", "--name=autoencoder"])
    for name in ("latent", "pixel"):
        evaluate.main([*common, f"--model=stages/diffusion/fashion-mnist-{name}/model.safetensors", "--name", name])
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
    with pytest.raises(ValueError, match="in mode prior"):
        evaluate.main([*common, f"--model={codec}", "--mode=prior", "--reconstruct=train", "--run.folder=never"])
    own_number = [flag for flag in common if "real_images" not in flag]
    evaluate.main([*own_number, f"--model={codec}", "--reconstruct=train", "--run.folder=reconstructed"])
    learned = json.loads(Path("reconstructed/evaluation.json").read_text())
    assert any("40 training images' reconstructions" in warning for warning in learned["warnings"])
    assert learned["metrics"]["reconstruction"] != reconstruction["reconstruction"]
    assert values["floors"]["diversity"]["mean"] > 0
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        evaluate.main([*common, "--model=noise", "--inception=require", "--run.folder=never"])
    with pytest.raises(ValueError, match="the FID Inception is off or not here, which fid_infinity"):
        evaluate.main([*common, "--model=noise", "--fid_infinity=true", "--run.folder=never"])
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
        ["evaluate", "--model", "absent.safetensors"],
        ["diffusion", "--data.source", "embedded", "--name", "new", "--autoencoder", "absent.safetensors"],
        ["compare", "nowhere"],
    ):
        stage, *flags = arguments
        with pytest.raises(SystemExit) as end:
            run_stage(partial(import_module(f"latentdiff.stages.{stage}").main, flags))
        assert str(end.value.code).startswith("error: ")
        assert arguments[-1] in str(end.value.code)


def test_a_run_says_which_images_it_used(workbench, monkeypatch, capsys):
    monkeypatch.setattr("latentdiff.data.download.server_answers", lambda *_: False)
    latents.main(["--folder=elsewhere"])
    assert "embedded slice, not the full set" in capsys.readouterr().out


def test_anyones_images_and_matched_noise_are_measured_and_compared(workbench, capsys):
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    np.savez("theirs.npz", images=images[:, 0].numpy(), labels=np.arange(40) % 10)
    common = ["--data.source=embedded", "--inception=off", "--lpips=off"]
    evaluate.main([*common, "--model=theirs.npz"])
    evaluate.main([*common, "--model=gaussian", "--num_images=40"])
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
        evaluate.main([*common, "--model=theirs.npz", "--num_images=41", "--run.folder=none"])
    assert not Path("none").exists()


@pytest.mark.slow
def test_a_model_that_may_have_seen_the_test_images_is_told_of(workbench, capsys, tiny):
    anew = ["--data.split=fractions", "--data.fractions=[0.9,0.0,0.1]", "--data.max_train_images=null"]
    diffusion.main([*tiny.trainer, *tiny.unet, *anew, "--autoencoder=none", "--name=seen", "--quality_images=0"])
    common = ["--inception=off", "--lpips=off", "--num_images=20", "--steps=1", "--run.overwrite"]
    model = ["--model=stages/diffusion/fashion-mnist-seen/model.safetensors", "--name=seen"]
    warned = []
    for split in (["--data.split=fractions"], anew):
        evaluate.main([*model, *common, *split])
        values = json.loads(Path("stages/evaluate/seen/evaluation.json").read_text())
        warned.append("it may have seen test images" in " ".join(values["warnings"]))
        assert "split" in values["data"]["test_split"]
        assert values["metrics"]["pixels"]["train_images"] == values["data"]["train_images"]
    assert warned == [True, False]


def test_a_classifier_of_other_images_is_left_out_before_any_work(workbench, capsys):
    arguments = ["--model=noise", "--num_images=20", "--inception=off", "--lpips=off", "--run.folder=none"]
    with pytest.raises(CheckpointError, match="nothing to measure fashion-mnist with"):
        evaluate.main([*arguments, "--data.size=32"])
    assert "the classifier is for images of 1x28x28" in capsys.readouterr().out
    assert not Path("none").exists()


def test_a_folder_of_ones_own_images_goes_through_both_stages(workbench, tiny):
    """Colour images of unequal size, without classes and without a classifier to measure with."""
    for index in range(40):
        Path("own").mkdir(exist_ok=True)
        size = (20 + index % 7, 31)
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"own/{index}.png")
    data = ["--data.name=folder", "--data.path=own", "--data.size=16", "--data.hflip=true"]
    trainer = [setting for setting in tiny.trainer if "data.source" not in setting]
    autoencoder.main([*trainer, *tiny.codec, *data])
    diffusion.main(
        [*trainer, *tiny.unet, *data, "--autoencoder=stages/autoencoder/folder-autoencoder/model.safetensors"]
    )
    images = load("stages/diffusion/folder-latent/model.safetensors").sample(3, steps=2)
    assert images.shape == (3, 3, 16, 16)


def test_all_that_the_stages_wrote_is_known_to_be_theirs(workbench, tmp_path):
    """A file that a stage writes, but that is not in the list of its own files, would stay when it is overwritten."""
    sample.main([f"--model={MODEL}", "--num-images=2", "--steps=1", "--pngs", "--npz", "--strip=2", "--gif"])
    sample.main([f"--model={MODEL}", "--num-images=2", "--task=noise", "--gif", "--data.source=embedded"])
    analyse.main(["--data.source=embedded", "--near=0", "--data.max_train_images=40"])
    measured = ["--data.source=embedded", "--num_images=20", "--steps=1", "--inception=off", "--lpips=off"]
    evaluate.main([*measured, f"--model={MODEL}", "--run.folder=stages/walk/evaluate"])
    compare.main(["stages/walk/evaluate", "--run.folder=stages/walk/compare"])
    marks = [path.parent for path in Path("stages").rglob(MARKER)]
    stages = set()
    for folder in marks:
        copy = tmp_path / folder
        shutil.copytree(folder, copy)
        stage = read_mark(copy).stage
        run_folder.prepare(RunConfig(folder=str(copy), overwrite=True), stage, "name")
        assert [path.name for path in copy.iterdir()] == [MARKER], folder
        assert read_mark(folder).finished
        stages.add(stage)
    assert {"autoencoder", "diffusion", "sample", "analyse", "evaluate", "compare"} <= stages


def test_samples_need_no_flag_and_failed_ones_none_either(workbench, monkeypatch, capsys):
    monkeypatch.chdir(workbench)
    request = [f"--model={MODEL}", "--num-images=2", "--steps=1"]
    before = set(os.listdir("stages/sample")) if Path("stages/sample").exists() else set()
    sample.main(request)
    first = capsys.readouterr().out.splitlines()[-1]
    sample.main([*request, "--seed=1"])
    second = capsys.readouterr().out.splitlines()[-1]
    assert first != second
    assert all((Path(folder) / "grid.png").is_file() for folder in (first, second))
    with monkeypatch.context() as patch:
        patch.setattr("latentdiff.inference.sample_to_files.save_grid", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sample.main(request)
        with pytest.raises(ZeroDivisionError):
            sample.main([*request, "--run.folder=failed"])
    sample.main(request)
    sample.main([*request, "--run.folder=failed"])
    assert len(set(os.listdir("stages/sample")) - before) == 3


def test_a_run_is_meant_by_its_folder_its_checkpoint_and_its_model(workbench, tmp_path):
    run = Path(MODEL).parent
    images = [load(path).sample(2, steps=1) for path in (run, run / "last.ckpt", run / "model.safetensors")]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


@pytest.mark.slow
def test_an_unfinished_run_serves_as_a_model_and_goes_on(workbench, tiny, capsys, monkeypatch):
    """Both stages, interrupted after the first epoch."""
    for stage, flags in (("autoencoder", tiny.codec), ("diffusion", [*tiny.unet, "--autoencoder=none"])):
        command = [*tiny.trainer, *flags, f"--run.folder=interrupted-{stage}"]
        main, folder = {"autoencoder": autoencoder, "diffusion": diffusion}[stage].main, Path(f"interrupted-{stage}")
        with monkeypatch.context() as patch:
            patch.setattr("latentdiff.training.base_module.StageModule.on_train_epoch_start", interrupt_second(stage))
            with pytest.raises(KeyboardInterrupt):
                main(command)
        assert not (folder / "model.safetensors").exists()
        capsys.readouterr()
        for path in (folder, folder / "last.ckpt"):
            made = load(path)
            assert made.provenance["images_seen"] == 32
        assert "is not finished" in capsys.readouterr().out
        with pytest.raises(FolderError, match="unfinished run"):
            main(command)
        main([*command, "--run.resume"])
        assert load(folder).provenance["images_seen"] == 64
        assert not (folder / "last.safetensors").exists()
        capsys.readouterr()
        before = (folder / "model.safetensors").read_bytes()
        main([*command, "--run.resume"])
        assert "had finished already, after 64 images" in capsys.readouterr().out
        assert (folder / "model.safetensors").read_bytes() == before  # whose record is that of the training
        with pytest.raises(FolderError, match=r"images seen 64 already, more than trainer\.max_images 32"):
            main([*command, "--run.resume", "--trainer.max_images=32"])
        (folder / "metrics.csv").unlink()  # as where another tracker alone keeps the numbers
        with pytest.raises(FolderError, match=r"images seen 64 already, more than trainer\.max_images 32"):
            main([*command, "--run.resume", "--trainer.max_images=32"])


def interrupt_second(stage):
    """The start of an epoch, of which the second is interrupted."""
    begin = StageModule.on_train_epoch_start

    def start(module):
        if module.images_seen:
            raise KeyboardInterrupt
        begin(module)

    return start
