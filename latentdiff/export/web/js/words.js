// Prompts as tokens: a token a word of the training's captions, and bytes for other words, as in text/vocabulary.py.

// Token 0 is padding, 1 to 256 are the bytes, and the words follow.
const FIRST_BYTE = 1;
const FIRST_WORD = 257;
const WORD = /[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*|[^\p{L}\p{N}_\s]/gu;

/** The words of a prompt, in lower case. */
export function wordsOf(prompt) {
  return prompt.normalize("NFC").toLowerCase().match(WORD) ?? [];
}

/** @returns {number[]} A prompt's tokens, cut and filled up with 0 to what the model reads. */
export function tokensOf({ text }, prompt) {
  const tokens = allTokensOf(text, prompt);
  return Array.from({ length: text.context }, (_, i) => tokens[i] ?? 0);
}

/** @returns {number} How many tokens of a prompt are more than the model reads. */
export function tokensCut({ text }, prompt) {
  return Math.max(0, allTokensOf(text, prompt).length - text.context);
}

function allTokensOf(text, prompt) {
  const known = new Map(text.words.map((word, i) => [word, FIRST_WORD + i]));
  return wordsOf(prompt).flatMap((word) =>
    known.has(word) ? [known.get(word)] : Array.from(new TextEncoder().encode(` ${word}`), (byte) => FIRST_BYTE + byte),
  );
}

/** @returns {string[]} The words that no caption of the model's training had. */
export function newWords({ text }, prompt) {
  const known = new Set(text.words);
  return [...new Set(wordsOf(prompt))].filter((word) => !known.has(word));
}

/**
 * @param {number} scale Of guidance.
 * @returns What guidance steers away from: the tokens of a negative prompt, or of no caption where that is empty.
 * @throws {Error} In words for the user, for one that guidance would not heed: see inference/prompts.py.
 */
export function negativeOf(model, prompt, scale) {
  if (!model.text || !prompt.trim()) return nullLabelOf(model);
  if (scale === 0 || scale === 1) {
    throw new Error(`The negative prompt does nothing at guidance ${scale}: use more than 1, such as 2.`);
  }
  return tokensOf(model, prompt);
}

/** @returns The label that means "no class", or "no caption", to a model; null where it takes no labels. */
export function nullLabelOf(model) {
  return model.text ? new Array(model.text.context).fill(0) : model.null_label;
}
