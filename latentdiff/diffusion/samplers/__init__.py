"""Samplers: generator functions that walk down the noise axis and yield every state.

Each is called as ``sampler(denoiser, x, levels, noise, **options)``:

- ``denoiser(x, level) -> x0``, see :mod:`latentdiff.diffusion.denoiser`;
- ``x`` [b, ...] at ``levels[0]``: pure noise times ``levels.sigma[0]``;
- ``levels``: the points to visit, the last perfectly clean;
- ``noise()``: a fresh standard normal draw of ``x``'s shape, for the stochastic ones;
- ``options``: what the sampler's own signature adds, see :data:`SAMPLER_OPTIONS`;

and yields one :class:`~latentdiff.diffusion.samplers.state.SamplerState` after each step. Coefficients are computed in
fp64.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

from latentdiff.diffusion.samplers.ancestral import ddim, ddpm, euler, euler_ancestral
from latentdiff.diffusion.samplers.ode import dpmpp_2m, heun, unipc
from latentdiff.diffusion.samplers.sde import dpmpp_2m_sde, euler_maruyama, predictor_corrector
from latentdiff.diffusion.samplers.state import SamplerState

Sampler = Callable[..., Iterator[SamplerState]]

SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "unipc": unipc,
    "euler_maruyama": euler_maruyama,
    "predictor_corrector": predictor_corrector,
}
# What each takes beyond (denoiser, x, levels, noise), with its default; what a schedule gives is by keyword alone.
SAMPLER_OPTIONS: dict[str, dict[str, object]] = {
    name: {
        key: value.default
        for key, value in list(inspect.signature(sampler).parameters.items())[4:]
        if value.kind is not inspect.Parameter.KEYWORD_ONLY
    }
    for name, sampler in SAMPLERS.items()
}
