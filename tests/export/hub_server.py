"""A stand-in for the Hugging Face Hub on 127.0.0.1: as much of its HTTP API as the client library uses here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS = (".safetensors", ".png")


@dataclass
class Repository:
    """Branches, which name commits, and commits, which hold files by their names."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((branch, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        oid = self.branches.get(revision, revision)
        oid = next((full for full in self.commits if full.startswith(oid)), oid)
        return (oid, self.commits[oid]) if oid in self.commits else None


class HubServer:
    """The server; use it in a ``with``.

    Attributes:
        repos: By ``USER/NAME``.
        objects: Large files by their SHA-256, as soon as they are uploaded.
        requests: What was asked, as (method, path, headers).
        cut_after: The next download of a large file ends after so many bytes.
        fail_commits: Commits are answered with this status.
        token: What a write must bring.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cut_after: int | None = None
        self.fail_commits: int | None = None
        self.token = "hf_" + "x" * 30

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method: str, part: str) -> list[dict[str, str]]:
        """The headers of the requests of a method whose path has ``part``."""
        return [headers for kind, path, headers in self.requests if kind == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append((self.command, path, dict(self.headers.items())))
        if self.command in ("GET", "HEAD") and (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+?)/([^/]+)", path)):
            return self._file(*found.groups())
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(tree|revision)/(.+)", path):
            return self._listing(*found.groups())
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/objects/([0-9a-f]{64})", path):
            hub.objects[found[1]] = self.body
            return self._json({})
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._json({"error": f"denied: {self.headers.get('Authorization')}"}, 401)
        if path == "/api/repos/create":
            asked = json.loads(self.body)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            status = 409 if name in hub.repos else 200
            if status == 200:
                hub.repos[name] = Repository(private=bool(asked.get("private") or asked.get("visibility") == "private"))
                hub.repos[name].commit("main", {})
            return self._json({"url": f"{hub.url}/{name}"}, status)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            repo = hub.repos[found[1]]
            status = 409 if found[2] in repo.branches else 200
            repo.branches.setdefault(found[2], repo.branches["main"])
            return self._json({}, status)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = json.loads(self.body)["files"]
            modes = ["lfs" if file["path"].endswith(LFS) else "regular" for file in files]
            return self._json(
                {
                    "files": [
                        {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
                        for file, mode in zip(files, modes, strict=True)
                    ]
                }
            )
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._json(
                {"transfer": "basic", "objects": [self._lfs(each) for each in json.loads(self.body)["objects"]]}
            )
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            return self._commit(*found.groups())
        return self._json({"error": "not found"}, 404)

    def _lfs(self, asked: dict) -> dict:
        if asked["oid"] in self.server_hub.objects:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.server_hub.url}/objects/{asked['oid']}"}}}

    def _commit(self, name: str, branch: str) -> None:
        hub = self.server_hub
        if hub.fail_commits:
            return self._json({"error": "no"}, hub.fail_commits)
        files = dict(hub.repos[name].files(branch)[1])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
        oid = hub.repos[name].commit(branch, files)
        return self._json({"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _listing(self, name: str, kind: str, revision: str) -> None:
        repo = self.server_hub.repos.get(name)
        if repo is None:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if (found := repo.files(revision)) is None:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        oid, files = found
        if kind == "tree":
            return self._json(
                [{"type": "file", "path": path, "size": len(content), "oid": oid} for path, content in files.items()]
            )
        return self._json({"id": name, "sha": oid, "siblings": [{"rfilename": path} for path in files]})

    def _file(self, name: str, revision: str, file: str) -> None:
        hub = self.server_hub
        repo = hub.repos.get(name)
        if repo is None:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        while (found := repo.files(revision)) is None:  # a file may be in a folder
            revision, _, folder = revision.rpartition("/")
            if not revision:
                return self._json({"error": "not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
            file = f"{folder}/{file}"
        oid, files = found
        if file not in files:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
        content, start = files[file], 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", oid)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if hub.cut_after is not None and not start and file.endswith(LFS):
            content, hub.cut_after = content[: hub.cut_after], None
            self.close_connection = True
        self.wfile.write(content[start:])
        return None

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
