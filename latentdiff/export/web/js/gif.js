// An animated GIF (GIF89a) of pictures of one size, with one table of 256 colours for all.

/**
 * @param {ImageData[]} frames Of one size.
 * @param {number} hundredths How long each is shown, in hundredths of a second; the last one is shown ten times as long.
 * @returns {Uint8Array} The file.
 */
export function gifOf(frames, hundredths) {
  const { width, height } = frames[0];
  const table = coloursOf(frames);
  const nearest = finder(table);
  const out = [..."GIF89a"].map((letter) => letter.charCodeAt(0));
  const short = (value) => out.push(value & 255, value >> 8);
  short(width);
  short(height);
  out.push(0xf7, 0, 0, ...table.flat());
  out.push(0x21, 0xff, 11, ...[..."NETSCAPE2.0"].map((letter) => letter.charCodeAt(0)), 3, 1, 0, 0, 0);
  frames.forEach((frame, index) => {
    out.push(0x21, 0xf9, 4, 0);
    short(index + 1 === frames.length ? 10 * hundredths : hundredths);
    out.push(0, 0, 0x2c, 0, 0, 0, 0);
    short(width);
    short(height);
    out.push(0, 8);
    const pixels = new Uint8Array(width * height);
    for (let i = 0; i < pixels.length; i++) pixels[i] = nearest(...frame.data.subarray(4 * i, 4 * i + 3));
    const packed = compressed(pixels);
    for (let at = 0; at < packed.length; at += 255) {
      const block = packed.slice(at, at + 255);
      out.push(block.length);
      for (const byte of block) out.push(byte);
    }
    out.push(0);
  });
  out.push(0x3b);
  return Uint8Array.from(out);
}

/** 256 colours for the frames: the greys where all is grey, else by cutting at the median (Heckbert 1982). */
function coloursOf(frames) {
  const seen = new Map();
  for (const { data } of frames) {
    for (let at = 0; at < data.length; at += 4) {
      const key = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2];
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  }
  const colours = [...seen].map(([key, count]) => ({ rgb: [key >> 16, (key >> 8) & 255, key & 255], count }));
  if (colours.every(({ rgb: [r, g, b] }) => r === g && g === b)) return Array.from({ length: 256 }, (_, i) => [i, i, i]);
  const boxes = [boxOf(colours)];
  while (boxes.length < 256) {
    const widest = boxes.reduce((a, b) => (b.weight > a.weight ? b : a));
    if (widest.colours.length < 2) break;
    boxes.splice(boxes.indexOf(widest), 1, ...halves(widest));
  }
  const table = boxes.map(({ colours: own }) => {
    const count = own.reduce((sum, each) => sum + each.count, 0);
    return [0, 1, 2].map((c) => Math.round(own.reduce((sum, each) => sum + each.rgb[c] * each.count, 0) / count));
  });
  while (table.length < 256) table.push([0, 0, 0]);
  return table;
}

function boxOf(colours) {
  const ranges = [0, 1, 2].map((c) => {
    const values = colours.map(({ rgb }) => rgb[c]);
    return values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  });
  const range = Math.max(...ranges);
  return { colours, channel: ranges.indexOf(range), weight: colours.length < 2 ? -1 : range * Math.log2(1 + colours.length) };
}

function halves({ colours, channel }) {
  const sorted = colours.toSorted((a, b) => a.rgb[channel] - b.rgb[channel]);
  const middle = sorted.length >> 1;
  return [boxOf(sorted.slice(0, middle)), boxOf(sorted.slice(middle))];
}

/** A function from a colour to the place of the nearest in the table, which remembers what it found. */
function finder(table) {
  const known = new Map();
  return (r, g, b) => {
    const key = (r << 16) | (g << 8) | b;
    if (!known.has(key)) {
      let best = Infinity;
      table.forEach(([tr, tg, tb], index) => {
        const distance = (r - tr) ** 2 + (g - tg) ** 2 + (b - tb) ** 2;
        if (distance < best) {
          best = distance;
          known.set(key, index);
        }
      });
    }
    return known.get(key);
  };
}

/** LZW (Welch 1984) with codes of 9 to 12 bits, as GIF has it for 256 colours. */
export function compressed(pixels) {
  const [clear, end] = [256, 257];
  const bytes = [];
  let [held, heldBits, width] = [0, 0, 9];
  const put = (code) => {
    held |= code << heldBits;
    for (heldBits += width; heldBits >= 8; heldBits -= 8) {
      bytes.push(held & 255);
      held >>>= 8;
    }
  };
  let codes = new Map();
  let next = end + 1;
  put(clear);
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = (prefix << 8) | pixels[i];
    if (codes.has(key)) {
      prefix = codes.get(key);
      continue;
    }
    put(prefix);
    if (next < 4096) {
      if (next === 1 << width) width++;
      codes.set(key, next++);
    } else {
      put(clear);
      codes = new Map();
      [next, width] = [end + 1, 9];
    }
    prefix = pixels[i];
  }
  put(prefix);
  if (next === 1 << width && width < 12) width++;
  put(end);
  if (heldBits) bytes.push(held & 255);
  return bytes;
}
