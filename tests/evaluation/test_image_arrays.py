"""Arrays of images as other people's software writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentdiff.data.decode import ReadingRules
from latentdiff.errors import DataError
from latentdiff.evaluation.image_arrays import read_arrays
from latentdiff.evaluation.image_files import holds_images, read_images

NHWC = np.random.default_rng(0).integers(0, 256, (6, 12, 10, 3), dtype=np.uint8)
GREY = NHWC[..., 0]
COLOURS = torch.from_numpy(NHWC).permute(0, 3, 1, 2)


def read(path, channels=3, value_range=None):
    assert holds_images(path)
    return read_images(path, (channels, 12, 10), ("a", "b"), ReadingRules(value_range))


@pytest.mark.parametrize("name", ["images", "arr_0", "samples", "x"])
@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_name_layout_and_order(tmp_path, name, layout, order, save):
    save(tmp_path / "a.npz", **{name: np.asarray(NHWC.transpose(layout), order=order), "steps": np.arange(3)})
    assert torch.equal(read(tmp_path / "a.npz")[0], COLOURS)
    np.save(tmp_path / "a.npy", np.asarray(NHWC.transpose(layout), order=order))
    assert torch.equal(read(tmp_path / "a.npy")[0], COLOURS)


def test_the_classes_of_guided_diffusion(tmp_path):
    np.savez(tmp_path / "a.npz", NHWC, np.arange(6) % 2)
    assert read(tmp_path / "a.npz")[1].tolist() == [0, 1] * 3


@pytest.mark.parametrize("shape", [(6, 12, 10), (6, 12, 10, 1), (6, 1, 12, 10)])
def test_grey_with_and_without_a_channel_and_as_three_equal_ones(tmp_path, shape):
    expected = torch.from_numpy(GREY)[:, None]
    np.save(tmp_path / "a.npy", GREY.reshape(shape))
    assert torch.equal(read(tmp_path / "a.npy", 1)[0], expected)
    assert torch.equal(read(tmp_path / "a.npy", 3)[0], expected.expand(-1, 3, -1, -1))
    np.save(tmp_path / "b.npy", np.repeat(GREY[..., None], 3, 3))
    assert torch.equal(read(tmp_path / "b.npy", 1)[0], expected)
    np.save(tmp_path / "c.npy", NHWC)
    with pytest.raises(DataError, match=r"uint8 \[6, 12, 10, 3\], with colours"):
        read(tmp_path / "c.npy", 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_zero_to_one_and_in_a_range_that_is_given(tmp_path, dtype):
    np.save(tmp_path / "a.npy", (NHWC / 255).astype(dtype))
    assert torch.equal(read(tmp_path / "a.npy")[0], COLOURS)
    np.save(tmp_path / "b.npy", (NHWC / 127.5 - 1).astype(dtype))
    with pytest.raises(
        DataError, match=r"float values from -1 to 1, not within 0 to 1(.|\n)*--value_range=LOW,HIGH, such as -1,1"
    ):
        read(tmp_path / "b.npy")
    assert (read(tmp_path / "b.npy", value_range=(-1, 1))[0].int() - COLOURS).abs().max() <= (dtype == np.float16)
    with pytest.raises(DataError, match="beyond the value_range 0,1"):
        read(tmp_path / "b.npy", value_range=(0, 1))


def test_wider_integers(tmp_path):
    for dtype in (np.int32, np.int64, np.uint32):
        np.save(tmp_path / "a.npy", NHWC.astype(dtype))
        assert torch.equal(read(tmp_path / "a.npy")[0], COLOURS)
    np.save(tmp_path / "b.npy", NHWC.astype(np.uint16) * 257)
    assert torch.equal(read(tmp_path / "b.npy")[0], COLOURS)
    np.save(tmp_path / "c.npy", NHWC.astype(np.uint16))
    with pytest.raises(DataError, match="less than an eighth of 0 to 65535"):
        read(tmp_path / "c.npy")
    assert torch.equal(read(tmp_path / "c.npy", value_range=(0, 255))[0], COLOURS)


@pytest.mark.parametrize("shape", [(6, 10, 12, 3), (6, 24, 20, 3), (6, 12, 10, 4), (6, 2, 12, 10), (12, 10, 3), (720,)])
def test_other_shapes_are_named_as_they_are_in_the_file(tmp_path, shape):
    np.savez(tmp_path / "a.npz", arr_0=np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.npz")
    assert f"holds arr_0 uint8 {list(shape)}; images of 3 x 12 x 10 are needed" in str(error.value)


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code of the file ran')",))

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", arr_0=np.array([Bomb()], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="never unpickled"):
            read(tmp_path / name)


def test_a_list_of_paths_with_and_without_header_and_classes(tmp_path):
    (tmp_path / "in").mkdir()
    for index, image in enumerate(NHWC):
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    names = [f"in/{index}.png" for index in range(6)]
    for header in ("", "path,class\n"):
        (tmp_path / "a.csv").write_text(header + "\n".join(f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)))
        images, labels = read(tmp_path / "a.csv")
        assert torch.equal(images, COLOURS)
        assert labels.tolist() == [0, 1] * 3
    (tmp_path / "b.csv").write_text("\n".join(str(tmp_path / name) for name in names))
    assert read(tmp_path / "b.csv")[1] is None
    for text, message in (
        ("path\nin/0.png\nin/9.png\n", r"1 of the 2 files that it lists are not there, the first is in/9\.png"),
        ("in/9.png\nin/0.png\n", r"1 of the 2 files that it lists are not there, the first is in/9\.png"),
        ("path,class\nin/0.png,T-shirt, top\n", "2 columns, but the row of in/0.png has more cells"),
        ("path\n", "lists no file that is there"),
        ("in/0.png\nin/0.png\n", r"lists a file twice: in/0\.png"),
        ("in/0.png,a\nin/1.png,\n", "a class to some"),
        ("in/0.png,zebra\n", "classes that the data set does not have: zebra"),
    ):
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            read(tmp_path / "c.csv")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_arrays_that_are_not_used_are_named(tmp_path, capsys, suffix):
    own = {"images": NHWC, "latents": np.zeros((4, 2)), "labels": np.zeros(len(NHWC), np.int64)}
    path = tmp_path / f"a.{suffix}"
    np.savez(path, **own) if suffix == "npz" else save_file({k: torch.from_numpy(v) for k, v in own.items()}, path)
    read(path)
    assert "a." + suffix + ": of its arrays latents is not used" in capsys.readouterr().out


def test_folders_that_differ_in_case_alone_are_two_classes(tmp_path):
    for index, name in enumerate(("Cat", "cat", "dog")):
        (tmp_path / "all" / name).mkdir(parents=True)
        Image.fromarray(NHWC[index]).save(tmp_path / "all" / name / "0.png")
    _, labels = read_images(tmp_path / "all", (3, 12, 10), ("Cat", "Dog", "cat"))
    assert labels.tolist() == [0, 2, 1]


def test_a_range_is_honoured_for_bytes_too_and_masks_need_one(tmp_path):
    mask = NHWC > 127
    np.savez(tmp_path / "a.npz", images=mask.astype(np.uint8))
    with pytest.raises(DataError, match=r"only the uint8 values 0 and 1, .*\n.*such as 0,1 or 0,255"):
        read(tmp_path / "a.npz")
    shape = tuple(COLOURS.shape[1:])
    white = read_arrays(tmp_path / "a.npz", shape, (0.0, 1.0))[0]
    assert torch.equal(white, torch.from_numpy(mask).permute(0, 3, 1, 2).to(torch.uint8) * 255)
    assert read_arrays(tmp_path / "a.npz", shape, (0.0, 255.0))[0].max() == 1
    np.savez(tmp_path / "b.npz", images=NHWC)
    with pytest.raises(DataError, match="beyond the value_range 0,1"):
        read_arrays(tmp_path / "b.npz", shape, (0.0, 1.0))
    np.savez(tmp_path / "black.npz", images=np.zeros_like(NHWC))
    assert read(tmp_path / "black.npz")[0].max() == 0


@pytest.mark.parametrize("value_range", [None, (-1.0, 1.0)])
def test_floats_that_lie_beyond_by_rounding_alone_are_taken(tmp_path, value_range):
    black, white = value_range or (0.0, 1.0)
    values = NHWC / 255 * (white - black) + black
    values.flat[:2] = black - 1e-6, white + 1e-6
    expected = NHWC.copy()
    expected.flat[:2] = 0, 255
    np.savez(tmp_path / "a.npz", images=values.astype(np.float32))
    images, _ = read_arrays(tmp_path / "a.npz", tuple(COLOURS.shape[1:]), value_range)
    assert torch.equal(images, torch.from_numpy(expected).permute(0, 3, 1, 2))
    values.flat[0] = white + (white - black) / 100
    np.savez(tmp_path / "a.npz", images=values)
    with pytest.raises(DataError):
        read_arrays(tmp_path / "a.npz", tuple(COLOURS.shape[1:]), value_range)
