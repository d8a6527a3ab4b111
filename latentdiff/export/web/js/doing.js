// What is being done, in words and as a bar. A screen reader is told of the end alone: it could not keep up with steps.

/** Show progress in an element that holds a paragraph and a bar. */
export function showProgress(place, words, done, of) {
  place.hidden = false;
  place.querySelector("p").textContent = words;
  Object.assign(place.querySelector("progress"), { value: done, max: of });
}
