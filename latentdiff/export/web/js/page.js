// The page: it reads what there is to draw with, and starts its parts.

import { DeviceChoice, gpuKind } from "./device_choice.js";
import { DrawSection } from "./draw_section.js";
import { classesOf, dataTitle, isLatent, shapeText, titlesOf } from "./models.js";
import { OwnSection } from "./own_section.js";
import { SamplingThread } from "./sampling_thread.js";

const byId = (id) => document.getElementById(id);

async function start() {
  const thread = new SamplingThread();
  const [page, gpu] = await Promise.all([pageSettings(), gpuKind()]);
  new DeviceChoice(byId("device-choice"), thread, gpu);
  const drawing = new DrawSection(page, thread);
  new OwnSection(page, thread, drawing);
  describe(page);
  await drawing.draw();
}

async function pageSettings() {
  const answer = await fetch(new URL("../page.json", import.meta.url));
  if (!answer.ok) throw new Error(`page.json cannot be fetched: the server answers ${answer.status}`);
  return answer.json();
}

function describe({ models, latentdiff }) {
  const titles = titlesOf(models);
  const data = new Set(models.map((model) => model.data));
  if (data.size === 1 && models[0].data) {
    byId("draw-title").textContent = `${dataTitle(models[0].data)}, from noise`;
    document.title = `${dataTitle(models[0].data)} from noise, in this browser`;
  }
  byId("models").replaceChildren(
    ...models.map((model, i) => {
      const part = document.createElement("section");
      part.style.margin = 0;
      const heading = document.createElement("h3");
      heading.textContent = titles[i] === model.name ? model.name : `${titles[i]}: ${model.name}`;
      const list = document.createElement("dl");
      const size = Object.values(model.graphs).reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
      const rows = {
        Images: shapeText(model.image_shape),
        "Works on": isLatent(model) ? `latents, ${shapeText(model.latent_shape)}` : "the pixels themselves",
        Classes: listed(classesOf(model)),
        Network: `${model.parameters.toLocaleString("en")} parameters`,
        Files: `${size.toFixed(1)} MB`,
        "SHA-256": `${model.model.sha256.slice(0, 16)}…`,
        "Written by": `latentdiff ${latentdiff}`,
      };
      for (const [term, text] of Object.entries(rows)) {
        const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
        [dt.textContent, dd.textContent] = [term, text];
        list.append(dt, dd);
      }
      part.append(heading, list);
      return part;
    }),
  );
}

function listed(names) {
  const shown = names.slice(0, 12).join(", ");
  return names.length > 12 ? `${shown} and ${names.length - 12} more` : shown || "none";
}

start().catch((error) => {
  byId("notice").textContent = error.message;
  byId("notice").hidden = false;
});
