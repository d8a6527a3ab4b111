"""Gradio, and what makes a function of the studio a handler of the page's events."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from latentdiff.app.pictures import escape
from latentdiff.errors import LatentdiffError
from latentdiff.extras import import_extra
from latentdiff.os_errors import describe_os_error

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = import_extra("gradio", "app")

# Of events that cost nothing: they need not wait for a drawing.
LIGHT: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "light", "show_progress": "hidden"}
LONGEST_MESSAGE = 500


def in_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors become one readable line in the page.

    An unexpected error is printed in the terminal with its traceback.
    """

    @functools.wraps(function)
    def answer(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise _as_message(error) from None

    @functools.wraps(function)
    def answer_step_by_step(*arguments: Any) -> Iterator[Any]:
        try:
            yield from function(*arguments)
        except Exception as error:
            raise _as_message(error) from None

    return answer_step_by_step if inspect.isgeneratorfunction(function) else answer


def _as_message(error: Exception) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, OSError):
        words = describe_os_error(error)
    elif isinstance(error, LatentdiffError | ValueError | FloatingPointError):
        words = " ".join(str(error).split())
    else:
        traceback.print_exception(error, file=sys.stderr)
        words = f"unexpected error ({type(error).__name__}): see the app's terminal for details"
    words = words[:1].upper() + words[1:LONGEST_MESSAGE]
    return gr.Error(escape(words), duration=12, title="That did not work", print_exception=False)
