// The part of the page that draws: settings, the run, the steps afterwards, and what is saved of it.

import { showProgress } from "./doing.js";
import { gifOf } from "./gif.js";
import { linkOf, settingsOf } from "./link.js";
import { ModelCard } from "./model_card.js";
import { SAMPLER_TITLES, areComparable, classesOf, fill, labelsOf, secondsText, sizeOf, titlesOf } from "./models.js";
import { sideBySide } from "./pictures.js";
import { CancelledError } from "./sampling_thread.js";
import { negativeOf, newWords, tokensCut } from "./words.js";

const byId = (id) => document.getElementById(id);
const BOTH = "both";
// More models than these are chosen from a list.
const MOST_BUTTONS = 3;
// Pixels of a saved picture's width, for each model.
const PNG_WIDTH = 448;
const GIF_WIDTH = 224;
// Milliseconds that the steps are played for.
const PLAY = 2500;

export class DrawSection {
  constructor(page, thread) {
    this.page = page;
    this.thread = thread;
    this.form = byId("settings");
    this.titles = titlesOf(page.models);
    this.comparable = page.models.filter((model) => areComparable(model, page.models[0])).slice(0, 3);
    this.cards = [];
    this.running = null;
    this.#offerModels();
    this.#listen();
    this.#apply(settingsOf(location.hash, this.#allowed()));
  }

  // --- settings ---

  #offerModels() {
    const choices = this.page.models.map((model, i) => [model.name, this.titles[i]]);
    if (this.comparable.length > 1) choices.push([BOTH, this.comparable.length > 2 ? "All" : "Both"]);
    if (choices.length > MOST_BUTTONS) {
      const select = Object.assign(document.createElement("select"), { name: "model" });
      select.setAttribute("aria-label", "Model");
      fill(select, choices);
      byId("model-choice").append(select);
    } else {
      byId("model-choice").append(...choices.map(([value, text]) => radio("model", value, text)));
    }
    byId("model-choice").hidden = choices.length < 2;
  }

  #allowed() {
    const { models } = this.page;
    const classes = Math.max(...models.map((model) => model.null_label ?? 0));
    return {
      model: [...models.map((model) => model.name), ...(this.comparable.length > 1 ? [BOTH] : [])],
      class: ["turn", ...Array.from({ length: classes }, (_, i) => String(i))],
      images: ["1", "4", "9", "16"],
      seed: { least: 0, most: 2 ** 32 - 1, whole: true },
      steps: { least: 1, most: 50, whole: true },
      guidance: { least: 0, most: 6 },
      sampler: Object.keys(SAMPLER_TITLES),
      show: ["state", "guess"],
      prompt: { letters: 500 },
      negative_prompt: { letters: 500 },
    };
  }

  #apply(given) {
    const usual = this.page.models[0].defaults;
    const settings = {
      model: this.comparable.length > 1 ? BOTH : this.page.models[0].name,
      class: "turn",
      prompt: "",
      negative_prompt: "",
      images: "4",
      seed: usual.seed,
      steps: usual.steps,
      guidance: usual.guidance_scale,
      sampler: usual.sampler,
      show: "state",
      ...given,
    };
    this.form.elements.model.value = settings.model;
    this.#modelChanged();
    for (const [name, value] of Object.entries(settings)) this.form.elements[name].value = value;
    // A class or a sampler that this model has not.
    for (const name of ["class", "sampler"]) {
      if (this.form.elements[name].selectedIndex < 0) this.form.elements[name].selectedIndex = 0;
    }
    this.#showNumbers();
  }

  /** The models that are chosen. */
  get models() {
    const chosen = this.form.elements.model.value;
    return chosen === BOTH ? this.comparable : this.page.models.filter((model) => model.name === chosen);
  }

  get settings() {
    const { elements } = this.form;
    return {
      seed: Number(elements.seed.value),
      images: Number(elements.images.value),
      steps: Number(elements.steps.value),
      guidance: this.models[0].can_guide ? Number(elements.guidance.value) : 1,
      sampler: elements.sampler.value,
      show: elements.show.value,
      // An input that is hidden keeps its words for when it is back.
      prompt: elements.prompt.disabled ? "" : elements.prompt.value,
      negativePrompt: elements.negative_prompt.disabled ? "" : elements.negative_prompt.value,
    };
  }

  #modelChanged() {
    const [model] = this.models;
    const names = classesOf(model);
    byId("class-row").hidden = names.length === 0;
    byId("prompt-row").hidden = this.form.elements.prompt.disabled = !model.text;
    if (model.text) this.form.elements.prompt.placeholder = model.captions[0] ?? "";
    byId("guidance-row").hidden = !model.can_guide;
    byId("negative-row").hidden = this.form.elements.negative_prompt.disabled = !model.text || !model.can_guide;
    fill(this.form.elements.class, [["turn", "Each in turn"], ...names.map((name, i) => [i, name])]);
    const samplers = model.samplers.filter((name) => this.models.every((each) => each.samplers.includes(name)));
    fill(this.form.elements.sampler, samplers.map((name) => [name, SAMPLER_TITLES[name]]));
    this.form.elements.steps.max = Math.min(...this.models.map((each) => each.levels.length));
  }

  #showNumbers() {
    byId("steps-shown").value = this.form.elements.steps.value;
    byId("guidance-shown").value = Number(this.form.elements.guidance.value).toFixed(2);
  }

  // --- the run ---

  /** Draw with the settings as they are; a run that goes on is cancelled first. */
  async draw() {
    if (!this.form.reportValidity()) return;
    this.running?.cancel();
    const turn = (this.turn = Symbol("turn"));
    const { settings, models } = this;
    history.replaceState(null, "", `#${linkOf(Object.fromEntries(new FormData(this.form)))}`);
    this.#stop();
    const note = noteOn(models[0], settings);
    this.#say(note);
    this.#busy(true);
    try {
      this.#setCards(models, settings);
      this.finished = false;
      for (const card of this.cards) await this.#drawOne(card, settings, turn);
      this.#finish(settings, note);
      await this.#decodeMissing(turn);
    } catch (error) {
      if (turn !== this.turn) return; // another run has begun
      if (error instanceof CancelledError) this.#say("Cancelled.");
      else this.#say(error.message, true);
    } finally {
      if (turn === this.turn) this.#busy(false);
    }
  }

  /** @throws {Error} Before anything changes, for a negative prompt that guidance would not heed. */
  #setCards(models, { images, guidance, prompt, negativePrompt }) {
    const negative = negativeOf(models[0], negativePrompt, guidance); // comparable models read the same words
    const same = this.cards.length === models.length && this.cards.every((card, i) => card.model === models[i]);
    if (!same) {
      this.cards = models.map((model) => new ModelCard(model, this.titles[this.page.models.indexOf(model)]));
      byId("cards").replaceChildren(...this.cards.map((card) => card.element));
      byId("cards").classList.toggle("alone", models.length === 1);
    }
    const chosen = this.form.elements.class.value;
    for (const card of this.cards) {
      card.clear({ labels: labelsOf(card.model, chosen, images, prompt), negative, prompt, negativePrompt });
    }
  }

  async #drawOne(card, settings, turn) {
    const task = { task: "sample", model: card.model, settings, labels: card.labels, negative: card.negative };
    this.#progress(`${card.title}: loading`, 0, 1);
    this.running = this.thread.run(task, {
      onProgress: ({ done, of }) => this.#progress(`${card.title}: loading the network`, done, of),
      onStep: (step) => {
        if (turn !== this.turn) return;
        card.add(step, settings.show);
        this.#progress(`${card.title}: step ${step.step} of ${step.of}`, step.step, step.of);
        this.#setStep(step.step, step.of);
        card.paint(step.step, settings.show);
        this.#measure();
      },
      onRestart: () => card.restart(),
    });
    await this.running;
  }

  #measure() {
    const most = Math.max(...this.cards.map((card) => card.milliseconds));
    for (const card of this.cards) card.measure(most);
  }

  #finish({ steps }, note) {
    this.#say(`${note} Drawn. Drag the slider through the steps.`.trim());
    this.finished = true;
    const byTime = [...this.cards].sort((a, b) => a.milliseconds - b.milliseconds);
    const [fast, slow] = [byTime[0], byTime.at(-1)];
    const numbers = (card) => sizeOf(card.model.latent_shape);
    const found = byId("finding");
    if (fast === slow) {
      found.replaceChildren(`${steps} steps in `, bold(secondsText(fast.milliseconds)), `, on ${numbers(fast)} numbers an image.`);
      return;
    }
    found.replaceChildren(
      `${steps} steps, the same seed: `,
      bold(`${fast.title} ${secondsText(fast.milliseconds)}, ${slow.title} ${secondsText(slow.milliseconds)}`),
      `, ${(slow.milliseconds / fast.milliseconds).toFixed(1)} times as long. ` +
        `${fast.title} works on ${numbers(fast)} numbers an image, ${slow.title} on ${numbers(slow)}.`,
    );
  }

  /** Decode, after the run, the steps for which there was no time in it. */
  async #decodeMissing(turn, kind = this.form.elements.show.value) {
    for (const card of this.cards) {
      const frames = card.missing(kind);
      for (let at = 0; at < frames.length; at += 5) {
        const some = frames.slice(at, at + 5);
        const batches = some.map((frame) => frame[kind]);
        this.running = this.thread.run({ task: "decode", model: card.model, batches });
        const { images } = await this.running;
        if (turn !== this.turn) return;
        some.forEach((frame, i) => (frame.images[kind] = images[i]));
        this.#paint();
      }
    }
  }

  // --- the steps afterwards ---

  get step() {
    return Number(byId("step").value);
  }

  #setStep(step, of) {
    Object.assign(byId("step"), { max: of, value: step, disabled: false });
    this.#nameStep();
  }

  #nameStep() {
    const of = Number(byId("step").max);
    byId("step-shown").value = this.step ? `step ${this.step} of ${of}` : "noise";
    byId("step").setAttribute("aria-valuetext", byId("step-shown").value);
  }

  #paint() {
    for (const card of this.cards) card.paint(this.step, this.form.elements.show.value);
    this.#nameStep();
  }

  #stop() {
    clearTimeout(this.player);
    byId("play").setAttribute("aria-pressed", "false");
    byId("play").textContent = "Play";
  }

  #play() {
    const of = Number(byId("step").max);
    byId("play").setAttribute("aria-pressed", "true");
    byId("play").textContent = "Pause";
    byId("step").value = this.step >= of ? 0 : this.step;
    const tick = () => {
      this.#paint();
      if (this.step >= of) return this.#stop();
      this.player = setTimeout(() => {
        byId("step").value = this.step + 1;
        tick();
      }, Math.max(60, PLAY / of));
    };
    tick();
  }

  // --- what is saved ---

  #picture(step, width) {
    const kind = this.form.elements.show.value;
    const pictures = this.cards.map((card) => card.pictureAt(step, kind)).filter(Boolean);
    return sideBySide(pictures, Math.max(1, Math.round(width / pictures[0].width)), gapColour());
  }

  #fileName(suffix) {
    const { seed } = this.settings;
    return `${this.cards.map((card) => card.model.name).join("-")}-seed-${seed}.${suffix}`;
  }

  savePng() {
    const picture = this.#picture(this.step, PNG_WIDTH);
    const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
    canvas.getContext("2d").putImageData(picture, 0, 0);
    canvas.toBlob((blob) => save(blob, this.#fileName("png")), "image/png");
  }

  saveGif() {
    const of = Number(byId("step").max);
    const frames = Array.from({ length: of + 1 }, (_, step) => this.#picture(step, GIF_WIDTH));
    save(new Blob([gifOf(frames, 12)], { type: "image/gif" }), this.#fileName("gif"));
  }

  async copyLink() {
    const hash = linkOf(Object.fromEntries(new FormData(this.form)));
    history.replaceState(null, "", `#${hash}`);
    try {
      await navigator.clipboard.writeText(location.href);
      this.#say("The link is copied. It holds all settings.");
    } catch {
      this.#say(`The link: ${location.href}`);
    }
  }

  // --- wires ---

  #listen() {
    const { form } = this;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.draw();
    });
    form.addEventListener("input", () => this.#showNumbers());
    form.addEventListener("change", ({ target }) => {
      if (target.name === "model") this.#modelChanged();
      if (target.name !== "seed") this.draw();
    });
    // These two stand outside of the form, where its events do not come from.
    for (const input of form.elements.show) input.addEventListener("change", () => this.#showChanged());
    byId("next-seed").addEventListener("click", () => {
      form.elements.seed.value = (Number(form.elements.seed.value) + 1) % 2 ** 32;
      this.draw();
    });
    byId("cancel").addEventListener("click", () => this.running?.cancel());
    byId("step").addEventListener("input", () => {
      this.#stop();
      this.#paint();
    });
    byId("play").addEventListener("click", () => {
      if (byId("play").getAttribute("aria-pressed") === "true") this.#stop();
      else this.#play();
    });
    byId("save-png").addEventListener("click", () => this.savePng());
    byId("save-gif").addEventListener("click", () => this.saveGif());
    byId("copy-link").addEventListener("click", () => this.copyLink());
    addEventListener("hashchange", () => {
      const given = settingsOf(location.hash, this.#allowed());
      if (Object.keys(given).length === 0) return; // a link to a part of the page
      this.#apply(given);
      this.draw();
    });
  }

  async #showChanged() {
    this.#paint();
    if (!this.finished) return; // the run goes on, in its own way
    const { turn } = this;
    this.#busy(true);
    try {
      await this.#decodeMissing(turn);
    } catch (error) {
      if (!(error instanceof CancelledError)) this.#say(error.message, true);
    } finally {
      if (turn === this.turn) this.#busy(false);
    }
  }

  #busy(busy) {
    byId("cancel").disabled = !busy;
    if (!busy) byId("doing").hidden = true;
    for (const id of ["play", "save-png", "save-gif"]) byId(id).disabled = busy || !this.finished;
    document.documentElement.toggleAttribute("data-busy", busy);
    if (!busy) document.documentElement.setAttribute("data-ready", "");
  }

  #progress(words, done, of) {
    showProgress(byId("doing"), words, done, of);
  }

  #say(words, wrong = false) {
    byId("status").textContent = words;
    byId("status").classList.toggle("wrong", wrong);
  }
}

/** What a prompt loses: words that the model has never read, and what is too long for it. */
function noteOn(model, { prompt, negativePrompt }) {
  if (!model.text) return "";
  const words = newWords(model, `${prompt} ${negativePrompt}`);
  const notes = words.length ? [`New to the model: ${words.slice(0, 8).join(", ")}.`] : [];
  for (const [name, text] of [["prompt", prompt], ["negative prompt", negativePrompt]]) {
    const cut = tokensCut(model, text);
    if (cut) notes.push(`The ${name} is too long: its last ${cut} of ${cut + model.text.context} tokens are cut.`);
  }
  return notes.join(" ");
}

/** @returns {number[]} The style sheet's colour between images, [r, g, b]. */
function gapColour() {
  const digits = getComputedStyle(document.documentElement).getPropertyValue("--gap").trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function radio(name, value, text) {
  const label = document.createElement("label");
  const span = document.createElement("span");
  span.textContent = text;
  label.append(Object.assign(document.createElement("input"), { type: "radio", name, value }), span);
  return label;
}

function bold(text) {
  const made = document.createElement("b");
  made.textContent = text;
  return made;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
