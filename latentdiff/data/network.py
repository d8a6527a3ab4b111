"""Whether a server answers, asked before a download so that a machine without a network is told so within seconds."""

from __future__ import annotations

import threading
import urllib.request

SECONDS_TO_ANSWER = 4.0


def answers(url: str, seconds: float = SECONDS_TO_ANSWER) -> bool:
    """Whether a HEAD request for ``url`` succeeds within ``seconds``.

    Asked in a daemon thread, since resolving a name has no time-out of its own.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
