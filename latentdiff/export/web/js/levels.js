// Noise levels, x = alpha x0 + sigma noise. A model's tables of them come from Python, in page.json.

/** @typedef {{time: number, alpha: number, sigma: number}} Level Of noise; `time` is what the network is given. */

/** @returns {Level[]} The rows of a table in page.json. */
export function levelsOf(rows) {
  return rows.map(([time, alpha, sigma]) => ({ time, alpha, sigma }));
}

/** @returns {number} Noise over signal, sigma / alpha. */
export function noiseOverSignal(level) {
  return level.sigma / level.alpha;
}

/** @returns {number} log(alpha / sigma): infinite for a clean level, and for pure noise. */
export function halfLogSnr({ alpha, sigma }) {
  return Math.log(alpha / sigma);
}

/**
 * @param {Level[]} levels Those of sampling, noisiest first.
 * @param {Level} start
 * @returns {Level[]} `start`, and the levels with less noise.
 */
export function levelsFrom(levels, start) {
  // A power and a root may leave a level one rounding below the start. A step between the two would have no length.
  const most = noiseOverSignal(start) * (1 - 1e-9);
  return [start, ...levels.filter((level) => noiseOverSignal(level) < most)];
}
