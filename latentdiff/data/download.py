"""Downloads through torchvision: complete or not at all, with a quick failure if no server answers."""

from __future__ import annotations

import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from latentdiff.files import temporary_folder

# Seconds that a server has to answer, before a download is tried at all.
SECONDS_TO_ANSWER = 4.0
_allowed: ContextVar[bool] = ContextVar("downloads_allowed", default=True)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Forbid downloads in the block: a data set that is not on this machine is then missing."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def downloads_allowed() -> bool:
    """Whether a server may be asked: not within :func:`no_downloads`."""
    return _allowed.get()


def download(title: str, root: Path, folder: Path, urls: Sequence[str], fetch: Callable[[str], Any]) -> bool:
    """Download a data set: let ``fetch`` fill a temporary folder, then move its ``folder`` under ``root``.

    Args:
        title: The data set's name in messages.
        root: The folder of all data sets.
        folder: The data set's folder, relative to ``root``.
        urls: Addresses. The download is tried only if at least one of them answers.
        fetch: Downloads the data set into the folder that it is called with.

    Returns:
        Whether the data set is there now. A download that failed prints why.
    """
    if not downloads_allowed() or not any(server_answers(url) for url in urls):
        return False
    print(f"downloading {title} to {root / folder}", flush=True)
    was_there = _holds_files(root / folder)
    root.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    with temporary_folder(root / folder.name) as temporary:
        try:
            socket.setdefaulttimeout(20.0)
            fetch(str(temporary))
            (root / folder.parent).mkdir(parents=True, exist_ok=True)
            os.replace(temporary / folder, root / folder)
        # torchvision raises RuntimeError for a wrong checksum, gdown errors of its own for a spent quota.
        except Exception as error:
            if not was_there and _holds_files(root / folder):
                return True  # another process has downloaded it in the meantime
            print(f"the download of {title} failed: {error}", flush=True)
            return False
        finally:
            socket.setdefaulttimeout(previous)
    return True


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def server_answers(url: str, seconds: float = SECONDS_TO_ANSWER, whatever: bool = False) -> bool:
    """Ask whether a HEAD request for ``url`` succeeds within ``seconds``, or is answered at all, ``whatever`` it is.

    A machine without a network learns it within seconds. A daemon thread asks, since resolving a name has no time-out.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            if whatever:
                answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
