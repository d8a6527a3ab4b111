// An image of the user's as the model's images are: a square, small, of one channel or three.

const LARGEST_FILE = 50e6;
const LARGEST_SIDE = 16384;

/**
 * @param {Blob} file
 * @param {number[]} shape [c, h, w] of the model's images.
 * @param {"no"|"yes"|"auto"} invert Whether light and dark are swapped; "auto" swaps grey images with a light edge.
 * @returns {Promise<{bytes: Uint8ClampedArray, inverted: boolean}>} Its pixels, [c, h, w].
 * @throws {Error} In words for the user, where the file is no image that the browser can read.
 */
export async function pixelsOf(file, shape, invert) {
  if (file.size > LARGEST_FILE) throw new Error(`That file has ${(file.size / 1e6).toFixed(0)} MB. At most 50 MB are read.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("That file cannot be read as an image. Choose a PNG, a JPEG or another kind that browsers show.");
  }
  try {
    if (Math.max(bitmap.width, bitmap.height) > LARGEST_SIDE) throw new Error("That image is too large.");
    return fromRgba(squareOf(bitmap, shape), shape, invert);
  } finally {
    bitmap.close();
  }
}

/** The middle square, halved until the last step is small: else thin lines would be missed. */
function squareOf(bitmap, [, height, width]) {
  let side = Math.min(bitmap.width, bitmap.height);
  let source = bitmap;
  let [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  while (side > 2 * width) {
    const half = Math.ceil(side / 2);
    source = drawn(source, left, top, side, half, half);
    [side, left, top] = [half, 0, 0];
  }
  return drawn(source, left, top, side, width, height).getContext("2d").getImageData(0, 0, width, height).data;
}

function drawn(source, left, top, side, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what is transparent is shown on white
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, side, side, 0, 0, width, height);
  return canvas;
}

function fromRgba(rgba, [channels, height, width], invert) {
  const plane = height * width;
  const bytes = new Uint8ClampedArray(channels * plane);
  for (let at = 0; at < plane; at++) {
    const [r, g, b] = rgba.subarray(4 * at, 4 * at + 3);
    if (channels === 3) [bytes[at], bytes[plane + at], bytes[2 * plane + at]] = [r, g, b];
    else bytes[at] = 0.299 * r + 0.587 * g + 0.114 * b;
  }
  const inverted = invert === "yes" || (invert === "auto" && channels === 1 && edgeOf(bytes, height, width) > 127);
  if (inverted) for (let i = 0; i < bytes.length; i++) bytes[i] = 255 - bytes[i];
  return { bytes, inverted };
}

/** The mean grey of the outermost pixels. */
function edgeOf(bytes, height, width) {
  const edge = bytes.filter((_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  return edge.reduce((sum, value) => sum + value, 0) / edge.length;
}
