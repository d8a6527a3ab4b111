// Files of the page's folder: fetched, and unpacked.

/**
 * @param {URL} url
 * @param {(done: number, of: number) => void} onProgress In bytes; `of` is 0 where the server does not say.
 * @returns {Promise<Uint8Array>} The file's content; of a .gz file what it holds.
 */
export async function fetched(url, onProgress = () => {}) {
  const name = url.pathname.split("/").at(-1);
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error(`${name} cannot be fetched: is the network there?`);
  }
  if (!answer.ok) throw new Error(`${name} cannot be fetched: the server answers ${answer.status}`);
  const of = Number(answer.headers.get("content-length") ?? 0);
  const parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    parts.push(value);
    done += value.length;
    onProgress(done, of);
  }
  const content = new Uint8Array(await new Blob(parts).arrayBuffer());
  // Some servers send .gz files so that the browser unpacks them.
  const isPacked = content[0] === 0x1f && content[1] === 0x8b;
  if (!isPacked) return content;
  try {
    const unpacked = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  } catch {
    throw new Error(`${name} is damaged: it cannot be unpacked`);
  }
}
