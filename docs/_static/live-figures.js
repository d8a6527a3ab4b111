// The live figures of docs/concepts/what-a-latent-buys.md. They run on the page that latentdiff/export/web_folder.py
// writes, which the site has as page/: its sampling thread, and its way to draw pictures.

const PAGE = new URL("../page/", import.meta.url);
const SEED = 8;

async function start() {
  const places = [...document.querySelectorAll(".live")];
  let parts;
  try {
    const answer = await fetch(new URL("page.json", PAGE));
    if (!answer.ok) throw new Error(String(answer.status));
    const load = (name) => import(new URL(`js/${name}.js`, PAGE));
    const [models, pictures, thread, { toFloats }] = await Promise.all(["models", "pictures", "sampling_thread", "codec"].map(load));
    const page = await answer.json();
    const [latent, pixel] = page.models;
    parts = { latent, pixel, toFloats, ...models, ...pictures, thread: new thread.SamplingThread() };
  } catch {
    for (const place of places) {
      place.textContent = "This site was built without its models, so this figure is not here. Building it takes the " +
        "extra onnx and, the first time, a network.";
    }
    return;
  }
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const figure = new Figure(target, parts);
      FIGURES[target.dataset.figure](figure, parts).catch((error) => figure.say(error.message, true));
    }
  }, { rootMargin: "200px" });
  places.forEach((place) => seen.observe(place));
}

/** A figure's controls, pictures and words. */
class Figure {
  constructor(place, parts) {
    this.place = place;
    this.parts = parts;
    place.replaceChildren();
    this.knobs = place.appendChild(made("div", "knobs"));
    this.said = made("p", "said");
    this.said.setAttribute("role", "status");
    place.append(this.said);
  }

  slider(text, { min, max, step, value, unit = "" }, onChange) {
    const label = made("label");
    const input = Object.assign(made("input"), { type: "range", min, max, step, value });
    const output = made("output");
    input.id = `knob-${document.querySelectorAll(".live input").length}`;
    label.htmlFor = input.id;
    const show = () => (output.value = `${input.value}${unit}`);
    label.append(text, output, input);
    input.addEventListener("input", () => {
      show();
      onChange();
    });
    show();
    this.knobs.append(label);
    return input;
  }

  select(text, options, onChange) {
    const label = made("label");
    const select = made("select");
    this.parts.fill(select, options);
    select.addEventListener("change", onChange);
    label.append(text, select);
    this.knobs.append(label);
    return select;
  }

  button(text, onClick) {
    const button = Object.assign(made("button"), { type: "button", textContent: text });
    button.addEventListener("click", onClick);
    this.knobs.append(button);
  }

  /** A row of pictures, which are set by `row(i, picture, caption)`. */
  row(className = "") {
    const row = made("div", `pictures ${className}`);
    this.place.insertBefore(row, this.said);
    return (i, picture, caption) => {
      const figure = this.parts.figureOf(picture, caption);
      if (row.children[i]) row.children[i].replaceWith(figure);
      else row.append(figure);
    };
  }

  say(words, wrong = false) {
    this.said.textContent = words;
    this.said.classList.toggle("wrong", wrong);
  }

  /** Run `work` again and again while it is asked for, one at a time, the last request always. */
  latest(work) {
    let running = false;
    let again = false;
    return async () => {
      again = true;
      if (running) return;
      running = true;
      this.place.setAttribute("data-busy", "");
      try {
        while (again) {
          again = false;
          await work(() => again);
        }
      } catch (error) {
        this.say(error.message, true);
      }
      running = false;
      this.place.removeAttribute("data-busy");
    };
  }
}

function made(tag, className = "") {
  return Object.assign(document.createElement(tag), { className });
}

/** A garment that the latent model draws: its latents and its picture. */
async function garment({ thread, latent }, label, figure) {
  let last;
  const settings = { seed: SEED, images: 1, steps: 20, guidance: 1.5, sampler: "dpmpp_2m", show: "state" };
  await thread.run({ task: "sample", model: latent, settings, labels: [label] }, {
    onStep: (step) => (last = step),
    onProgress: ({ done, of }) => figure.say(`Loading the network: ${Math.round((100 * done) / of)}%`),
  });
  figure.say("");
  return { latents: last.x, images: last.images };
}

/** The latents of one garment, channel by channel, and decoded again. */
async function channels(figure, parts) {
  const { latent, thread, gridOf, channelOf, classesOf } = parts;
  const count = latent.latent_shape[0];
  const show = figure.row();
  let drawn;
  const draw = figure.latest(async () => {
    drawn = await garment(parts, Number(choice.value), figure);
    show(0, gridOf(drawn.images, latent.image_shape), "784 pixels");
    await change();
  });
  const change = figure.latest(async () => {
    if (!drawn) return;
    const plane = drawn.latents.length / count;
    const changed = drawn.latents.map((value, i) => value * Number(knobs[Math.floor(i / plane)].value));
    const { images } = await thread.run({ task: "decode", model: latent, batches: [changed] });
    for (let c = 0; c < count; c++) show(1 + c, channelOf(changed, latent.latent_shape, c), `channel ${c + 1}`);
    show(1 + count, gridOf(images[0], latent.image_shape), "decoded");
  });
  const choice = figure.select("Garment", classesOf(latent).map((name, i) => [i, name]), draw);
  const range = { min: -1, max: 2, step: 0.1, value: 1 };
  const knobs = Array.from({ length: count }, (_, c) => figure.slider(`Channel ${c + 1} times`, range, change));
  figure.button("As it was", () => {
    for (const knob of knobs) {
      knob.value = 1;
      knob.dispatchEvent(new Event("input"));
    }
  });
  await draw();
}

/** One garment with the same noise level in latents and in pixels. */
async function noise(figure, parts) {
  const { latent, pixel, thread, gridOf, channelOf, classesOf, toFloats } = parts;
  const [above, below] = [figure.row(), figure.row()];
  let drawn;
  const change = figure.latest(async () => {
    if (!drawn) return;
    const strength = Number(knob.value);
    const inLatents = await thread.run({ task: "noised", model: latent, latents: drawn.latents, strength, seed: SEED });
    above(0, gridOf(inLatents.images, latent.image_shape), "latents, decoded");
    for (let c = 0; c < latent.latent_shape[0]; c++) {
      above(1 + c, channelOf(inLatents.x, latent.latent_shape, c), `channel ${c + 1}`);
    }
    const inPixels = await thread.run({ task: "noised", model: pixel, latents: toFloats(drawn.images), strength, seed: SEED });
    below(0, gridOf(inPixels.images, pixel.image_shape), "pixels");
  });
  const draw = figure.latest(async () => {
    drawn = await garment(parts, Number(choice.value), figure);
    await change();
  });
  const choice = figure.select("Garment", classesOf(latent).map((name, i) => [i, name]), draw);
  const knob = figure.slider("Noise", { min: 0, max: 100, step: 1, value: 30, unit: "%" }, change);
  await draw();
}

/** Both models, drawing with the same settings. */
async function draw(figure, parts) {
  const { latent, pixel, thread, gridOf, classesOf, labelsOf, secondsText } = parts;
  const show = figure.row("large");
  let seed = SEED;
  const run = figure.latest(async (isAskedAgain) => {
    const settings = {
      seed, images: 4, steps: Number(steps.value), guidance: Number(guidance.value), sampler: "dpmpp_2m", show: "state",
    };
    for (const [i, model] of [latent, pixel].entries()) {
      const name = ["Latent", "Pixel"][i];
      const task = thread.run({ task: "sample", model, settings, labels: labelsOf(model, choice.value, 4) }, {
        onProgress: ({ done, of }) => figure.say(`${name}: loading the network, ${Math.round((100 * done) / of)}%`),
        onStep: ({ images, milliseconds, step, of }) => {
          figure.say(`${name}: step ${step} of ${of}`);
          if (images) show(i, gridOf(images, model.image_shape), `${name}: ${secondsText(milliseconds)}`);
          if (isAskedAgain()) task.cancel();
        },
      });
      try {
        await task;
      } catch (error) {
        if (error.message === "cancelled") return;
        throw error;
      }
    }
    figure.say(`Four images in ${settings.steps} steps, seed ${seed}.`);
  });
  const choice = figure.select("Class", [["turn", "Each in turn"], ...classesOf(latent).map((name, i) => [i, name])], run);
  const steps = figure.slider("Steps", { min: 1, max: 50, step: 1, value: 10 }, run);
  const guidance = figure.slider("Guidance", { min: 0, max: 6, step: 0.25, value: 1.5 }, run);
  figure.button("Next seed", () => {
    seed++;
    run();
  });
  await run();
}

const FIGURES = { channels, noise, draw };

start();
