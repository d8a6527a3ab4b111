// Images and latents on canvases, each at its own size: the style sheet enlarges them.

// Pixels between the images of a grid, and between pictures side by side.
const GAP = 1;
const WIDE_GAP = 2;

/** @returns {number} Columns of a grid of so many images, about square. */
export function columnsOf(count) {
  return Math.ceil(Math.sqrt(count));
}

/**
 * A grid of images as RGBA, with gaps that are transparent, so that the ground shows in any colour scheme.
 * @param {Uint8ClampedArray} bytes Images one after the other, each [c, h, w], of one channel or three.
 * @param {number[]} shape [c, h, w].
 */
export function gridOf(bytes, [channels, height, width]) {
  const count = bytes.length / (channels * height * width);
  const columns = columnsOf(count);
  const rows = Math.ceil(count / columns);
  const grid = new ImageData(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP);
  const plane = height * width;
  for (let i = 0; i < count; i++) {
    const [top, left] = [Math.floor(i / columns) * (height + GAP), (i % columns) * (width + GAP)];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const to = 4 * ((top + y) * grid.width + left + x);
        const from = i * channels * plane + y * width + x;
        for (let c = 0; c < 3; c++) grid.data[to + c] = bytes[from + (channels === 3 ? c * plane : 0)];
        grid.data[to + 3] = 255;
      }
    }
  }
  return grid;
}

// Colours of latents: from the first over the middle to the last, at -LIMIT, 0 and LIMIT standard deviations.
const COLOURS = [[33, 102, 172], [247, 247, 247], [178, 24, 43]];
const LIMIT = 3;

/** One channel of latents, [c, h, w] one after the other, as a grid in colours. */
export function channelOf(latents, [channels, height, width], channel) {
  const plane = height * width;
  const count = latents.length / (channels * plane);
  const colours = new Uint8ClampedArray(count * 3 * plane);
  for (let i = 0; i < count; i++) {
    for (let at = 0; at < plane; at++) {
      const value = Math.max(-1, Math.min(1, latents[(i * channels + channel) * plane + at] / LIMIT));
      const end = COLOURS[value < 0 ? 0 : 2];
      for (let c = 0; c < 3; c++) {
        colours[(i * 3 + c) * plane + at] = COLOURS[1][c] + Math.abs(value) * (end[c] - COLOURS[1][c]);
      }
    }
  }
  return gridOf(colours, [3, height, width]);
}

/** Show a picture on a canvas, which takes its size, with a text for those who do not see it. */
export function show(canvas, picture, text) {
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
}

/** @returns {HTMLElement} A figure with a picture and a caption. */
export function figureOf(picture, caption, text = caption) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const line = document.createElement("figcaption");
  show(canvas, picture, text);
  line.textContent = caption;
  figure.append(canvas, line);
  return figure;
}

/** Pictures side by side, each pixel `scale` wide. The ground, [r, g, b], fills what lies between the images. */
export function sideBySide(pictures, scale, ground) {
  const width = pictures.reduce((sum, picture) => sum + picture.width + WIDE_GAP, -WIDE_GAP);
  const joined = new ImageData(width * scale, Math.max(...pictures.map((picture) => picture.height)) * scale);
  const opaque = [...ground, 255];
  for (let at = 0; at < joined.data.length; at += 4) joined.data.set(opaque, at);
  let left = 0;
  for (const picture of pictures) {
    for (let y = 0; y < picture.height * scale; y++) {
      for (let x = 0; x < picture.width * scale; x++) {
        const from = 4 * (Math.floor(y / scale) * picture.width + Math.floor(x / scale));
        if (picture.data[from + 3] === 0) continue;
        joined.data.set(picture.data.subarray(from, from + 3), 4 * (y * joined.width + left * scale + x));
      }
    }
    left += picture.width + WIDE_GAP;
  }
  return joined;
}
