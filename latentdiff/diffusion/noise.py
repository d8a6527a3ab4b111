"""Noise that belongs to an image: image i of a request depends on (seed, i) alone."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

# A core draws so many numbers in about a millisecond.
MOST_THREADS, NUMBERS_PER_THREAD = 8, 100_000


class PerImageNoise:
    """Draw standard normal noise from one random stream for each image.

    Streams are drawn on the CPU, so that every device sees the same noise. The noise of an image does not depend on the
    other images of its batch.

    Args:
        seed: Seed of the request.
        indices: Which images of the request the noise is for.
        shape: Shape of one image's noise.
        device: Device that the noise is moved to.
        draw_ahead: Whether to draw the next noise while the device works, by several threads. Default: on a GPU, which
            would wait for it. A CPU that computes has no time to spare. The noise is the same. The first noise is never
            followed by another before that is asked for, since most samplers take no more.

    >>> both = PerImageNoise(seed=0, indices=range(2), shape=(3,))()
    >>> second = PerImageNoise(seed=0, indices=range(1, 2), shape=(3,))()
    >>> bool((both[1] == second[0]).all())
    True
    """

    def __init__(
        self,
        seed: int,
        indices: range,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        draw_ahead: bool | None = None,
    ):
        # torch's CPU generator keeps 32 bits of a seed. An odd multiplier spreads requests over them, and adding the
        # index keeps the images of one request apart for certain, which a hash would not.
        self.generators = [torch.Generator().manual_seed((seed * 0x9E3779B1 + index) % (1 << 32)) for index in indices]
        self.shape, self.device = tuple(shape), torch.device(device)
        self.draw_ahead = self.device.type == "cuda" if draw_ahead is None else draw_ahead
        self._calls, self._next = 0, None

    def __call__(self) -> Tensor:
        """Return the next noise of each image, fp32 [len(indices), *shape]."""
        if not self.draw_ahead:
            return self._draw().to(self.device)
        noise = self._draw_with_threads() if self._next is None else self._next.result()
        self._calls += 1
        self._next = self._start() if self._calls > 1 else None
        return noise.to(self.device, non_blocking=True)

    def _start(self) -> Future[Tensor]:
        return _thread_that_draws_ahead().submit(self._draw_with_threads)

    def _draw(self) -> Tensor:
        noise = torch.empty(len(self.generators), *self.shape)
        self._fill(noise, range(len(noise)))
        return noise

    def _draw_with_threads(self) -> Tensor:
        count = len(self.generators)
        # A copy from pinned memory does not hold the host up. Threads may not write what inference mode has made.
        pinned = self.device.type == "cuda" and torch.cuda.is_available()
        with torch.inference_mode(False):
            noise = torch.empty(count, *self.shape, pin_memory=pinned)
        threads = min(MOST_THREADS, 1 + noise.numel() // NUMBERS_PER_THREAD)
        parts = [range(start, count, threads) for start in range(threads)]
        list(_threads().map(lambda rows: self._fill(noise, rows), parts))
        return noise

    def _fill(self, noise: Tensor, rows: range) -> None:
        for row in rows:
            noise[row].normal_(generator=self.generators[row])


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "noise")


@cache
def _thread_that_draws_ahead() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "noise-ahead")
