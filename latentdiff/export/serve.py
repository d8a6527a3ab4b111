"""Serve a folder to browsers on this machine only."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from latentdiff.errors import ConfigError

HOST = "127.0.0.1"


class _Handler(SimpleHTTPRequestHandler):
    """Serves files with the types that modules need, whatever the system's table of types says."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".gz": "application/octet-stream",  # as it is: the page unpacks it
    }

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each file."""

    def end_headers(self) -> None:
        """Tell browsers to revalidate cached files, since the folder may be written anew."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


class _Server(ThreadingHTTPServer):
    """A server that does not report an error when a browser disconnects in the middle of a file."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error, unless the browser has disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server_of(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder's files at 127.0.0.1, which is already listening.

    Args:
        folder: What is shown.
        port: Where; 0 takes any that is free.

    Raises :class:`~latentdiff.errors.ConfigError` for a port that is taken.
    """
    try:
        return _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise ConfigError(f"port {port} of {HOST} cannot be used: {error.strerror}. Give another --port") from error


def serve(folder: Path, port: int) -> None:
    """Show a folder until Ctrl-C."""
    with server_of(folder, port) as server:
        print(f"http://{HOST}:{server.server_address[1]}/ shows {folder}. Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
