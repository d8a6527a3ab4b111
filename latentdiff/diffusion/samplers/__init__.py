"""Samplers: generator functions that walk down the noise axis and yield the state after each step.

All samplers are called alike, as ``sampler(denoiser, x, levels, noise, **options)``:

- ``denoiser(x, level) -> x0`` is any callable that predicts the clean images;
- ``x`` [b, ...] are noisy images at ``levels[0]``: standard normal noise times ``levels.sigma[0]``;
- ``levels`` are the noise levels to visit, noisiest first, the last one clean;
- ``noise()`` returns fresh standard normal noise of ``x``'s shape. The default is ``torch.randn_like(x)``;
- ``options`` are the sampler's own arguments, see :data:`SAMPLER_OPTIONS`.

A sampler yields one :class:`~latentdiff.diffusion.samplers.state.SamplerState` for each step. Coefficients are computed
in fp64.

Example: data from N(2, 0.5^2), whose best denoiser is known in closed form.

>>> import torch
>>> from latentdiff.config import DiffusionConfig
>>> from latentdiff.diffusion.schedule import build_schedule
>>> def denoiser(x, level):
...     gain = level.alpha * 0.5**2 / (level.alpha**2 * 0.5**2 + level.sigma**2)
...     return 2.0 + gain * (x - level.alpha * 2.0)
>>> levels = build_schedule(DiffusionConfig()).sampling_levels(20)
>>> x = levels.sigma[0] * torch.randn(10_000, 1, generator=torch.Generator().manual_seed(0))
>>> for state in SAMPLERS["dpmpp_2m"](denoiser, x, levels):
...     pass
>>> state.step, state.x.shape
(20, torch.Size([10000, 1]))
>>> print(f"mean {float(state.x.mean()):.1f}, standard deviation {float(state.x.std()):.1f}")
mean 2.0, standard deviation 0.5
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import get_args

from latentdiff.config import SamplerName
from latentdiff.diffusion.samplers import ancestral, ode, sde
from latentdiff.diffusion.samplers.state import SamplerState

Sampler = Callable[..., Iterator[SamplerState]]

# The functions that have the names of the settings. Each stands in one of the three modules.
_FUNCTIONS = vars(ancestral) | vars(ode) | vars(sde)
SAMPLERS: dict[str, Sampler] = {name: _FUNCTIONS[name] for name in get_args(SamplerName)}
# The options of each sampler with their defaults. Keyword-only arguments are no options: a schedule supplies them.
SAMPLER_OPTIONS: dict[str, dict[str, object]] = {
    name: {
        key: value.default
        for key, value in list(inspect.signature(sampler).parameters.items())[4:]
        if value.kind is not inspect.Parameter.KEYWORD_ONLY
    }
    for name, sampler in SAMPLERS.items()
}
