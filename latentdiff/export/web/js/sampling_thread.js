// The page's side of worker.js: tasks as promises that can be cancelled.

/** A task was cancelled. */
export class CancelledError extends Error {}

export class SamplingThread {
  /** Where the networks run: "cpu", or "gpu" until it fails at something. */
  device = "cpu";
  /** Called with what the GPU failed at. The processor then does it. */
  onGpuFailure = () => {};
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #tasks = new Map();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`The sampling thread failed: ${event.message ?? "it could not be started"}`);
      for (const task of this.#tasks.values()) task.reject(error);
      this.#tasks.clear();
    };
  }

  /**
   * @param {object} request {task, ...}: see worker.js.
   * @param {object} hear {onStep, onProgress}: called with what comes on the way; {onRestart}: where it begins again.
   * @returns {Promise<object> & {cancel: () => void}} Rejected with a CancelledError where it was cancelled.
   */
  run(request, { onStep = () => {}, onProgress = () => {}, onRestart = () => {} } = {}) {
    const id = ++this.#last;
    const promise = new Promise((resolve, reject) => {
      this.#tasks.set(id, { request, resolve, reject, onStep, onProgress, onRestart });
    });
    this.#worker.postMessage({ id, device: this.device, ...request });
    return Object.assign(promise, { cancel: () => this.#worker.postMessage({ cancel: id }) });
  }

  #hear({ id, kind, ...values }) {
    const task = this.#tasks.get(id);
    if (!task) return;
    if (kind === "step") return task.onStep(values);
    if (kind === "progress") return task.onProgress(values);
    if (values.isGpus) return this.#onProcessor(id, task, values.message);
    this.#tasks.delete(id);
    if (kind === "done") task.resolve(values);
    else task.reject(kind === "cancelled" ? new CancelledError("cancelled") : new Error(values.message));
  }

  #onProcessor(id, task, message) {
    if (this.device === "gpu") {
      this.device = "cpu";
      this.onGpuFailure(message);
    }
    task.onRestart();
    this.#worker.postMessage({ id, device: "cpu", ...task.request });
  }
}
