// One model in use: its picture, what the picture is in its numbers, and what drawing it took.

import { classesOf, isLatent, megabytes, secondsText, shapeText, sizeOf } from "./models.js";
import { channelOf, gridOf, show } from "./pictures.js";

/** The steps of one run, and where they are drawn. */
export class ModelCard {
  constructor(model, title) {
    this.model = model;
    this.title = title;
    this.frames = []; // one for each step: {state, guess: latents, images: {state, guess}: bytes where decoded}
    this.labels = null;
    this.negative = null;
    this.milliseconds = 0;
    this.element = document.createElement("article");
    this.element.className = "card";
    const header = document.createElement("header");
    header.append(element("h3", title), element("p", this.#subtitle()));
    this.picture = element("canvas", "", "picture");
    [this.picture.width, this.picture.height] = [1, 1];
    const seen = element("div", "", "seen");
    this.channels = element("div", "", "channels");
    seen.append(element("p", isLatent(model) ? "The same in latents:" : "The same as numbers:"), this.channels);
    const meter = element("div");
    this.bar = element("i");
    const bar = element("div", "", "bar");
    bar.append(this.bar);
    this.facts = element("p", "", "facts");
    meter.append(bar, this.facts);
    this.element.append(header, this.picture, seen, meter);
  }

  #subtitle() {
    const { latent_shape: shape } = this.model;
    return `${sizeOf(shape)} numbers an image (${shapeText(shape)})`;
  }

  /** @param {object} asked What the next run is told: {labels, negative}, and the words {prompt, negativePrompt}. */
  clear({ labels, negative, prompt, negativePrompt }) {
    Object.assign(this, { labels, negative, prompt, negativePrompt });
    this.restart();
  }

  /** Forget the steps that there were. */
  restart() {
    this.frames = [];
    this.milliseconds = 0;
    this.bar.style.width = "0";
    this.facts.textContent = "";
  }

  /** @param {object} step Of worker.js; its images are of the kind `kind`. */
  add({ x, guess, images, milliseconds, passes }, kind) {
    const frame = { state: x, guess: guess ?? x, images: {} };
    if (images) frame.images[kind] = images;
    if (images && !guess) frame.images = { state: images, guess: images };
    this.frames.push(frame);
    this.milliseconds = milliseconds;
    this.passes = passes;
  }

  /** The steps that are not decoded yet for a kind, "state" or "guess". */
  missing(kind) {
    return this.frames.filter((frame) => !frame.images[kind]);
  }

  /** @returns {ImageData|null} A step's picture, or that of the last one before it that is decoded. */
  pictureAt(step, kind) {
    for (let at = Math.min(step, this.frames.length - 1); at >= 0; at--) {
      const bytes = this.frames[at].images[kind];
      if (bytes) return gridOf(bytes, this.model.image_shape);
    }
    return null;
  }

  paint(step, kind) {
    const frame = this.frames[Math.min(step, this.frames.length - 1)];
    if (!frame) return;
    const picture = this.pictureAt(step, kind);
    if (picture) {
      this.picture.style.aspectRatio = `${picture.width} / ${picture.height}`;
      show(this.picture, picture, this.#text(step));
    }
    const count = this.model.latent_shape[0];
    while (this.channels.childElementCount < count) {
      const figure = element("figure");
      figure.append(element("canvas"), element("figcaption", count > 1 ? `channel ${this.channels.childElementCount + 1}` : "one channel"));
      this.channels.append(figure);
    }
    [...this.channels.children].forEach((figure, channel) => {
      const text = `Channel ${channel + 1} of ${count} of the ${isLatent(this.model) ? "latents" : "pixels"}, in colours`;
      show(figure.firstChild, channelOf(frame[kind], this.model.latent_shape, channel), text);
    });
  }

  #text(step) {
    const names = classesOf(this.model);
    let what = this.labels ? this.labels.map((label) => names[label]).join(", ") : "no class";
    if (this.model.text) what = this.prompt.trim() || "captions of its training";
    if (this.negativePrompt.trim()) what += `; steered away from: ${this.negativePrompt.trim()}`;
    return `Drawn by the model ${this.title} after step ${step}: ${what}`;
  }

  /** @param {number} most Milliseconds of the slowest card. */
  measure(most) {
    if (!this.milliseconds) return;
    this.bar.style.width = `${(100 * this.milliseconds) / most}%`;
    this.facts.replaceChildren(
      element("b", secondsText(this.milliseconds)),
      ` for ${this.passes} passes through the network${isLatent(this.model) ? ", and decoding" : ""}. ` +
        `${megabytes(this.model).toFixed(1)} MB to fetch.`,
    );
  }
}

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}
