// Where the networks run: on the processor, or on the GPU where the browser has WebGPU.

/** @returns {Promise<"hardware" | "software" | null>} The browser's GPU; a software one only imitates it. */
export async function gpuKind() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return null;
    return adapter.info?.isFallbackAdapter ? "software" : "hardware";
  } catch {
    return null;
  }
}

export class DeviceChoice {
  /**
   * @param {HTMLElement} place Radio buttons "cpu" and "gpu", and an output for notes.
   * @param {SamplingThread} thread
   * @param {"hardware" | "software" | null} gpu
   */
  constructor(place, thread, gpu) {
    this.place = place;
    this.note = place.querySelector("output");
    place.hidden = gpu === null;
    this.#choose(gpu === "hardware" ? "gpu" : "cpu");
    thread.device = this.chosen;
    place.addEventListener("change", () => {
      thread.device = this.chosen;
      this.note.value = "";
    });
    thread.onGpuFailure = (message) => {
      this.#choose("cpu");
      this.note.value = `The GPU failed, so the processor draws. ${message}`;
    };
  }

  get chosen() {
    return this.place.querySelector("input:checked").value;
  }

  #choose(device) {
    this.place.querySelector(`input[value=${device}]`).checked = true;
  }
}
