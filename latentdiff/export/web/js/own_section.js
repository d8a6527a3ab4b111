// The part of the page for images of one's own: compress, add noise and take it away, go from one to another.

import { showProgress } from "./doing.js";
import { classesOf, fill, isLatent, labelsOf, shapeText, sizeOf } from "./models.js";
import { pixelsOf } from "./own_image.js";
import { channelOf, figureOf, gridOf, show } from "./pictures.js";
import { CancelledError } from "./sampling_thread.js";
import { nullLabelOf } from "./words.js";

const byId = (id) => document.getElementById(id);
const WAY = 7;

export class OwnSection {
  /** @param {DrawSection} drawing Whose seed, steps, guidance and sampler hold here too. */
  constructor(page, thread, drawing) {
    this.page = page;
    this.thread = thread;
    this.drawing = drawing;
    this.slots = [new Slot(byId("slot-a"), "First image", this), new Slot(byId("slot-b"), "Second image", this)];
    fill(byId("own-model"), page.models.map((model, i) => [model.name, drawing.titles[i]]));
    byId("own-model-row").hidden = page.models.length < 2;
    byId("own-model").addEventListener("change", () => this.#modelChanged());
    byId("invert").addEventListener("change", () => this.#reread(byId("invert").checked ? "yes" : "no"));
    byId("strength").addEventListener("input", () => this.#noise());
    byId("denoise").addEventListener("click", () => this.#guarded(() => this.#denoise()));
    byId("interpolate").addEventListener("click", () => this.#guarded(() => this.#interpolate()));
    byId("own-cancel").addEventListener("click", () => this.running?.cancel());
    this.#offerClasses();
  }

  get model() {
    return this.page.models.find((model) => model.name === byId("own-model").value);
  }

  #offerClasses() {
    const { model } = this;
    const none = model.can_guide ? [["none", "No class"]] : [];
    byId("own-class-row").hidden = model.null_label === null || Boolean(model.text);
    fill(byId("own-class"), [...none, ...classesOf(model).map((name, i) => [i, name])]);
  }

  async #modelChanged() {
    this.#offerClasses();
    await this.#reread(byId("invert").checked ? "yes" : "no");
  }

  /** Read the files again, for a model of another size or with light and dark swapped. */
  async #reread(invert) {
    for (const slot of this.slots) await slot.reread(invert);
    await this.changed();
  }

  /** The class for an image: a number, or that of no class. */
  #label() {
    const { value } = byId("own-class");
    if (this.model.null_label === null) return null;
    if (this.model.text && !this.model.can_guide) throw new Error("This model has never seen an image without a caption: it cannot work on yours.");
    if (this.model.text) return nullLabelOf(this.model);
    return value === "none" ? this.model.null_label : Number(value);
  }

  /** Run something that may fail or be cancelled, with the buttons set accordingly. */
  async #guarded(work) {
    this.running?.cancel();
    this.#busy(true);
    const turn = (this.turn = Symbol("turn"));
    try {
      await work();
      if (turn === this.turn) this.say("");
    } catch (error) {
      if (turn === this.turn) this.say(error instanceof CancelledError ? "Cancelled." : error.message, !(error instanceof CancelledError));
    } finally {
      if (turn === this.turn) this.#busy(false);
    }
  }

  #task(request, hear = {}) {
    this.running = this.thread.run(
      { model: this.model, ...request },
      { onProgress: ({ done, of, loading }) => this.#progress(loading ? "Loading the network" : `Step ${done} of ${of}`, done, of), ...hear },
    );
    return this.running;
  }

  /** A slot has another image: encode both anew. */
  async changed() {
    await this.#guarded(async () => {
      for (const slot of this.slots) {
        slot.latents = null;
        if (!slot.bytes) continue;
        const { latents, images } = await this.#task({ task: "encode", images: slot.bytes });
        [slot.latents, slot.back] = [latents, images];
      }
      byId("noise-pictures").replaceChildren();
      byId("way").replaceChildren();
      this.#showCompression();
      await this.#noiseNow();
    });
  }

  #showCompression() {
    const [{ bytes, latents, back }] = this.slots;
    if (!latents) {
      byId("numbers").textContent = "Choose an image first.";
      byId("compression-pictures").replaceChildren();
      return;
    }
    const { model } = this;
    const [before, after] = [sizeOf(model.image_shape), sizeOf(model.latent_shape)];
    const figures = [figureOf(gridOf(bytes, model.image_shape), `Yours: ${before} values`)];
    if (isLatent(model)) {
      const off = bytes.reduce((sum, value, i) => sum + Math.abs(value - back[i]), 0) / bytes.length;
      byId("numbers").textContent =
        `${before} values (${shapeText(model.image_shape)}) become ${after} numbers (${shapeText(model.latent_shape)}): ` +
        `${(before / after).toFixed(1)} times fewer. Decoded again, a value is off by ${off.toFixed(1)} of 255 on average.`;
      for (let c = 0; c < model.latent_shape[0]; c++) {
        figures.push(figureOf(channelOf(latents, model.latent_shape, c), `Latents, channel ${c + 1}`));
      }
      figures.push(figureOf(gridOf(back, model.image_shape), "Decoded again"));
    } else {
      byId("numbers").textContent = `This model has no autoencoder: it works on the ${before} values themselves.`;
    }
    byId("compression-pictures").replaceChildren(...figures);
  }

  #strength() {
    const strength = Number(byId("strength").value);
    byId("strength-shown").value = `${strength}%`;
    return strength;
  }

  /** Show the noise as the slider moves; while one picture is made, only the last position is remembered. */
  #noise() {
    this.#strength();
    if (this.noising) this.noiseAgain = true;
    else {
      this.noising = this.#noiseNow()
        .catch((error) => error instanceof CancelledError || this.say(error.message, true))
        .finally(() => {
          this.noising = null;
          if (this.noiseAgain) {
            this.noiseAgain = false;
            this.#noise();
          }
        });
    }
  }

  async #noiseNow() {
    const [{ latents }] = this.slots;
    if (!latents) return;
    const { seed } = this.drawing.settings;
    const strength = this.#strength();
    const { images } = await this.thread.run({ task: "noised", model: this.model, latents, strength, seed });
    const figure = figureOf(gridOf(images, this.model.image_shape), "With noise");
    byId("noise-pictures").replaceChildren(figure);
  }

  async #denoise() {
    const [{ latents }] = this.slots;
    const label = this.#label();
    const settings = { ...this.drawing.settings, show: "state" };
    // The drawing's settings may be of another model, which has other steps and samplers.
    settings.steps = Math.min(settings.steps, this.model.levels.length);
    if (!this.model.samplers.includes(settings.sampler)) [settings.sampler] = this.model.samplers;
    if (label === null || label === this.model.null_label || this.model.text || !this.model.can_guide) settings.guidance = 1;
    await this.#noiseNow();
    const noisy = byId("noise-pictures").firstChild;
    const { image_shape: shape } = this.model;
    const result = figureOf(new ImageData(shape[2], shape[1]), "Brought back");
    byId("noise-pictures").replaceChildren(noisy, result);
    const labels = label === null ? null : [label];
    await this.#task(
      { task: "denoise", latents, strength: this.#strength(), settings, labels },
      {
        onStep: ({ step, of, images }) => {
          this.#progress(`Step ${step} of ${of}`, step, Math.max(of, 1));
          if (images) show(result.firstChild, gridOf(images, shape), "Your image, with noise added and taken away again");
        },
      },
    );
  }

  async #interpolate() {
    const [a, b] = this.slots;
    const request = { task: "interpolate", first: a.latents, second: b.latents, count: WAY, label: this.#label() };
    const { images } = await this.#task(request);
    const size = sizeOf(this.model.image_shape);
    const pictures = Array.from({ length: WAY }, (_, i) => {
      const share = Math.round((100 * i) / (WAY - 1));
      return figureOf(gridOf(images.subarray(i * size, (i + 1) * size), this.model.image_shape), `${share}%`, `${share}% of the second image`);
    });
    byId("way").replaceChildren(...pictures);
  }

  /** The last picture that was drawn above, image `index` of it; null where there is none of this size. */
  drawn(index) {
    const shape = this.model.image_shape;
    const card = this.drawing.cards.find((each) => String(each.model.image_shape) === String(shape) && each.frames.length);
    const bytes = card?.frames.at(-1).images.state ?? card?.frames.at(-1).images.guess;
    if (!bytes) return null;
    const size = sizeOf(shape);
    const at = index % (bytes.length / size);
    return bytes.slice(at * size, (at + 1) * size);
  }

  #busy(busy) {
    byId("own-cancel").disabled = !busy;
    byId("own-doing").hidden = true;
    byId("strength").disabled = byId("denoise").disabled = busy || !this.slots[0].latents;
    byId("interpolate").disabled = busy || !this.slots.every((slot) => slot.latents);
    byId("own").toggleAttribute("data-busy", busy);
  }

  #progress(words, done, of) {
    showProgress(byId("own-doing"), words, done, of);
  }

  say(words, wrong = false) {
    byId("own-status").textContent = words;
    byId("own-status").classList.toggle("wrong", wrong);
  }
}

let drawnSoFar = 0;

/** A place for one image: a file that is chosen, dropped or pasted, or a picture that was drawn. */
class Slot {
  constructor(element, title, section) {
    this.section = section;
    this.bytes = null;
    this.latents = null;
    this.file = null;
    const id = `file-${element.id}`;
    element.innerHTML = `
      <canvas width="1" height="1"></canvas>
      <div><h3></h3><p>Drop an image here, or</p>
        <div class="buttons"><span><input type="file" accept="image/*" id="${id}"><label class="file" for="${id}">Choose a file</label></span>
        <button type="button">Use a drawn one</button></div></div>`;
    element.querySelector("h3").textContent = title;
    this.canvas = element.querySelector("canvas");
    this.title = title;
    const input = element.querySelector("input");
    input.setAttribute("aria-label", `${title}: choose a file`);
    input.addEventListener("change", () => {
      if (input.files[0]) this.take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    element.querySelector("button").addEventListener("click", () => this.takeDrawn());
    element.addEventListener("dragover", (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
  }

  async take(file) {
    try {
      const { bytes, inverted } = await pixelsOf(file, this.section.model.image_shape, "auto");
      [this.file, this.bytes] = [file, bytes];
      byId("invert").checked = inverted;
    } catch (error) {
      this.section.say(error.message, true);
      return;
    }
    this.#show();
    await this.section.changed();
  }

  async takeDrawn() {
    const bytes = this.section.drawn(drawnSoFar);
    if (!bytes) return this.section.say("Nothing of this model's size is drawn yet: draw above first.", true);
    drawnSoFar++;
    [this.file, this.bytes] = [null, bytes];
    this.#show();
    await this.section.changed();
  }

  async reread(invert) {
    const size = sizeOf(this.section.model.image_shape);
    if (this.file) ({ bytes: this.bytes } = await pixelsOf(this.file, this.section.model.image_shape, invert));
    else if (this.bytes && this.bytes.length !== size) this.bytes = null;
    this.#show();
  }

  #show() {
    if (this.bytes) show(this.canvas, gridOf(this.bytes, this.section.model.image_shape), this.title);
  }
}
