// What the page says of a model of page.json.

import { tokensOf } from "./words.js";

/** @returns {number} Numbers in an array of that shape. */
export function sizeOf(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

/** @returns {string} Such as 2×7×7. */
export function shapeText(shape) {
  return shape.join("×");
}

/** @returns {boolean} Whether it works on latents: else on pixels. */
export function isLatent(model) {
  return Boolean(model.graphs.decoder);
}

/** Names by which the models are told apart: Latent and Pixel, or their data sets, where that is enough. */
export function titlesOf(models) {
  const kinds = models.map((model) => (isLatent(model) ? "Latent" : "Pixel"));
  const data = models.map((model) => model.data);
  const areDistinct = (names) => new Set(names).size === names.length;
  if (areDistinct(kinds) && new Set(data).size === 1) return kinds;
  if (areDistinct(data) && data.every(Boolean)) return data.map(dataTitle);
  return models.map((model) => model.name);
}

/** The name of a data set as people write it: fashion-mnist is Fashion-MNIST. */
export function dataTitle(name) {
  const known = { mnist: "MNIST", cifar: "CIFAR", celeba: "CelebA" };
  return name.split("-").map((word) => known[word] ?? word.charAt(0).toUpperCase() + word.slice(1)).join("-");
}

/** @returns {string[]} Its classes by name, or number; none for a model without classes. */
export function classesOf(model) {
  return Array.from({ length: model.null_label ?? 0 }, (_, i) => model.class_names[i] ?? `Class ${i}`);
}

/** The class of each image, or the tokens of its prompt: one for all, or all in turn, as in Python. */
export function labelsOf(model, chosen, images, prompt = "") {
  if (model.text) {
    const prompts = prompt.trim() || !model.captions.length ? [prompt] : model.captions;
    return Array.from({ length: images }, (_, i) => tokensOf(model, prompts[i % prompts.length]));
  }
  const count = model.null_label;
  if (count === null) return null;
  return Array.from({ length: images }, (_, i) => (chosen === "turn" ? i % count : Number(chosen)));
}

/** @returns {number} Megabytes that are fetched to draw with it. */
export function megabytes(model) {
  return (model.graphs.network.bytes + (model.graphs.decoder?.bytes ?? 0)) / 1e6;
}

/** @returns {boolean} Whether two models draw the same kind of images, so that they can stand side by side. */
export function areComparable(a, b) {
  const kind = (model) => JSON.stringify([model.image_shape, model.class_names, model.null_label, model.can_guide, model.data, model.text]);
  return kind(a) === kind(b);
}

/** The names of samplers, as people write them. */
export const SAMPLER_TITLES = {
  dpmpp_2m: "DPM-Solver++ 2M",
  unipc: "UniPC",
  heun: "Heun (two passes a step)",
  ddim: "DDIM",
  ddpm: "DDPM (random)",
  dpmpp_2m_sde: "SDE-DPM-Solver++ 2M (random)",
  euler_ancestral: "Euler ancestral (random)",
};

/** Options of a <select>: pairs of value and text. */
export function fill(select, options) {
  const kept = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => String(value) === kept)) select.value = kept;
}

/** Seconds as people read them. */
export function secondsText(milliseconds) {
  return milliseconds < 9950 ? `${(milliseconds / 1000).toFixed(2)} s` : `${(milliseconds / 1000).toFixed(0)} s`;
}
