"""A server on 127.0.0.1 that answers what the client of the Hugging Face Hub asks about one data set."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789" * 4


@contextmanager
def serve_dataset(name: str, folder: Path) -> Iterator[str]:
    """Serve the files of ``folder`` as the data set ``name``, such as ``someone/shapes``. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            file, api = f"/datasets/{name}/resolve/", f"/api/datasets/{name}"
            if path.startswith(file):
                self._file(path.removeprefix(file).partition("/")[2])
            elif path == api or path.startswith(f"{api}/revision/"):
                names = [entry["path"] for entry in entries() if entry["type"] == "file"]
                siblings = [{"rfilename": each} for each in names]
                self._json({"id": name, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []})
            elif path.startswith(f"{api}/tree/"):
                below = path.removeprefix(f"{api}/tree/").partition("/")[2]
                recursive = "recursive=true" in urlsplit(self.path).query.lower()
                found = [entry for entry in entries() if entry["path"].startswith(f"{below}/" if below else "")]
                depth = below.count("/") + 1 if below else 0
                self._json([entry for entry in found if recursive or entry["path"].count("/") == depth])
            else:
                self._missing("RepoNotFound")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if "/paths-info/" not in self.path:
                self._missing("RepoNotFound")
                return
            try:
                wanted = json.loads(body)["paths"]
            except ValueError:
                wanted = [unquote(part.partition("=")[2]) for part in body.split("&") if part.startswith("paths=")]
            self._json([entry for entry in entries() if entry["path"] in wanted])

        def _file(self, inner: str) -> None:
            if not (folder / inner).is_file():
                self._missing("EntryNotFound")
                return
            content = (folder / inner).read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self._send(content, "application/octet-stream")

        def _json(self, value) -> None:
            self.send_response(200)
            self._send(json.dumps(value).encode(), "application/json")

        def _missing(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self._send(b"{}", "application/json")

        def _send(self, content: bytes, kind: str) -> None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def entries() -> list[dict]:
        return [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": path.relative_to(folder).as_posix(),
                "size": 0 if path.is_dir() else path.stat().st_size,
                "oid": hashlib.sha1(str(path).encode()).hexdigest(),
            }
            for path in sorted(folder.rglob("*"))
        ]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
