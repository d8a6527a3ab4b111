from __future__ import annotations

import json
import re
from itertools import count

import pytest
import torch
from safetensors.torch import save_file

from latentdiff import checkpoint, latents
from latentdiff.codec import AutoencoderCodec, IdentityCodec, build_codec, encode_batch_size, to_float, to_uint8
from latentdiff.config import AutoencoderConfig, DataConfig
from latentdiff.data import ImageDataset
from latentdiff.errors import ConfigError
from latentdiff.latents import cache_key, cached_moments, check_autoencoder
from latentdiff.models.autoencoder import Autoencoder

CONFIG = AutoencoderConfig(channels=(8, 16), encoder_blocks=1, decoder_blocks=1, attention=False)


@pytest.fixture
def codec():
    model = Autoencoder((1, 9, 12), CONFIG)
    return AutoencoderCodec(model, CONFIG, torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.3]))


@pytest.fixture
def data():
    images = torch.randint(0, 256, (20, 1, 9, 12), dtype=torch.uint8)
    return ImageDataset(images, torch.arange(20) % 3, "squares", "train", "full", ("a", "b", "c"))


def test_uint8_survives_the_way_to_float_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.0038])).tolist() == [0, 255, 128]


def test_identity_codec_is_the_identity():
    codec = IdentityCodec((1, 4, 4))
    images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    latents = codec.sample(codec.encode(images))
    assert codec.latent_shape == codec.image_shape
    assert codec.compression == 1.0
    assert codec.value_range == tuple(codec.sample(torch.tensor([0, 255], dtype=torch.uint8)).tolist()) == (-1, 1)
    assert torch.equal(codec.decode(latents), images)


def test_autoencoder_codec_keeps_the_contract(codec, data):
    moments = codec.encode(data.images)
    latents = codec.sample(moments, torch.Generator().manual_seed(0))
    assert codec.latent_shape == (2, 5, 6)
    assert moments.shape == (20, 4, 5, 6)
    assert latents.shape == (20, 2, 5, 6)
    assert torch.equal(latents, codec.sample(moments, torch.Generator().manual_seed(0)))
    images = codec.decode(latents)
    assert (images.dtype, images.shape) == (torch.uint8, data.images.shape)
    z = torch.randn(4, 2, 5, 6)
    torch.testing.assert_close(codec.unstandardise(codec.standardise(z)), z)
    with pytest.raises(ValueError, match="takes uint8 images"):
        codec.encode(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="takes uint8 images"):
        codec.encode(torch.zeros(1, 1, 9, 12))


def test_many_latents_are_decoded_in_parts(codec, monkeypatch):
    latents = torch.randn(50, *codec.latent_shape)
    whole, sizes, decode = codec.decode(latents), [], codec.model.decode
    monkeypatch.setattr("latentdiff.codec.ENCODE_PIXELS", 20 * 9 * 12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(codec.model, "decode", lambda z: sizes.append(len(z)) or decode(z))
    assert torch.equal(codec.decode(latents), whole)
    assert sizes == [20, 20, 16]  # the last part goes with some of those before it


def test_codec_is_rebuilt_from_its_header_and_state(codec, data):
    twin = build_codec(codec.header(), codec.state(), "the file")
    assert twin.fingerprint == codec.fingerprint
    assert torch.equal(twin.encode(data.images), codec.encode(data.images))


def test_cache_is_written_once_and_used_again(codec, data, tmp_path, capsys):
    first, labels, seconds = cached_moments(codec, data, tmp_path)
    assert torch.equal(first, codec.encode(data.images))
    assert torch.equal(labels, data.labels)
    assert "cached 20" in capsys.readouterr().out
    codec.encode = None  # a second call must not encode
    again, _, seconds_again = cached_moments(codec, data, tmp_path)
    assert torch.equal(first, again)
    assert seconds_again == seconds > 0  # what the encoding took, not the reading
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_rate_of_slow_encoding_is_said(codec, data, tmp_path, capsys, monkeypatch, on_disk):
    # Images of 256 pixels through the autoencoder of Stable Diffusion take seconds each.
    monkeypatch.setattr(latents.time, "perf_counter", count(0, 4 * len(data)).__next__)
    monkeypatch.setattr(latents, "most_in_memory", lambda: 0 if on_disk else 10**12)
    cached_moments(codec, data, tmp_path)
    assert re.search(r"encoding: 0\.(12|25) images/s", capsys.readouterr().out)  # 0.12: the clock was read twice


def test_auto_takes_no_autoencoder_of_another_folder(codec, monkeypatch, tmp_path):
    path = tmp_path / "stages" / "autoencoder" / "folder-autoencoder" / "model.safetensors"
    path.parent.mkdir(parents=True)
    codec.provenance = {"config": {"data": {"name": "folder", "path": "cats"}}}
    codec.write(path)
    check_autoencoder("auto", DataConfig(name="folder", path="./cats/"))
    with pytest.raises(ConfigError, match=r"was trained on cats, and these images are dogs(.|\n)*--autoencoder"):
        check_autoencoder("auto", DataConfig(name="folder", path="dogs"))
    check_autoencoder(str(path.parent), DataConfig(name="folder", path="dogs"))


def test_cache_without_a_digest_is_made_again(codec, data, tmp_path, capsys):
    first, _, _ = cached_moments(codec, data, tmp_path)
    (path,) = tmp_path.iterdir()
    save_file({"moments": first + 1}, path, {checkpoint.KEY: json.dumps({"key": cache_key(codec, data, False)})})
    again, _, _ = cached_moments(codec, data, tmp_path)
    assert torch.equal(again, first)
    assert "encoding again" in capsys.readouterr().out


def test_cache_key_follows_weights_images_labels_and_transform(codec, data):
    keys = {cache_key(codec, data, False), cache_key(codec, data, True)}
    other_labels = ImageDataset(data.images, data.labels + 1, data.name, data.split, data.source, data.class_names)
    keys.add(cache_key(codec, other_labels, False))
    with torch.no_grad():
        next(codec.model.parameters()).add_(1e-3)
    keys.add(cache_key(codec, data, False))
    codec.std = codec.std * 1.01
    keys.add(cache_key(codec, data, False))
    assert len(keys) == 5


def test_flips_are_a_second_entry(codec, data, tmp_path):
    moments, labels, _ = cached_moments(codec, data, tmp_path, hflip=True)
    assert torch.equal(moments[20:], codec.encode(data.images.flip(-1)))
    assert torch.equal(labels, data.labels.repeat(2))
    images, _, _ = cached_moments(IdentityCodec((1, 9, 12)), data, tmp_path / "none", hflip=True)
    assert torch.equal(images[20:], data.images.flip(-1))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "swap"])
def test_damaged_or_foreign_cache_is_rebuilt(codec, data, tmp_path, capsys, damage):
    first, _, _ = cached_moments(codec, data, tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-9]
    elif damage == "flip":
        content[-9] ^= 1
    else:
        other = ImageDataset(data.images.flip(0), data.labels, data.name, data.split, data.source, data.class_names)
        cached_moments(codec, other, tmp_path / "other")
        content = next((tmp_path / "other").iterdir()).read_bytes()
    path.write_bytes(bytes(content))
    again, _, _ = cached_moments(codec, data, tmp_path)
    assert torch.equal(first, again)
    assert "encoding again" in capsys.readouterr().out


def test_large_images_are_encoded_fewer_at_a_time():
    sizes = [encode_batch_size((3, side, side)) for side in (28, 64, 128, 256, 1024, 4096)]
    assert sizes == [256, 256, 64, 16, 1, 1]


@pytest.mark.parametrize("count", [1, 16, 33, 100])
def test_parts_that_fit_a_cache_change_no_number(count, codec, monkeypatch):
    given = []

    class Engine:
        def encode(self, images):
            given.append(len(images))
            return codec.model.encode(images)

        def decode(self, latents):
            given.append(len(latents))
            return codec.model.decode(latents)

    images = torch.randint(0, 256, (count, *codec.image_shape), dtype=torch.uint8)
    latents = torch.randn(count, *codec.latent_shape)
    monkeypatch.setattr("latentdiff.codec.IMAGES_A_THREAD", 10**6)
    moments, decoded = codec.encode(images), codec.decode(latents)
    monkeypatch.setattr("latentdiff.codec.IMAGES_A_THREAD", 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(codec, "engine", Engine())
    assert torch.equal(codec.encode(images), moments)
    others = codec.decode(latents)
    assert (others.int() - decoded.int()).abs().max() <= 1  # one image is filled up without an engine
    assert count < 16 or torch.equal(others, decoded)
    parts = {1: [1], 16: [16], 33: [32, 16], 100: [32, 32, 32, 16]}[count]
    assert given == parts + parts
