"""A request that is too large, or to an address that the page does not use, is refused before it is read."""

from __future__ import annotations

import asyncio
import os

import pytest

from latentdiff.app.pictures import escape, message
from latentdiff.app.request_limits import MOST_BYTES, RequestLimits

UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"


@pytest.fixture
def ask(tmp_path):
    """Sends a request: its status, the bytes that the application read, and the headers of the answer."""

    def send_request(path, method="POST", body=b"", chunk=100_000, length=True, **settings):
        chunks = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
        received, answered = [], []

        async def receive():
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(part):
            answered.append(part)

        async def application(scope, receive, send):
            while (part := await receive())["more_body"]:
                received.append(len(part["body"]))
            received.append(len(part["body"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"well"})

        headers = [(b"content-length", str(len(body)).encode())] if length else []
        limits = {"uploads": tmp_path, "most_upload": 2_000_000, "most_uploads": 10_000_000, **settings}
        scope = {"type": "http", "path": path, "method": method, "headers": headers}
        asyncio.run(RequestLimits(application, **limits)(scope, receive, send))
        return answered[0]["status"], sum(received), dict(answered[0]["headers"])

    return send_request


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        (JOIN, MOST_BYTES, 200),
        (JOIN, MOST_BYTES + 1, 413),
        (UPLOAD, 2_000_000, 200),
        (UPLOAD, 3_000_001, 413),
        ("/gradio_api/cancel", 10, 200),
        ("/gradio_api/process_recording", 10, 404),
        ("/gradio_api/vibe-edit/", 10, 404),
        ("/gradio_api/run/draw", 10, 404),
        ("/login", 10, 404),
        ("/", 10, 404),
    ],
)
def test_a_request_may_have_a_size_and_an_address(ask, path, size, status):
    got = ask(path, body=b"x" * size)
    assert got[0] == status
    assert got[1] == (size if status == 200 else 0)


def test_a_body_that_states_no_length_is_counted(ask):
    assert ask(JOIN, body=b"x" * (3 * MOST_BYTES), length=False)[0] == 413
    assert ask(JOIN, body=b"x" * MOST_BYTES, length=False)[:2] == (200, MOST_BYTES)


def test_a_request_that_breaks_what_answers_is_refused(tmp_path, capsys):
    answered = []

    async def broken(scope, receive, send):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")

    async def send(part):
        answered.append(part)

    scope = {"type": "http", "path": JOIN, "method": "POST", "headers": []}
    asyncio.run(RequestLimits(broken, tmp_path, 1, 1)(scope, None, send))
    assert [part.get("status") for part in answered] == [400, None]
    assert capsys.readouterr().err == f"a request to {JOIN} failed: UnicodeDecodeError\n"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/gradio_api/queue/data", 200),
        ("/gradio_api/file=/tmp/x.png", 200),
        ("/gradio_api/file=https://elsewhere.org/x", 404),
        ("/file=http://elsewhere.org/x", 404),
        ("/gradio_api/proxy=https://elsewhere.org", 404),
        ("/monitoring/summary", 404),
        ("/gradio_api/profiling/traces", 404),
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(ask, path, status):
    got, _, headers = ask(path, method="GET")
    assert got == status
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"http" not in headers[b"content-security-policy"]


def test_uploads_share_a_disk_and_old_ones_go(ask, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept.png").write_bytes(b"x" * 8_000_000)
    assert ask(UPLOAD, body=b"x")[0] == 503
    assert (tmp_path / "a" / "kept.png").exists()
    os.utime(tmp_path / "a" / "kept.png", (1e9, 1e9))
    assert ask(UPLOAD, body=b"x")[0] == 200
    assert not (tmp_path / "a" / "kept.png").exists()


def test_words_are_no_html_and_no_template():
    assert escape('<b a="${x}">{{y}}') == "&lt;b a=&quot;&#36;&#123;x&#125;&quot;&gt;&#123;&#123;y&#125;&#125;"
    assert message("<script>") == '<p class="ld-note">&lt;script&gt;</p>'
