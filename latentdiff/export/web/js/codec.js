// Between pixels and latents. A model of pixels has the identity for a codec.

/** @returns {Uint8ClampedArray} About [-1, 1] to grey levels, rounded as Python rounds: a half to the even one. */
export function toBytes(values) {
  // Assignment to a clamped array clamps, and rounds a half to even.
  return Uint8ClampedArray.from(values, (value) => Math.fround(Math.fround(value + 1) * 127.5));
}

/** @returns {Float32Array} Grey levels to [-1, 1]. */
export function toFloats(bytes) {
  return Float32Array.from(bytes, (byte) => byte / 127.5 - 1);
}

function perChannel(model, values, change) {
  const [channels, height, width] = model.latent_shape;
  return Float32Array.from(values, (value, i) => change(value, Math.floor(i / (height * width)) % channels));
}

/**
 * @param {object} model A model of page.json.
 * @param {{encoder, decoder}} networks Its networks.
 * @param {Uint8ClampedArray} images One after the other, each [c, h, w].
 * @returns {Promise<Float32Array>} The standardised latents, at the middle of their posterior.
 */
export async function encode(model, networks, images) {
  const values = toFloats(images);
  if (!model.graphs.encoder) return values;
  const moments = await networks.encoder(values);
  const size = model.latent_shape.reduce((a, b) => a * b);
  const means = new Float32Array(moments.length / 2);
  for (let i = 0; i * size < means.length; i++) means.set(moments.subarray(2 * i * size, (2 * i + 1) * size), i * size);
  return perChannel(model, means, (value, c) => (value - model.latent_mean[c]) / model.latent_std[c]);
}

/** @returns {Promise<Uint8ClampedArray>} The images of standardised latents, each [c, h, w]. */
export async function decode(model, networks, latents) {
  if (!model.graphs.decoder) return toBytes(latents);
  const raw = perChannel(model, latents, (value, c) => value * model.latent_std[c] + model.latent_mean[c]);
  return toBytes(await networks.decoder(raw));
}
