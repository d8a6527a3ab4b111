"""Sampling into PNGs that is interrupted and goes on ends as one that was left alone."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff import load
from latentdiff.config import RunConfig
from latentdiff.config.model_stages import SampleStage
from latentdiff.errors import ConfigError, FolderError
from latentdiff.folder_mark import read_mark
from latentdiff.inference import sample_to_files as module
from latentdiff.inference.sample_to_files import sample_to_files
from latentdiff.inference.written_images import missing_batches, read_whole

COUNT = 11


@pytest.fixture
def settings(tiny_model_file, tmp_path):
    """Eleven images in batches of four."""
    return SampleStage(
        model=str(tiny_model_file),
        num_images=COUNT,
        steps=2,
        batch_size=4,
        pngs=True,
        npz=True,
        run=RunConfig(folder=str(tmp_path / "run")),
    )


@pytest.fixture
def drawn(monkeypatch):
    """The images that the denoiser was asked for, in the order of the batches."""
    found = []
    batches = module.DiffusionModel.batches

    def counted(self, request, within=None):
        for indices, states in batches(self, request, within):
            found.append(indices)
            yield indices, states

    monkeypatch.setattr(module.DiffusionModel, "batches", counted)
    return found


def interrupt(settings, monkeypatch, after):
    """Sample until so many PNGs are written; the next one is half-written."""
    written = []
    save = module.save_image

    def stopping(image, path):
        save(image, path)
        if len(written) == after:
            path.write_bytes(path.read_bytes()[:60])
            raise KeyboardInterrupt
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_image", stopping)
        with pytest.raises(KeyboardInterrupt):
            sample_to_files(settings)
    assert not read_mark(written[0].parents[1]).finished
    return written


def resumed(settings, **changes):
    """The settings to go on."""
    return replace(settings, run=replace(settings.run, resume=True), **changes)


def content(folder):
    """The bytes of all PNGs, and the arrays of samples.npz."""
    arrays = np.load(folder / "samples.npz")
    pngs = {path.name: path.read_bytes() for path in (*folder.glob("images/*"), folder / "grid.png")}
    return pngs, {name: arrays[name].tolist() for name in arrays.files}


@pytest.mark.parametrize(("exact", "batch_size"), [(False, 4), (True, 3)])
def test_an_interrupted_sampling_ends_as_one_that_was_left_alone(
    settings, drawn, monkeypatch, tmp_path, exact, batch_size
):
    settings = replace(settings, exact=exact)
    whole = sample_to_files(replace(settings, run=RunConfig(folder=str(tmp_path / "whole"))))
    kept = interrupt(settings, monkeypatch, after=5)
    for path in kept:
        os.utime(path, (1, 1))
    drawn.clear()
    folder = sample_to_files(resumed(settings, batch_size=batch_size))
    assert content(folder) == content(whole)
    assert {path.name for path in folder.glob("images/*") if path.stat().st_mtime == 1} == {path.name for path in kept}
    expected = [range(4, 8), range(8, 11)] if batch_size == 4 else [range(3, 6), range(6, 9), range(9, 11)]
    assert drawn == expected
    assert read_mark(folder).finished


def test_a_finished_run_draws_nothing_again_and_may_grow(settings, drawn, tmp_path, capsys):
    folder = sample_to_files(settings)
    before = content(folder)
    drawn.clear()
    sample_to_files(resumed(settings))
    assert drawn == []
    assert content(folder) == before
    sample_to_files(resumed(settings, num_images=COUNT + 3))
    assert drawn == [range(8, 12), range(12, 14)]
    assert "11 of 14 images are there already" in capsys.readouterr().out
    longer = sample_to_files(replace(settings, num_images=COUNT + 3, run=RunConfig(folder=str(tmp_path / "longer"))))
    images = [np.load(path / "samples.npz")["images"].astype(int) for path in (folder, longer)]
    assert np.abs(images[0] - images[1]).max() <= 1  # image 8 to 10 were drawn in a smaller batch


def test_what_is_not_whole_is_drawn_again(settings, drawn):
    folder = sample_to_files(settings)
    before = content(folder)
    names = [folder / "images" / f"{index:06d}.png" for index in range(4)]
    Image.new("L", (3, 3)).save(names[0])
    Image.new("RGB", (10, 10)).save(names[1])
    names[2].write_bytes(b"no picture")
    damaged = bytearray(names[3].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    names[3].write_bytes(damaged)
    drawn.clear()
    sample_to_files(resumed(settings))
    assert drawn == [range(4)]
    assert content(folder) == before


def test_a_png_that_is_cut_anywhere_is_not_whole(tmp_path):
    path = tmp_path / "000000.png"
    image = torch.randint(0, 256, (3, 6, 5), dtype=torch.uint8)
    module.save_image(image, path)
    assert torch.equal(read_whole(path, (3, 6, 5)), image)
    assert read_whole(path, (3, 5, 6)) is None
    assert read_whole(tmp_path / "absent.png", (3, 6, 5)) is None
    data = path.read_bytes()
    for length in range(len(data) - 4):  # the last four bytes are the checksum of an empty chunk
        path.write_bytes(data[:length])
        assert read_whole(path, (3, 6, 5)) is None, length


def test_the_first_batch_is_drawn_again_where_its_denoising_is_shown(settings, monkeypatch, drawn):
    interrupt(settings, monkeypatch, after=5)
    drawn.clear()
    folder = sample_to_files(resumed(settings, strip=2))
    assert drawn == [range(4), range(4, 8), range(8, 11)]
    assert (folder / "strip.png").is_file()


def test_images_are_not_lost_by_the_same_command(settings, monkeypatch):
    kept = interrupt(settings, monkeypatch, after=5)
    with pytest.raises(FolderError, match=r"unfinished set of samples.*--run\.resume"):
        sample_to_files(settings)
    assert all(path.is_file() for path in kept)
    folder = sample_to_files(replace(settings, run=replace(settings.run, overwrite=True)))
    assert len(list(folder.glob("images/*.png"))) == COUNT


def test_what_would_give_other_images_is_refused(settings, tiny_model_file, tmp_path):
    folder = sample_to_files(settings)
    for name, value in {"steps": 3, "seed": 1, "sampler": "ddim", "labels": "Coat", "guidance_scale": 2.0}.items():
        with pytest.raises(FolderError, match=f"other settings: {name}"):
            sample_to_files(resumed(settings, **{name: value}))
    with pytest.raises(FolderError, match="started for 11 images"):
        sample_to_files(resumed(settings, num_images=10))
    other = tmp_path / "other.safetensors"
    model = load(tiny_model_file)
    next(model.network.parameters()).data.add_(0.01)
    model.save(other)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(FolderError, match="images of another model"):
        sample_to_files(resumed(settings, model=str(other)))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    (folder / "sampling.json").unlink()
    with pytest.raises(FolderError, match="an unknown model"):
        sample_to_files(resumed(settings))


def test_going_on_takes_pngs_and_a_run(settings):
    with pytest.raises(ConfigError, match=r"--run\.resume needs --pngs"):
        sample_to_files(resumed(settings, pngs=False))
    with pytest.raises(FolderError, match="no run to resume"):
        sample_to_files(resumed(settings))


def test_missing_batches_are_those_of_an_uninterrupted_run():
    assert list(missing_batches(range(10, 35), 4, [])) == []
    assert list(missing_batches(range(10, 35), 4, [12, 30, 34])) == [range(10, 14), range(30, 35)]
    assert list(missing_batches(range(10, 35), 4, range(10, 35))) == [range(10, 35)]
    assert list(missing_batches(range(0), 4, [])) == []


def test_a_grid_holds_the_first_images_alone(settings, monkeypatch):
    monkeypatch.setattr(module, "GRID_IMAGES", 4)
    folder = sample_to_files(settings)
    assert Image.open(folder / "grid.png").size == (2 * 62 + 2, 2 * 62 + 2)
    assert len(list(folder.glob("images/*.png"))) == COUNT


def test_torch_fidelity_reads_the_folder(settings):
    """As pytorch-fid and clean-fid do: every picture in the folder, as RGB."""
    from torch_fidelity.datasets import ImagesPathDataset
    from torch_fidelity.utils import glob_samples_paths

    folder = sample_to_files(settings)
    paths = glob_samples_paths(str(folder / "images"), samples_find_deep=True, samples_find_ext="png,jpg,jpeg")
    read = ImagesPathDataset(sorted(paths))
    images = np.load(folder / "samples.npz")["images"]
    assert len(read) == COUNT
    for index, image in enumerate(images):
        assert (np.asarray(read[index]) == image.transpose(2, 0, 1)).all()  # grey is the same in all three


@pytest.mark.slow
def test_torch_fidelity_measures_the_folder(settings, inception_file):
    import torch_fidelity

    folder = sample_to_files(settings)
    images = torch.from_numpy(np.load(folder / "samples.npz")["images"]).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)

    class Ours(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return images[index].contiguous()

    others = torch.utils.data.Subset(Ours(), range(5))
    asked = {"cuda": False, "fid": True, "verbose": False, "batch_size": 4, "cache": False, "save_cpu_ram": True}
    asked["feature_extractor_weights_path"] = str(inception_file)
    found = [
        torch_fidelity.calculate_metrics(input1=first, input2=others, **asked)
        for first in (str(folder / "images"), Ours())
    ]
    name = "frechet_inception_distance"
    assert found[0][name] == pytest.approx(found[1][name], rel=1e-9)
    assert found[0][name] > 0
