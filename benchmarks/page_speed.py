"""How large the exported page of Fashion-MNIST is, and how soon its first pictures are drawn.

``python -m benchmarks.page_speed`` writes the page of both released models, serves it on this machine, and opens it in
headless Chromium as a visitor does, several times, each in a new browser without a cache. It prints the folder's size,
and the seconds from asking for the address to the first picture, and to the end of the drawing, in which both models
draw four images in 20 steps. It needs the extras ``onnx`` and ``test``, and Chromium (``CHROMIUM`` names it).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from latentdiff.export.serve import server_of
from latentdiff.stages import export

MODELS = [f"checkpoints/fashion-mnist/{name}.safetensors" for name in ("latent", "pixel")]
TIMES = 3
FIRST_PICTURE = """() => [...document.querySelectorAll("canvas.picture")].some(canvas => {
  if (!canvas.width || !canvas.height) return false;
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(level => level > 0);
})"""
DRAWN = "html[data-ready]:not([data-busy])"


def seconds(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds until anything is drawn of the first picture, and until all is drawn."""
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_function(FIRST_PICTURE, polling=20)
    first = time.perf_counter() - begun
    page.wait_for_selector(DRAWN)
    whole = time.perf_counter() - begun
    page.context.close()
    return first, whole


def main() -> None:
    """Print the size and the times."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        export.main([*MODELS, "--to", "web", f"--run.folder={page}"])
        size = sum(file.stat().st_size for file in page.rglob("*") if file.is_file())
        print(f"the folder has {size / 1e6:.1f} MB")
        with server_of(page, 0) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            for link, words in (("#model=fashion-mnist-latent", "latent alone"), ("#model=both", "latent and pixel")):
                for _ in range(TIMES):
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    first, whole = seconds(browser, address + link)
                    browser.close()
                    print(f"{words}: first picture after {first:.2f} s, all drawn after {whole:.2f} s", flush=True)
            server.shutdown()


if __name__ == "__main__":
    main()
