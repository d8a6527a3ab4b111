// From a network to the denoiser that every sampler calls, with classifier-free guidance.

import { combine } from "./samplers.js";
import { nullLabelOf } from "./words.js";

/**
 * @param {object} model A model of page.json.
 * @returns {Float32Array} The clean images that the network's raw `output` for noisy `x` means: see diffusion/target.py.
 */
function toClean(model, output, x, { alpha, sigma }) {
  const data = model.sigma_data ** 2;
  const total = data * alpha ** 2 + sigma ** 2;
  switch (model.target) {
    case "eps":
      return combine([1 / alpha, x], [-sigma / alpha, output]);
    case "score":
      return combine([1 / alpha, x], [sigma / alpha, output]);
    case "v":
      return combine([alpha, x], [-sigma, output]);
    case "edm":
      return combine([(data * alpha) / total, x], [(model.sigma_data * sigma) / Math.sqrt(total), output]);
    default:
      return output; // x0
  }
}

/**
 * @param {object} model A model of page.json.
 * @param {(x: Float32Array, time: number, labels: number[]|number[][]|null) => Promise<Float32Array>} network
 * @param {number[]|number[][]|null} labels The class of each image, or the tokens of its prompt.
 * @param {number} scale Of guidance; 1 is off, and 0 ignores the class.
 * @param {object} more
 * @param {number|number[]} [more.negative] What guidance steers away from, as a label. Default: no class, or no caption.
 * @param {boolean} [more.keepsBounds] Whether clean images are kept within [-1, 1]. Default: as the model's record says.
 */
export function denoiser(model, network, labels, scale, { negative, keepsBounds } = {}) {
  const weakLabel = negative ?? nullLabelOf(model);
  const isBounded = keepsBounds ?? model.clips;

  async function clean(x, level, classes) {
    const total = model.sigma_data ** 2 * level.alpha ** 2 + level.sigma ** 2;
    const output = await network(combine([1 / Math.sqrt(total), x]), level.time, classes);
    return toClean(model, output, x, level);
  }

  return async (x, level) => {
    let guess;
    if (!labels || scale === 1) {
      guess = await clean(x, level, labels);
    } else if (scale === 0) {
      guess = await clean(x, level, labels.map(() => weakLabel));
    } else {
      const twice = new Float32Array(2 * x.length);
      twice.set(x);
      twice.set(x, x.length);
      const both = await clean(twice, level, [...labels, ...labels.map(() => weakLabel)]);
      const [strong, weak] = [both.subarray(0, x.length), both.subarray(x.length)];
      guess = combine([scale, strong], [1 - scale, weak]);
    }
    if (isBounded) for (let i = 0; i < guess.length; i++) guess[i] = Math.min(1, Math.max(-1, guess[i]));
    return guess;
  };
}
