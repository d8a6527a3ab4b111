// The thread that samples. It takes {id, task, device, ...} and answers {id, kind, ...}: some of kind "progress" and
// "step", and at the end one of kind "done" or "error". {cancel: id} ends a task at its next step.

import { decode, encode } from "./codec.js";
import { denoiser } from "./denoiser.js";
import { generate, invert, slerp } from "./flow.js";
import { levelsFrom, levelsOf } from "./levels.js";
import { GpuError, networksOf } from "./networks.js";
import { BatchNoise } from "./noise.js";
import { SAMPLERS, combine } from "./samplers.js";

const cancelled = new Set();
let queue = Promise.resolve();

onmessage = ({ data }) => {
  if ("cancel" in data) cancelled.add(data.cancel);
  else queue = queue.then(() => answer(data));
};

async function answer(request) {
  const { id } = request;
  const job = {
    say: (kind, values = {}) => postMessage({ id, kind, ...values }),
    onLoad: (done, of, file) => postMessage({ id, kind: "progress", done, of, loading: file }),
    /** Let messages in, and stop where the task was cancelled. */
    async pause() {
      await nextTurn();
      if (cancelled.has(id)) throw new Cancelled();
    },
  };
  try {
    await job.pause();
    job.say("done", await TASKS[request.task](request, job));
  } catch (error) {
    if (error instanceof Cancelled) job.say("cancelled");
    else job.say("error", { message: error?.message ?? String(error), isGpus: error instanceof GpuError });
  } finally {
    cancelled.delete(id);
  }
}

class Cancelled extends Error {}

const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();

/** Unlike a timer this costs nothing; unlike a promise it lets messages in. */
function nextTurn() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}

function sizeOf(model) {
  return model.latent_shape.reduce((a, b) => a * b);
}

/** Run a sampler from `x`, and send each step with its images. */
async function walk({ model, settings, labels, negative }, networks, job, { x, levels, noise }) {
  const [passes, decodes] = [new Stopwatch(), new Stopwatch()];
  const network = (...inputs) => passes.time(networks.network(...inputs));
  const denoise = denoiser(model, network, labels, settings.guidance, { negative });
  const of = levels.length - 1;
  const send = async (step, values) => {
    // Decoding for the eye takes half the time of the sampling at most. The page has the other steps decoded afterwards.
    let images = null;
    if (step === of || 2 * decodes.total <= passes.total) {
      const shown = settings.show === "guess" && values.guess ? values.guess : values.x;
      images = await decodes.time(decode(model, networks, shown));
    }
    // The first passes are slow, since the browser compiles as it goes: the median says what the others take.
    const milliseconds = passes.count * passes.median + decodes.median;
    job.say("step", { step, of, ...values, images, milliseconds, passes: passes.count });
    await job.pause();
  };
  await send(0, { x });
  for await (const state of SAMPLERS[settings.sampler](denoise, x, levels, noise)) {
    if (!state.x.every(Number.isFinite)) throw new Error("The numbers ran away: take more steps, or less guidance.");
    await send(state.step, { x: state.x, guess: state.guess });
  }
  return {};
}

/** Times, in milliseconds, of something that is done again and again. */
class Stopwatch {
  times = [];

  async time(promise) {
    const start = performance.now();
    const result = await promise;
    this.times.push(performance.now() - start);
    return result;
  }

  get count() {
    return this.times.length;
  }

  get total() {
    return this.times.reduce((a, b) => a + b, 0);
  }

  get median() {
    return this.times.toSorted((a, b) => a - b)[this.count >> 1] ?? 0;
  }
}

const TASKS = {
  /** Draw images from noise. */
  async sample(request, job) {
    const { model, device, settings } = request;
    const networks = networksOf(model, device, job.onLoad);
    await networks.ready("network", "decoder");
    const draws = new BatchNoise(settings.seed, settings.images, sizeOf(model));
    const levels = levelsOf(model.levels[settings.steps - 1]);
    const x = combine([model.unit_noise ? 1 : levels[0].sigma, draws.draw()]);
    return walk(request, networks, job, { x, levels, noise: () => draws.draw() });
  },

  /** Decode several batches of latents. */
  async decode({ model, device, batches }, job) {
    const networks = networksOf(model, device, job.onLoad);
    const images = [];
    for (const latents of batches) {
      images.push(await decode(model, networks, latents));
      await job.pause();
    }
    return { images };
  },

  /** Encode images, and decode them again. */
  async encode({ model, device, images }, job) {
    const networks = networksOf(model, device, job.onLoad);
    await networks.ready("encoder", "decoder");
    const latents = await encode(model, networks, images);
    return { latents, images: await decode(model, networks, latents) };
  },

  /** Add noise to clean latents, and decode that. */
  async noised({ model, device, latents, strength, seed }, job) {
    const networks = networksOf(model, device, job.onLoad);
    const x = noised(model, latents, strength, seed).x;
    return { x, images: await decode(model, networks, x) };
  },

  /** Add noise to clean latents, and take it away again (SDEdit: Meng et al. 2022). */
  async denoise(request, job) {
    const { model, device, settings, latents, strength } = request;
    const networks = networksOf(model, device, job.onLoad);
    await networks.ready("network", "decoder");
    const { x, level, draws } = noised(model, latents, strength, settings.seed);
    const levels = levelsFrom(levelsOf(model.levels[settings.steps - 1]), level);
    return walk(request, networks, job, { x, levels, noise: () => draws.draw() });
  },

  /** Go from one image to another over the noise behind both. */
  async interpolate({ model, device, first, second, count, label }, job) {
    const networks = networksOf(model, device, job.onLoad);
    await networks.ready("network", "decoder");
    const levels = levelsOf(model.flow);
    const labels = (images) => (label === null ? null : Array(images).fill(label));
    const denoise = (images) => denoiser(model, networks.network, labels(images), 1, { keepsBounds: false });
    const of = 2 * (levels.length - 1);
    let done = 0;
    const onStep = async () => {
      job.say("progress", { done: ++done, of });
      await job.pause();
    };
    const size = first.length;
    const behind = await invert(denoise(2), Float32Array.from([...first, ...second]), levels, onStep);
    const way = new Float32Array(count * size);
    for (let i = 0; i < count; i++) {
      way.set(slerp(behind.subarray(0, size), behind.subarray(size), i / (count - 1)), i * size);
    }
    return { images: await decode(model, networks, await generate(denoise(count), way, levels, onStep)) };
  },
};

function noised(model, latents, strength, seed) {
  const level = levelsOf(model.strengths)[strength];
  const draws = new BatchNoise(seed, latents.length / sizeOf(model), sizeOf(model));
  const x = strength ? combine([level.alpha, latents], [level.sigma, draws.draw()]) : latents;
  return { x, level, draws };
}
