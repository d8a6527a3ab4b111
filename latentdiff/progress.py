"""Progress bars for a terminal and a notebook. They are silent in a file or a pipe, and in all but one process."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from latentdiff import distributed


def progress_bar(*args: Any, **settings: Any) -> tqdm[Any]:
    """A tqdm bar, shown by the main process in a terminal or a notebook.

    Args:
        args, settings: tqdm's own.
    """
    if not distributed.is_main_process():
        settings["disable"] = True
    elif "ipykernel" in sys.modules:  # a notebook's output is no terminal, but somebody watches it
        settings = {"file": sys.stdout, "disable": False, "mininterval": 1.0} | settings
    else:
        settings.setdefault("disable", None)
    return tqdm(*args, **settings)
