"""Execute the tutorial and keep its outputs, small enough to be committed: ``python docs/figures/tutorial.py``."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[1] / "tutorial.ipynb"


def shrink(picture: str) -> str:
    """A PNG (base64) with at most 16 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def final_lines(text: str) -> str:
    """The lines that are no progress bar. A bar rewrites its line after each carriage return."""
    lines = [line.split("\r")[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return "".join(f"{line}\n" for line in lines if line and "|" not in line)


def clean(outputs: list[Any]) -> list[Any]:
    """Streams as one text without progress bars, and small pictures."""
    text = final_lines("".join(output.text for output in outputs if output.output_type == "stream"))
    found = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
    for output in outputs:
        if output.output_type == "stream":
            continue
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = shrink(output.data["image/png"])
        found.append(output)
    return found


def main() -> None:
    """Execute the notebook in a temporary folder and write it back."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=where).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = clean(cell.outputs)
            cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
