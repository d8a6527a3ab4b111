from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.report.denoising import write_gif, write_strip
from latentdiff.report.grids import grid, save_grid, save_image


def test_grid_enlarges_pixel_by_pixel_and_keeps_the_order(tmp_path):
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 1, 4, 4) * 40
    picture = grid(images, columns=3, min_side=8)
    assert picture.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert [int(picture[6, 6 + 10 * k, 0]) for k in range(3)] == [0, 40, 80]
    assert int(picture[16, 6, 0]) == 120
    assert picture[0, 0].tolist() == [255, 255, 255]
    save_grid(images, tmp_path / "deep" / "grid.png", 3)
    assert Image.open(tmp_path / "deep" / "grid.png").mode == "RGB"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 4), (5, 3), (6, 3), (4, 9)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48)])
def test_grid_is_torchvisions(shape, count, columns):
    from torchvision.utils import make_grid

    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    factor = 2 if shape[0] == 1 else 1
    large = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    reference = make_grid(large.expand(-1, 3, -1, -1), nrow=columns, padding=2, pad_value=255)
    assert np.array_equal(grid(images, columns, min_side=56 if factor == 2 else 48), reference.permute(1, 2, 0))


def test_single_images_keep_their_pixels_and_channels(tmp_path):
    for channels, mode in ((1, "L"), (3, "RGB")):
        image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
        save_image(image, tmp_path / "image.png")
        back = Image.open(tmp_path / "image.png")
        assert (back.mode, back.size) == (mode, (7, 5))
        assert np.array_equal(np.asarray(back).reshape(5, 7, channels), image.permute(1, 2, 0).numpy())


def test_strip_ends_with_the_finished_images_and_gif_has_a_frame_a_step(tmp_path):
    frames = [torch.full((3, 1, 4, 4), 50 * step, dtype=torch.uint8) for step in range(5)]
    write_strip(frames, tmp_path / "strip.png", moments=3)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    assert [int(strip[30, 30 + 58 * k, 0]) for k in range(3)] == [0, 100, 200]
    assert strip.shape[0] == 3 * 58 + 2
    write_gif(frames, tmp_path / "denoising.gif", columns=2)
    assert Image.open(tmp_path / "denoising.gif").n_frames == 5
