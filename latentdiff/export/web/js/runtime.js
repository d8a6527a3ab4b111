// onnxruntime-web, in one of two builds: for the processor (WebAssembly), and for the GPU (WebGPU).

import { fetched } from "./files.js";

const FOLDER = new URL("../onnxruntime/", import.meta.url);
const BUILDS = {
  cpu: { script: "ort.js", code: "ort.wasm.gz", provider: "wasm" },
  gpu: { script: "ort-webgpu.js", code: "ort-webgpu.wasm.gz", provider: "webgpu" },
};
const started = new Map();

/**
 * Start a build once.
 * @param {"cpu" | "gpu"} device
 * @param {(done: number, of: number) => void} onProgress While it is fetched, in bytes.
 * @returns {Promise<{ort: object, provider: string}>} Its module, and the name of its execution provider.
 */
export function runtimeOf(device, onProgress = () => {}) {
  if (!started.has(device)) {
    const starting = start(BUILDS[device], onProgress);
    started.set(device, starting);
    starting.catch(() => started.delete(device)); // so that it can be tried again
  }
  return started.get(device);
}

async function start({ script, code, provider }, onProgress) {
  const [ort, binary] = await Promise.all([import(new URL(script, FOLDER)), fetched(new URL(code, FOLDER), onProgress)]);
  ort.env.wasm.wasmBinary = binary;
  // More threads need headers that few servers send, and are slower where other programs want the cores.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return { ort, provider };
}

// Begun at once, while the page finds out what to draw, where it is sure which build that takes.
if (!globalThis.navigator?.gpu) runtimeOf("cpu").catch(() => {}); // whoever waits for it says so
