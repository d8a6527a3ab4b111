"""Images that come from no model of ours."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentdiff import resources as shelf
from latentdiff.codec import AutoencoderCodec, IdentityCodec, load_codec
from latentdiff.config import AutoencoderConfig, DataConfig, DiffusionConfig, NetworkConfig
from latentdiff.data import load_split
from latentdiff.diffusion.samplers import SAMPLERS
from latentdiff.errors import CheckpointError, ConfigError, DataError
from latentdiff.evaluation.image_files import holds_images, read_images
from latentdiff.evaluation.image_sources import (
    autoencoder_images,
    diffusion_images,
    gaussian_images,
    given_images,
    noise_images,
)
from latentdiff.evaluation.reference_subset import REFERENCE_SEED, choose_subset
from latentdiff.files import file_sha256
from latentdiff.inference.model import DiffusionModel, load_diffusion
from latentdiff.inference.request import SamplingRequest
from latentdiff.models.autoencoder import Autoencoder
from latentdiff.models.network import build_network

SHAPE = (3, 12, 12)
RELEASED = shelf.find_checkpoint("fashion-mnist/autoencoder.safetensors")


def some(count=6, shape=SHAPE, seed=0):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def images_in(path, test, num_images, batch_size):
    """What evaluate measures of somebody's images in ``path``."""
    images, labels = read_images(path, test.image_shape, test.class_names)
    return given_images(images, labels, str(path), test, num_images, batch_size)


def write_folder(path, images):
    path.mkdir()
    for index, image in enumerate(images):
        array = image.permute(1, 2, 0).numpy()
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(path / f"{index:03d}.png")
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_images_from_every_kind_of_file(tmp_path, channels):
    images = some(shape=(channels, 12, 12))
    folder = write_folder(tmp_path / "folder", images)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"in/side/{path.name}")
    np.savez(tmp_path / "last.npz", images=images.permute(0, 2, 3, 1).numpy(), labels=np.arange(6))
    save_file({"images": images}, tmp_path / "tensor.safetensors")
    for name in ("folder", "all.zip", "last.npz", "tensor.safetensors"):
        assert holds_images(tmp_path / name)
        found, labels = read_images(tmp_path / name, (channels, 12, 12))
        assert torch.equal(found, images)
        assert (labels is not None) == (name == "last.npz")


def test_what_cannot_be_measured_is_named(tmp_path):
    cases: dict[str, tuple[object, str]] = {
        "other.npz": (
            {"pictures": some().numpy(), "more": some().numpy()},
            r"holds pictures uint8 \[6, 3, 12, 12\], more .*unclear which",
        ),
        "float.npz": (
            {"images": some().permute(0, 2, 3, 1).float().numpy()},
            r"float32 \[6, 12, 12, 3\]: float values from 0 to 255, not within 0 to 1(.|\n)*--value_range=LOW,HIGH",
        ),
        "labels.npz": ({"images": some().permute(0, 2, 3, 1).numpy(), "labels": np.arange(5)}, "5 labels for 6 images"),
        "pickle.npz": ({"images": np.array([{}], dtype=object)}, "cannot be read"),
        "words.npz": ({"images": np.array(["a", "b"])}, "images of 3 x 12 x 12 are needed"),
        "flat.npz": ({"images": np.zeros(6, np.uint8)}, r"holds images uint8 \[6\]; images of 3 x 12 x 12 are"),
        "nan.npz": ({"images": np.full((2, 12, 12, 3), np.nan, np.float32)}, "are no numbers"),
        "far.npz": (
            {"images": np.full((2, 12, 12, 3), 999, np.int32)},
            r"int32 \[2, 12, 12, 3\]: int32 values from 999",
        ),
        "column.npz": (
            {"images": some().permute(0, 2, 3, 1).numpy(), "labels": np.zeros((6, 1), int)},
            r"holds labels int64 \[6, 1\]; whole numbers",
        ),
    }
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(DataError, match=message):
            read_images(tmp_path / name, SHAPE)
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        read_images(tmp_path / "empty.npz", SHAPE)
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    with pytest.raises(DataError, match="cannot be read"):
        read_images(tmp_path / "broken.npz", SHAPE)
    folder = write_folder(tmp_path / "folder", some(3))
    with pytest.raises(DataError, match=r"000\.png is 12x12; 16x16 are needed"):
        read_images(folder, (3, 16, 16))
    (folder / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"001\.png cannot be used: the file is empty"):
        read_images(folder, SHAPE)
    (folder / "001.png").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"001\.png cannot be used: it is not an image"):
        read_images(folder, SHAPE)


def test_a_folder_of_mixed_sizes_names_the_first_that_differs(tmp_path):
    folder = write_folder(tmp_path / "folder", some(2))
    write_folder(tmp_path / "other", some(1, shape=(3, 16, 16)))
    (tmp_path / "other" / "000.png").rename(folder / "zzz.png")
    with pytest.raises(DataError, match=r"zzz\.png is 16x16; 12x12 are needed"):
        read_images(folder, SHAPE)


def test_a_folder_of_one_image_is_refused(tmp_path, make_images):
    folder = write_folder(tmp_path / "folder", some(1, shape=(1, 12, 12)))
    with pytest.raises(ValueError, match="holds 1 image"):
        images_in(folder, make_images(9, 0), None, 4)


def test_a_zip_entry_that_would_be_left_out_is_an_error(tmp_path):
    folder = write_folder(tmp_path / "folder", some(2))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "000.png", "000.png")
        archive.write(folder / "001.png", "../001.png")
    with pytest.raises(DataError, match=r"\.\./001\.png cannot be used: its path points out"):
        read_images(tmp_path / "all.zip", SHAPE)


def test_a_model_is_not_taken_for_images(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert not holds_images(tmp_path / "model.safetensors")
    assert not holds_images(tmp_path / "absent.safetensors")


def test_gaussian_noise_has_the_training_images_mean_and_covariance(make_images):
    train = make_images(400, 0, "train")
    (subject,) = [gaussian_images(train, 20_000, 0, 5000)]
    choose_subset = torch.cat(list(subject.batches)).flatten(1).double()
    pixels = train.images.flatten(1).double()
    assert choose_subset.shape == (20_000, 144)
    assert (choose_subset.mean(0) - pixels.mean(0)).abs().max() < 3.0
    error = torch.cov(choose_subset.T) - torch.cov(pixels.T)
    assert error.norm() / torch.cov(pixels.T).norm() < 0.1


def test_what_each_process_makes_alike_is_no_share(make_images):
    data = make_images(12, 0)
    makers = (
        noise_images(data, 2, 0, 2),
        gaussian_images(data, 2, 0, 2),
        given_images(data.images, None, "", data, 2, 2)[0],
    )
    assert [source.shared for source in makers] == [False] * 3


def test_labels_beyond_the_classes_are_refused(tmp_path, make_images):
    test = make_images(9, 0)
    np.savez(tmp_path / "a.npz", images=test.images[:, 0].numpy(), labels=np.full(9, 3))
    with pytest.raises(ValueError, match="labels beyond the 3 classes"):
        images_in(tmp_path / "a.npz", test, None, 4)
    np.savez(tmp_path / "b.npz", images=test.images[:, 0].numpy())
    subject, count = images_in(tmp_path / "b.npz", test, 5, 4)
    assert (count, subject.labels) == (5, None)
    chosen = choose_subset(None, len(test), 5, REFERENCE_SEED)
    assert torch.equal(torch.cat(list(subject.batches)), test.images[chosen])


def test_reconstructions_of_a_set_without_classes_have_no_labels(tmp_path, make_images):
    config = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)
    codec = AutoencoderCodec(Autoencoder((1, 12, 12), config), config, torch.zeros(2), torch.ones(2))
    test = make_images(6, 0)
    labelled = autoencoder_images(codec, "reconstruction", test, "test", 4, 0, 2)
    assert torch.equal(labelled.labels, test.labels[choose_subset(test.labels, 6, 4, REFERENCE_SEED)])
    without = replace(test, labels=torch.zeros(6, dtype=torch.long), class_names=())
    assert autoencoder_images(codec, "reconstruction", without, "test", 4, 0, 2).labels is None


def test_a_class_without_images_a_single_image_and_an_empty_folder_are_refused(tmp_path, make_images):
    test = make_images(9, 0)
    np.savez(tmp_path / "a.npz", images=test.images[:, 0].numpy(), labels=np.arange(9) % 2)
    with pytest.raises(ValueError, match=r"no image of 1 of the 3 classes \(three\)"):
        images_in(tmp_path / "a.npz", test, None, 4)
    np.savez(tmp_path / "b.npz", images=test.images[:1, 0].numpy())
    with pytest.raises(ValueError, match="at least 2"):
        images_in(tmp_path / "b.npz", test, None, 4)
    np.savez(tmp_path / "c.npz", images=test.images[:0, 0].numpy(), labels=np.arange(0))
    with pytest.raises(ValueError, match="holds 0 image"):
        images_in(tmp_path / "c.npz", test, None, 4)
    np.savez(tmp_path / "d.npz", images=test.images[:, 0].numpy(), labels=np.arange(9) % 3)
    with pytest.raises(ValueError, match="2 images cannot be of all 3 classes"):
        images_in(tmp_path / "d.npz", test, 2, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        images_in(tmp_path / "empty", test, None, 4)


@pytest.mark.skipif(RELEASED is None, reason="the released model is not installed")
def test_reconstructions_are_of_the_images_that_the_reference_holds():
    codec = load_codec(RELEASED)
    test = load_split(DataConfig(source="embedded"), "test")
    subject = autoencoder_images(codec, "reconstruction", test, "test", 12, 5, 8)
    chosen = choose_subset(test.labels, len(test), 12, REFERENCE_SEED)
    assert torch.equal(subject.originals, test.images[chosen])
    assert torch.equal(subject.labels, test.labels[chosen])
    assert torch.equal(torch.cat(list(subject.batches)), codec.reconstruct(subject.originals))
    train = load_split(DataConfig(source="embedded"), "train")
    learned = autoencoder_images(codec, "reconstruction", train, "train", 12, 5, 8)
    assert torch.equal(learned.originals, train.images[choose_subset(train.labels, len(train), 12, REFERENCE_SEED)])
    assert (subject.originals_split, learned.originals_split) == ("test", "train")
    with pytest.raises(ValueError, match="20,000 reconstructions were asked for; the train split has 10,000"):
        autoencoder_images(codec, "reconstruction", train, "train", 20_000, 5, 8)


def test_files_in_folders_of_classes_are_of_those_classes(tmp_path, make_images):
    test = make_images(9, 0)
    for name, count in (("One", 1), ("two", 2), ("three", 1)):
        write_folder(tmp_path / name, some(count, shape=(1, 12, 12)))
    subject, count = images_in(tmp_path, test, None, 4)
    assert count == 4
    assert sorted(subject.labels.tolist()) == [0, 1, 1, 2]
    few, _ = images_in(tmp_path, test, 3, 4)
    assert sorted(few.labels.tolist()) == [0, 1, 2]
    (tmp_path / "three").rename(tmp_path / "other")
    with pytest.raises(DataError, match=r"in folders named after classes and in others \(other\)"):
        read_images(tmp_path, (1, 12, 12), test.class_names)
    for name in ("One", "two"):
        (tmp_path / name).rename(tmp_path / f"not {name}")
    assert read_images(tmp_path, (1, 12, 12), test.class_names)[1] is None


def test_colour_files_are_never_turned_grey_and_grey_ones_are_repeated(tmp_path):
    grey = write_folder(tmp_path / "grey", some(3, shape=(1, 12, 12)))
    found, _ = read_images(grey, (3, 12, 12))
    assert torch.equal(found, read_images(grey, (1, 12, 12))[0].expand(-1, 3, -1, -1))
    written = write_folder(tmp_path / "grey in RGB", found)
    assert torch.equal(read_images(written, (1, 12, 12))[0], found[:, :1])
    coloured = write_folder(tmp_path / "colour", some(3, shape=(3, 12, 12)))
    with pytest.raises(DataError, match="has colours; the data set is grey"):
        read_images(coloured, (1, 12, 12))


def test_fewer_of_unlabelled_images_are_drawn_and_all_are_named_by_a_hash(tmp_path, make_images):
    stripes = torch.arange(200).to(torch.uint8)[:, None, None, None].expand(-1, 1, 12, 12)
    np.savez(tmp_path / "theirs.npz", images=stripes.numpy().transpose(0, 2, 3, 1))
    subject, _ = images_in(tmp_path / "theirs.npz", make_images(9, 0), 50, 20)
    levels = torch.cat(list(subject.batches))[:, 0, 0, 0]
    assert len(levels) == 50 < levels.max()  # not the first fifty
    expected = hashlib.sha256(stripes.contiguous().numpy().tobytes()).hexdigest()
    assert subject.model["pixels_sha256"] == expected


def test_files_need_not_be_square(tmp_path):
    images = some(3, shape=(3, 9, 7))
    found, _ = read_images(write_folder(tmp_path / "folder", images), (3, 9, 7))
    assert torch.equal(found, images)


def test_a_guide_is_recorded_and_its_arithmetic_counted(tmp_path):
    released = shelf.find_checkpoint("fashion-mnist/latent.safetensors")
    if released is None:
        pytest.skip("the released model is not installed")
    test, model = load_split(DataConfig(source="embedded"), "test"), load_diffusion(released)
    alone = diffusion_images(model, SamplingRequest(num_images=2, steps=2), test)
    assert alone.shared  # each of several processes draws some of them
    alone = alone.sampling
    guide = tmp_path / "guide.safetensors"
    model.save(guide, {"seconds": 720.0})
    request = SamplingRequest(num_images=2, steps=2, guide=str(guide), guidance_scale=2.0)
    source = diffusion_images(model, request, test)
    assert source.notes == ["the training of the guide (12 minutes) is not counted in the model's."]
    guided = source.sampling
    once = diffusion_images(model, SamplingRequest(num_images=2, steps=1), test).sampling
    assert "guide_sha256" not in alone
    assert guided["guide_sha256"] == file_sha256(guide) != file_sha256(released)
    network = alone["flops"] - once["flops"]
    assert guided["flops"] == pytest.approx(alone["flops"] + 2 * network)


def test_a_model_of_nan_and_samples_that_diverge_are_no_images(tmp_path, monkeypatch):
    """Cast to pixels they would be black images with a distance like any other."""
    released = shelf.find_checkpoint("fashion-mnist/pixel.safetensors")
    if released is None:
        pytest.skip("the released model is not installed")
    test, model = load_split(DataConfig(source="embedded"), "test"), load_diffusion(released)
    request = SamplingRequest(num_images=2, steps=1)
    whole = SAMPLERS["dpmpp_2m"]

    def diverging(*arguments, **options):
        for state in whole(*arguments, **options):
            yield replace(state, x=state.x / 0.0)

    monkeypatch.setitem(SAMPLERS, "dpmpp_2m", diverging)
    with pytest.raises(FloatingPointError, match="dpmpp_2m diverges in 1 steps"):
        list(diffusion_images(model, request, test).batches)
    next(iter(model.network.parameters())).data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match=r"is not written: the weights in .* are NaN or infinite"):
        model.save(tmp_path / "nan.safetensors", {})
    with pytest.raises(CheckpointError, match="holds NaN or infinity in 1 of its tensors"):
        diffusion_images(model, request, test)
    config = AutoencoderConfig(channels=(8,), encoder_blocks=1, decoder_blocks=1, attention=False)
    codec = AutoencoderCodec(Autoencoder((1, 28, 28), config), config, torch.zeros(2), torch.ones(2))
    next(iter(codec.model.parameters())).data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="holds NaN or infinity in 1 of its tensors"):
        autoencoder_images(codec, "reconstruction", test, "test", 2, 0, 2)


def model_of(class_names, shape=(1, 12, 12)):
    torch.manual_seed(0)
    network = NetworkConfig(channels=(8,), num_res_blocks=1, attention_levels=(), head_channels=8)
    net = build_network(shape[0], len(class_names), network)
    return DiffusionModel(net, network, DiffusionConfig(), IdentityCodec(shape), class_names)


def test_a_models_classes_are_those_of_the_data_by_name(make_images):
    test = make_images(9, 0)
    assert test.class_names == ("one", "two", "three")
    request = SamplingRequest(num_images=6, steps=1)
    same = diffusion_images(model_of(("one", "two", "three")), request, test)
    assert (same.labels.tolist(), same.notes) == ([0, 1, 2, 0, 1, 2], [])
    turned = diffusion_images(model_of(("three", "one", "two")), request, test)
    assert turned.labels.tolist() == [2, 0, 1, 2, 0, 1]
    fewer = diffusion_images(model_of(("three", "one")), request, test)
    assert fewer.labels.tolist() == [2, 0, 2, 0, 2, 0]
    assert fewer.notes == ["the model does not know 1 of the 3 classes: two."]
    with pytest.raises(ConfigError, match="has the class zebra, which stripes lacks: it has 0: one, 1: two, 2: three"):
        diffusion_images(model_of(("one", "two", "zebra")), request, test)
    # Capitals alone make two classes.
    with pytest.raises(ConfigError, match="has the class One, which"):
        diffusion_images(model_of(("one", "One")), request, test)
    without = replace(test, labels=torch.zeros(9, dtype=torch.long), class_names=())
    assert diffusion_images(model_of(("one", "two", "zebra")), request, without).labels is None
    assert diffusion_images(model_of(()), request, test).labels is None


def test_classes_that_differ_in_capitals_alone_stay_two_in_every_figure(make_images):
    test = replace(make_images(9, 0), class_names=("cat", "Cat", "CAT"))
    source = diffusion_images(model_of(("CAT", "cat", "Cat")), SamplingRequest(num_images=3, steps=1), test)
    assert source.labels.tolist() == [2, 0, 1]


def test_labels_of_an_npz_are_found_by_the_names_that_it_has(tmp_path, make_images):
    test = make_images(9, 0)
    arrays = {"images": test.images[:, 0].numpy(), "labels": np.arange(9) % 3}

    def read(**more):
        np.savez(tmp_path / "a.npz", **arrays, **more)
        return read_images(tmp_path / "a.npz", test.image_shape, test.class_names)[1].tolist()

    assert read(class_names=np.array(["three", "one", "two"])) == [2, 0, 1] * 3
    assert read() == [0, 1, 2] * 3
    for names, message in (
        (["one", "two", "zebra"], "classes that the data set does not have: zebra"),
        (["one", "two"], "names 2 classes, and has labels from 0 to 2"),
        ([1, 2, 3], "text .classes. is needed"),
    ):
        with pytest.raises(DataError, match=message):
            read(class_names=np.array(names))
