// The samplers of latentdiff/diffusion/samplers, in the same arithmetic.
//
// Each is an async generator: sampler(denoise, x, levels, noise). `denoise(x, level)` predicts the clean images, `x` is
// noise at `levels[0]`, the last level is clean, `noise()` draws fresh noise. It yields {step, x, guess} for each step:
// the noisy images after it, and the clean ones that were predicted in it.

import { halfLogSnr, noiseOverSignal } from "./levels.js";

/** @returns {Float32Array} The sum of factor times array over the pairs. */
export function combine(...pairs) {
  const sum = new Float32Array(pairs[0][1].length);
  for (let i = 0; i < sum.length; i++) {
    let value = 0;
    for (const [factor, array] of pairs) value += factor * array[i];
    sum[i] = value;
  }
  return sum;
}

/** The noise that is in x = alpha guess + sigma noise. */
function noiseIn(x, guess, level) {
  return combine([1 / level.sigma, x], [-level.alpha / level.sigma, guess]);
}

/** Variance of x_s where x_t and the clean image are known, DDPM's beta-tilde. */
function posteriorVariance(t, s) {
  const beta = Math.max(t.sigma ** 2 - ((t.alpha / s.alpha) * s.sigma) ** 2, 0);
  return beta * (s.sigma / t.sigma) ** 2;
}

/** DDIM (Song et al. 2021, equation 12); eta 1 is DDPM, or Euler's ancestral method. */
async function* ddim(denoise, x, levels, noise, eta = 0) {
  for (let step = 0; step + 1 < levels.length; step++) {
    const [t, s] = [levels[step], levels[step + 1]];
    const guess = await denoise(x, t);
    const added = eta * Math.sqrt(posteriorVariance(t, s));
    const kept = Math.sqrt(Math.max(s.sigma ** 2 - added ** 2, 0));
    x = combine([s.alpha, guess], [kept, noiseIn(x, guess, t)]);
    if (added > 0) x = combine([1, x], [added, noise()]);
    yield { step: step + 1, x, guess };
  }
}

/** DDPM's ancestral sampler (Ho et al. 2020, algorithm 2), with the smaller variance. */
async function* ddpm(denoise, x, levels, noise) {
  for (let step = 0; step + 1 < levels.length; step++) {
    const [t, s] = [levels[step], levels[step + 1]];
    const guess = await denoise(x, t);
    const ofX = (t.alpha / s.alpha) * (s.sigma / t.sigma) ** 2;
    x = combine([ofX, x], [s.alpha - ofX * t.alpha, guess]);
    if (s.sigma > 0) x = combine([1, x], [Math.sqrt(posteriorVariance(t, s)), noise()]);
    yield { step: step + 1, x, guess };
  }
}

// Heun's second slope overshoots where a step leaves near pure noise by a large ratio: see samplers/ode.py.
const NEAR_NOISE = 100;
const MAX_RATIO = 10;

/** Heun's method in sigma / alpha (Karras et al. 2022, algorithm 2). A step is two network passes, the last one. */
async function* heun(denoise, x, levels, noise, maxRatio = MAX_RATIO) {
  for (let step = 0; step + 1 < levels.length; step++) {
    const [t, s] = [levels[step], levels[step + 1]];
    const ratio = noiseOverSignal(t);
    const guess = await denoise(x, t);
    const slope = noiseIn(x, guess, t);
    const start = x;
    x = combine([s.alpha, guess], [s.sigma, slope]);
    const overshoots = ratio > NEAR_NOISE && ratio * s.alpha > maxRatio * s.sigma;
    if (s.sigma > 0 && Number.isFinite(ratio) && !overshoots) {
      const second = noiseIn(x, await denoise(x, s), s);
      const half = (0.5 * s.alpha) * (noiseOverSignal(s) - ratio);
      x = combine([s.alpha / t.alpha, start], [half, slope], [half, second]);
    }
    yield { step: step + 1, x, guess };
  }
}

/** DPM-Solver++ 2M (Lu et al. 2022); with eta 1 it is its stochastic form, SDE-DPM-Solver++ 2M. */
async function* dpmpp2m(denoise, x, levels, noise, eta = 0) {
  let before = null;
  let hBefore = 0;
  for (let step = 0; step + 1 < levels.length; step++) {
    const [t, s] = [levels[step], levels[step + 1]];
    const guess = await denoise(x, t);
    const h = halfLogSnr(s) - halfLogSnr(t);
    let estimate = guess;
    if (before && Number.isFinite(h)) {
      const slope = (0.5 * h) / hBefore;
      estimate = combine([1 + slope, guess], [-slope, before]);
    }
    const noisy = eta ? eta * h : 0;
    x = combine([(s.sigma / t.sigma) * Math.exp(-noisy), x], [-s.alpha * Math.expm1(-h - noisy), estimate]);
    const added = s.sigma * Math.sqrt(-Math.expm1(-2 * noisy));
    if (added > 0) x = combine([1, x], [added, noise()]);
    [before, hBefore] = [guess, h];
    yield { step: step + 1, x, guess };
  }
}

/** UniPC of order 2 (Zhao et al. 2023): DPM-Solver++ 2M whose steps are corrected with the next prediction. */
async function* unipc(denoise, x, levels) {
  let previous = null;
  let older = null;
  for (let step = 0; step + 1 < levels.length; step++) {
    const [t, s] = [levels[step], levels[step + 1]];
    const guess = await denoise(x, t);
    if (previous) x = corrected(x, guess, t, previous, older);
    const h = halfLogSnr(s) - halfLogSnr(t);
    let estimate = guess;
    if (previous && Number.isFinite(h)) {
      const slope = (0.5 * h) / previous.h;
      estimate = combine([1 + slope, guess], [-slope, previous.guess]);
    }
    [older, previous] = [previous, { level: t, x, guess, h }];
    x = combine([s.sigma / t.sigma, x], [-s.alpha * Math.expm1(-h), estimate]);
    yield { step: step + 1, x, guess };
  }
}

function corrected(x, guess, t, previous, older) {
  const h = previous.h;
  if (!Number.isFinite(h)) return x;
  const phi1 = Math.expm1(-h);
  const base = [
    [t.sigma / previous.level.sigma, previous.x],
    [-t.alpha * phi1, previous.guess],
  ];
  const outer = -t.alpha * phi1;
  if (!older || !Number.isFinite(older.h)) return combine(...base, [0.5 * outer, guess], [-0.5 * outer, previous.guess]);
  const phi2 = phi1 / -h - 1;
  const r = -older.h / h;
  const first = phi2 / phi1;
  const second = (2 * (phi2 / -h - 0.5)) / phi1;
  const weight = (second - first) / (r - 1);
  return combine(
    ...base,
    [(outer * weight) / r, older.guess],
    [(-outer * weight) / r - outer * (first - weight), previous.guess],
    [outer * (first - weight), guess],
  );
}

/** By the names of Python's setting `sampler`. */
export const SAMPLERS = {
  dpmpp_2m: dpmpp2m,
  unipc,
  heun,
  ddim,
  ddpm,
  dpmpp_2m_sde: (denoise, x, levels, noise) => dpmpp2m(denoise, x, levels, noise, 1),
  euler_ancestral: (denoise, x, levels, noise) => ddim(denoise, x, levels, noise, 1),
};
