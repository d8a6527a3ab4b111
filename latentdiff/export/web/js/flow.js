// The noise behind an image, and the way between two images over it (DDIM, section 4.3 and appendix D.5).

import { SAMPLERS, combine } from "./samplers.js";

/** Follow the probability-flow ODE along `levels` by Heun's method, and return where it ends. */
async function follow(denoise, x, levels, onStep) {
  for await (const state of SAMPLERS.heun(denoise, x, levels, null)) {
    x = state.x;
    await onStep();
  }
  return x;
}

function norm({ alpha, sigma }) {
  return Math.hypot(alpha, sigma);
}

/**
 * @param {Float32Array} latents Clean.
 * @param {object[]} levels Falling, none of them clean.
 * @returns {Promise<Float32Array>} The noise that leads to `latents`, about standard normal.
 */
export async function invert(denoise, latents, levels, onStep) {
  const upwards = [...levels].reverse();
  const start = combine([upwards[0].alpha, latents]);
  const last = await follow(denoise, start, upwards, onStep);
  return combine([1 / norm(levels[0]), last]);
}

/** @returns {Promise<Float32Array>} The clean latents that `noise` leads to: the inverse of `invert`. */
export async function generate(denoise, noise, levels, onStep) {
  const last = await follow(denoise, combine([norm(levels[0]), noise]), levels, onStep);
  return combine([1 / levels.at(-1).alpha, last]);
}

/** Spherical interpolation (Shoemake 1985): `share` 0 is `a`, 1 is `b`. */
export function slerp(a, b, share) {
  let [dot, aa, bb] = [0, 0, 0];
  a.forEach((value, i) => {
    dot += value * b[i];
    aa += value * value;
    bb += b[i] * b[i];
  });
  const angle = Math.acos(Math.min(1 - 1e-6, Math.max(-1 + 1e-6, dot / Math.sqrt(aa * bb))));
  return combine([Math.sin((1 - share) * angle) / Math.sin(angle), a], [Math.sin(share * angle) / Math.sin(angle), b]);
}
