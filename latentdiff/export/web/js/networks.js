// The networks of a model: fetched, checked, and run by onnxruntime-web on one thread.

import * as ort from "../onnxruntime/ort.js";

const RUNTIME = new URL("../onnxruntime/ort.wasm.gz", import.meta.url);
const ROOT = new URL("../", import.meta.url);

// Begun at once, while the page finds out what to draw.
let runtime = started();
const sessions = new Map();

/**
 * Load a network once.
 * @param {object} graph {file, bytes, sha256} of page.json.
 * @param {(done: number, of: number, what: string) => void} onProgress In bytes.
 */
export async function session(graph, onProgress) {
  if (!sessions.has(graph.file)) {
    const loading = load(graph, onProgress);
    sessions.set(graph.file, loading);
    loading.catch(() => sessions.delete(graph.file)); // so that it can be tried again
  }
  return sessions.get(graph.file);
}

async function load(graph, onProgress) {
  runtime ??= started();
  const content = await fetched(new URL(graph.file, ROOT), graph.bytes, (done) => onProgress(done, graph.bytes, graph.file));
  await check(content, graph);
  try {
    await runtime;
  } catch (error) {
    runtime = null; // so that it can be tried again
    throw error;
  }
  return ort.InferenceSession.create(content, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

function started() {
  const starting = startRuntime();
  starting.catch(() => {}); // whoever waits for it says so
  return starting;
}

/** The machine code is compressed in the folder, for servers that compress nothing; some send it unpacked. */
async function startRuntime() {
  let binary = await fetched(RUNTIME);
  if (binary[0] === 0x1f && binary[1] === 0x8b) {
    const unpacked = new Blob([binary]).stream().pipeThrough(new DecompressionStream("gzip"));
    binary = await new Response(unpacked).arrayBuffer();
  }
  ort.env.wasm.wasmBinary = binary;
  // More threads need headers that few servers send, and are slower where other programs want the cores.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
}

async function fetched(url, bytes = 0, onProgress = () => {}) {
  const name = url.pathname.split("/").at(-1);
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error(`${name} cannot be fetched: is the network there?`);
  }
  if (!answer.ok) throw new Error(`${name} cannot be fetched: the server answers ${answer.status}`);
  const parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    parts.push(value);
    done += value.length;
    onProgress(Math.min(done, bytes || done));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function check(content, { file, bytes, sha256 }) {
  let whole = content.length === bytes;
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
 * @param {(done: number, of: number, what: string) => void} onProgress While one is loaded.
 */
export function networksOf(model, onProgress) {
  const [channels, height, width] = model.latent_shape;
  const size = channels * height * width;

  async function run(name, feeds, output) {
    const loaded = await session(model.graphs[name], onProgress);
    const results = await loaded.run(feeds);
    return results[output].data;
  }

  function images(values, shape) {
    return new ort.Tensor("float32", values, [values.length / shape.reduce((a, b) => a * b), ...shape]);
  }

  return {
    async network(x, time, labels) {
      const count = x.length / size;
      const feeds = { x: images(x, model.latent_shape), time: new ort.Tensor("float32", new Float32Array(count).fill(time), [count]) };
      if (labels) feeds.labels = new ort.Tensor("int64", BigInt64Array.from(labels.flat(), BigInt), model.text ? [count, model.text.context] : [count]);
      const output = await run("network", feeds, "output");
      if (output.length === x.length) return output;
      // The second half of the channels is a learned variance.
      const means = new Float32Array(x.length);
      for (let i = 0; i < count; i++) means.set(output.subarray(2 * i * size, (2 * i + 1) * size), i * size);
      return means;
    },
    encoder: (values) => run("encoder", { images: images(values, model.image_shape) }, "moments"),
    decoder: (latents) => run("decoder", { latents: images(latents, model.latent_shape) }, "images"),
    /** Load the networks that are named. */
    ready: (...names) => Promise.all(names.filter((name) => model.graphs[name]).map((name) => session(model.graphs[name], onProgress))),
  };
}
