// The settings in the page's address, so that a link holds them all.

/** @returns {string} The part of an address after #. */
export function linkOf(settings) {
  return new URLSearchParams(settings).toString();
}

/**
 * @param {string} hash The address's part from # on; another's text, of which only what is allowed is taken.
 * @param {Record<string, string[] | {least: number, most: number, whole?: boolean} | {letters: number}>} allowed The values of each setting.
 * @returns {Record<string, string>} The settings that it gives.
 */
export function settingsOf(hash, allowed) {
  const given = {};
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const values = allowed[name];
    if (!Object.hasOwn(allowed, name)) continue;
    if (values.letters) {
      given[name] = text.slice(0, values.letters);
    } else if (Array.isArray(values)) {
      if (values.includes(text)) given[name] = text;
    } else if (/^\d+(\.\d+)?$/.test(text) && +text >= values.least && +text <= values.most) {
      given[name] = String(values.whole ? Math.round(+text) : +text);
    }
  }
  return given;
}
