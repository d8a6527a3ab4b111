"""Downloads through torchvision: whole or not at all, and quickly given up where no server answers."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentdiff.data.network import answers


def download(title: str, root: Path, folder: Path, urls: Sequence[str], fetch: Callable[[str], Any]) -> bool:
    """Let ``fetch`` fill a temporary folder, then move its ``folder`` under ``root``.

    Args:
        title: What people call the data set.
        root: The data root.
        folder: Where below it the set lies.
        urls: At least one of them must answer before anything is tried.
        fetch: Called with the temporary root.

    Returns: Whether the set is there now; why not is printed.
    """
    if not any(answers(url) for url in urls):
        return False
    print(f"downloading {title} to {root / folder}", flush=True)
    root.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
        try:
            socket.setdefaulttimeout(20.0)
            fetch(temporary)
            (root / folder.parent).mkdir(parents=True, exist_ok=True)
            os.replace(Path(temporary) / folder, root / folder)
        # torchvision raises RuntimeError for a wrong checksum, gdown errors of its own for a spent quota.
        except Exception as error:
            print(f"the download of {title} failed: {error}", flush=True)
            return False
        finally:
            socket.setdefaulttimeout(previous)
    return True
