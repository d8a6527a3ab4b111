"""Limits on requests to the page (size and address), and on what the page's browser may load.

Gradio bounds the size of an uploaded file. It does not bound the other requests, nor what all uploads take on the disk,
and it serves addresses that this page has no use for.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MEGABYTE = 10**6
# A request other than an upload: the values of the controls, with a mask of one letter for each pixel.
MOST_BYTES = MEGABYTE
# Uploads are removed after so many seconds, when another one comes.
UPLOADS_LIVE = 600.0
API = r"/gradio_api"
POSTS = re.compile(rf"{API}/(upload|queue/join|cancel|reset|call/[\w/]+)/?$")
GETS_REFUSED = re.compile(rf"({API})?/(file=https?:|proxy=|monitoring|profiling|dev/|runs|vibe)", re.IGNORECASE)
# The page has all that it needs: whatever asks another server is stopped by the browser.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class RequestLimits:
    """ASGI middleware that refuses a request before its body is held in memory.

    Args:
        app: What answers the others.
        uploads: The folder that uploads are written to.
        most_upload: Bytes of an uploaded file.
        most_uploads: Bytes of all uploads together.
    """

    def __init__(self, app: App, uploads: Path, most_upload: int, most_uploads: int):
        self._app, self._uploads = app, uploads
        self._most_upload, self._most_uploads = most_upload, most_uploads
        self.refused = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if method == "POST":
            upload = path.rstrip("/").endswith("/upload")
            most = self._most_upload + MOST_BYTES if upload else MOST_BYTES
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not POSTS.search(path):
                await self._refuse(send, 404, "this address accepts no POST requests")
            elif not length.isdigit() or int(length) > most:
                await self._refuse(send, 413, f"a request may have {most / MEGABYTE:.0f} MB")
            elif upload and not self._has_room(most):
                await self._refuse(send, 503, "too many uploads are stored at the moment: try again in a few minutes")
            else:
                await self._answer(scope, _bounded(receive, most), send)
        elif method not in ("GET", "HEAD", "OPTIONS") or GETS_REFUSED.match(path):
            await self._refuse(send, 404, "there is nothing at this address")
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except _TooLargeError as error:
            if not begun:
                await self._refuse(send, 413, str(error))
        except Exception as error:  # of Gradio, on bytes that are no request
            print(f"a request to {scope['path']} failed: {type(error).__name__}", file=sys.stderr)
            if not begun:
                await self._refuse(send, 400, "this request cannot be understood")

    async def _refuse(self, send: Send, status: int, words: str) -> None:
        self.refused += 1
        # The rest of the request is not read: the connection ends with the answer.
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *HEADERS]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": words.encode()})

    def _has_room(self, amount: int) -> bool:
        """Whether so many bytes more may be kept; old uploads go first."""
        total, oldest = 0, time.time() - UPLOADS_LIVE
        for path in self._uploads.rglob("*"):
            with suppress(OSError):
                status = path.stat()
                if path.is_dir():
                    continue
                if status.st_mtime < oldest:
                    path.unlink()
                else:
                    total += status.st_size
        return total + amount <= self._most_uploads


class _TooLargeError(Exception):
    """A body that is larger than the limit, or than its stated length."""


def _bounded(receive: Receive, most: int) -> Receive:
    """``receive``, which ends with an error after so many bytes: a body in chunks states no length."""
    got = 0

    async def bounded() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise _TooLargeError(f"a request may have {most / MEGABYTE:.0f} MB")
        return message

    return bounded
