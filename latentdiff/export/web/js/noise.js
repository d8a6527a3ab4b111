// Standard normal noise, number for number that of torch's CPU generator: a seed draws here what it draws in Python.

/** The Mersenne twister MT19937 (Matsumoto and Nishimura 1998), seeded as torch seeds it. */
export class MersenneTwister {
  /** @param {number} seed From 0 to 2^32 - 1. */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const previous = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
    this.position = 624;
  }

  /** @returns {number} The next whole number from 0 to 2^32 - 1. */
  next() {
    if (this.position === 624) this.#twist();
    let y = this.state[this.position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist() {
    const state = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }
}

// torch draws fewer numbers than these in another way.
const BLOCK = 16;

/** The noise of one image: one random stream. */
export class Noise {
  /** @param {number} seed From 0 to 2^32 - 1. */
  constructor(seed) {
    this.random = new MersenneTwister(seed);
  }

  /**
   * @param {number} size At least 16.
   * @returns {Float32Array} The stream's next numbers.
   */
  draw(size) {
    if (size < BLOCK) throw new RangeError(`noise comes in at least ${BLOCK} numbers, not ${size}`);
    const numbers = this.#uniform(size);
    for (let start = 0; start + BLOCK <= size; start += BLOCK) boxMuller(numbers.subarray(start, start + BLOCK));
    if (size % BLOCK) {
      // torch draws the last 16 anew.
      const last = this.#uniform(BLOCK);
      boxMuller(last);
      numbers.set(last, size - BLOCK);
    }
    return numbers;
  }

  #uniform(size) {
    return Float32Array.from({ length: size }, () => (this.random.next() & 0xffffff) / (1 << 24));
  }
}

/** Turn 16 uniform numbers into normal ones, in place, in fp32 as torch does (Box and Muller 1958). */
function boxMuller(block) {
  const { fround, log, sqrt, cos, sin, PI } = Math;
  for (let i = 0; i < BLOCK / 2; i++) {
    const radius = fround(sqrt(fround(-2 * fround(log(fround(1 - block[i]))))));
    const angle = fround(fround(2 * PI) * block[i + BLOCK / 2]);
    block[i] = radius * fround(cos(angle));
    block[i + BLOCK / 2] = radius * fround(sin(angle));
  }
}

/** The noise of a batch. That of image i depends on (seed, i) alone, as in latentdiff/diffusion/noise.py. */
export class BatchNoise {
  /**
   * @param {number} seed From 0 to 2^32 - 1.
   * @param {number} images How many images, from image 0 on.
   * @param {number} size Numbers in an image's noise.
   */
  constructor(seed, images, size) {
    this.size = size;
    const first = Math.imul(seed, 0x9e3779b1);
    this.streams = Array.from({ length: images }, (_, index) => new Noise((first + index) >>> 0));
  }

  /** @returns {Float32Array} The next noise of each image, one after the other. */
  draw() {
    const all = new Float32Array(this.streams.length * this.size);
    this.streams.forEach((stream, index) => all.set(stream.draw(this.size), index * this.size));
    return all;
  }
}
