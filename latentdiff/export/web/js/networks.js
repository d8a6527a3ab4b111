// The networks of a model: fetched, checked, and run by onnxruntime-web.

import { fetched } from "./files.js";
import { runtimeOf } from "./runtime.js";

const ROOT = new URL("../", import.meta.url);
const sessions = new Map();
// The runtime's build with WebGPU makes one session at a time.
let lastMade = Promise.resolve();

/** The GPU could not do what the processor may do. */
export class GpuError extends Error {}

/** Load a network once for each device. See networksOf. */
async function session(graph, device, onProgress) {
  const key = `${device} ${graph.file}`;
  if (!sessions.has(key)) {
    const loading = load(graph, device, onProgress);
    sessions.set(key, loading);
    loading.catch(() => sessions.delete(key)); // so that it can be tried again
  }
  return sessions.get(key);
}

async function load(graph, device, onProgress) {
  const content = await fetched(new URL(graph.file.split("/").map(encodeURIComponent).join("/"), ROOT), (done) => onProgress(Math.min(done, graph.bytes), graph.bytes, graph.file));
  await check(content, graph);
  return onDevice(device, async () => {
    const { ort, provider } = await runtimeOf(device, (done, of) => onProgress(done, of || done, "onnxruntime-web"));
    const options = { executionProviders: [provider], graphOptimizationLevel: "all" };
    const making = lastMade.then(() => ort.InferenceSession.create(content, options));
    lastMade = making.catch(() => {});
    return { ort, made: await making };
  });
}

/** Do something on a device; what the GPU fails at is a GpuError. */
async function onDevice(device, work) {
  try {
    return await work();
  } catch (error) {
    throw device === "gpu" ? new GpuError(error?.message ?? String(error)) : error;
  }
}

async function check(content, { file, size, sha256 }) {
  let whole = content.length === size;
  if (whole && globalThis.crypto?.subtle) {
    // Only where the page is local or encrypted.
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    whole = sha256 === Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  if (!whole) throw new Error(`${file} is damaged: its content is not what was exported`);
}

/**
 * The networks of a model as functions over arrays. Each is loaded when it is first called.
 * @param {object} model A model of page.json.
 * @param {"cpu" | "gpu"} device Where they run.
 * @param {(done: number, of: number, what: string) => void} onProgress While one is loaded, in bytes.
 */
export function networksOf(model, device, onProgress) {
  const [channels, height, width] = model.latent_shape;
  const size = channels * height * width;

  /** @param {(ort: object) => object} feedsOf The inputs as tensors of the runtime. */
  async function run(name, feedsOf, output) {
    const { ort, made } = await session(model.graphs[name], device, onProgress);
    const { data } = await onDevice(device, async () => (await made.run(feedsOf(ort)))[output]);
    if (device === "gpu" && !data.every(Number.isFinite)) throw new GpuError("it computed what is no number");
    return data;
  }

  function images(ort, values, shape) {
    return new ort.Tensor("float32", values, [values.length / shape.reduce((a, b) => a * b), ...shape]);
  }

  return {
    async network(x, time, labels) {
      const count = x.length / size;
      const feedsOf = (ort) => ({
        x: images(ort, x, model.latent_shape),
        time: new ort.Tensor("float32", new Float32Array(count).fill(time), [count]),
        ...(labels && { labels: new ort.Tensor("int64", BigInt64Array.from(labels.flat(), BigInt), model.text ? [count, model.text.context] : [count]) }),
      });
      const output = await run("network", feedsOf, "output");
      if (output.length === x.length) return output;
      // The second half of the channels is a learned variance.
      const means = new Float32Array(x.length);
      for (let i = 0; i < count; i++) means.set(output.subarray(2 * i * size, (2 * i + 1) * size), i * size);
      return means;
    },
    encoder: (values) => run("encoder", (ort) => ({ images: images(ort, values, model.image_shape) }), "moments"),
    decoder: (latents) => run("decoder", (ort) => ({ latents: images(ort, latents, model.latent_shape) }), "images"),
    /** Load the networks that are named. */
    ready: (...names) => Promise.all(names.filter((name) => model.graphs[name]).map((name) => session(model.graphs[name], device, onProgress))),
  };
}
