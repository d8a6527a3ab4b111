"""Twenty clients for two minutes, half of them with bad input: nothing dies, memory is bounded, all is answered.

    python -m pytest -m slow tests/app/test_under_load.py -s

prints the figures that docs/reliability.md has.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdiff import load
from latentdiff.resources import PACKAGE

httpx = pytest.importorskip("httpx")
pytest.importorskip("gradio")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CLIENTS, SECONDS = 20, float(os.environ.get("LATENTDIFF_LOAD_SECONDS", "120"))
MODELS = [f"checkpoints/fashion-mnist/{name}.safetensors" for name in ("latent", "pixel")]
LATENT, PIXEL = "Fashion-MNIST, latent", "Fashion-MNIST, pixel"
# The prompts of a drawing by class.
UNUSED = ("", "")
# Resident memory that the process may take beyond what it has after its first drawing.
MOST_GROWTH = 500 * 2**20
BOMB = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x06\0\0\0"
    + (0x3E8B5A55).to_bytes(4, "big")
    + b"\0\0\0\nIDATx\x9cc\0\0\0\x02\0\x01\xe5\x27\xde\xfc\0\0\0\0IEND\xaeB`\x82"
)
HOSTILE_FILES = [
    b"",
    b"no image",
    BOMB,
    b"GIF89a" + b"\xff" * 5000,
    b"<svg onload='alert(1)'/>",
    b"PK\x03\x04" + b"\0" * 900,
]
WRONG = [
    None,
    "x",
    -1,
    10**9,
    1e308,
    [],
    {},
    [[[[]]]],
    {"path": "/etc/passwd"},
    True,
    "\0",
    "{{constructor}}",
    "9" * 10_000,
]


class Client:
    """Asks an app as a browser does, and counts how it was answered."""

    def __init__(self, address: str, counts: Counter[str], seed: int):
        self.web = httpx.Client(base_url=address, timeout=120)
        self.counts, self.random = counts, random.Random(seed)
        config = self.web.get("/config").json()
        self.numbers = {each["api_name"]: each["id"] for each in config["dependencies"] if each.get("api_name")}

    def ask(self, api_name: str, data: list, expected: tuple[str, ...], leave_at: int | None = None) -> str:
        """Send a request into the queue, read its events to the end, and count the outcome under a word."""
        session = secrets.token_hex(5)
        body = {"data": data, "fn_index": self.numbers[api_name], "session_hash": session, "event_data": None}
        sent = self.web.post("/gradio_api/queue/join", json=body)
        outcome = self._events(session, leave_at) if sent.status_code == 200 else self._status(sent.status_code)
        self.counts[outcome] += 1
        assert outcome in expected, (api_name, str(data)[:200], outcome, sent.text[:300])
        return outcome

    def upload(self, name: str, content: bytes) -> str | None:
        """Upload a file, and return its path on the server; None where it was refused."""
        sent = self.web.post("/gradio_api/upload", files={"files": (name, content)})
        assert sent.status_code in (200, 413, 503), sent.text
        if sent.status_code != 200:
            self.counts[self._status(sent.status_code)] += 1
            return None
        return sent.json()[0]

    def _events(self, session: str, leave_at: int | None) -> str:
        seen = 0
        with self.web.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line[5:])
                assert "Traceback" not in line
                if event["msg"] == "process_generating":
                    seen += 1
                    if seen == leave_at:
                        return "left"
                elif event["msg"] == "process_completed":
                    if event["success"]:
                        return "answered"
                    if (event.get("output") or {}).get("error"):
                        return "refused in words"
                    return "queue full" if event.get("title") == "Queue Full" else "refused as no such input"
                elif event["msg"] in ("queue_full", "unexpected_error"):
                    return event["msg"].replace("_", " ")
        return "no end"

    @staticmethod
    def _status(status: int) -> str:
        return {413: "too large", 404: "no such address", 503: "queue full", 422: "no request"}.get(
            status, f"status {status}"
        )


def good(client: Client, photo: bytes) -> None:
    """What the page itself asks for."""
    pick = client.random.random()
    seed, well = client.random.randrange(2**32 - 1), ("answered", "queue full")
    if pick < 0.5:
        name, steps = client.random.choice([(LATENT, 20), (LATENT, 50), (PIXEL, 3)])
        client.ask("draw", [name, "Dress", client.random.randint(1, 16), steps, 1.5, "dpmpp_2m", seed, *UNUSED], well)
    elif pick < 0.6:
        client.ask("draw", [LATENT, "Bag", 16, 30, 1.0, "ddim", seed, *UNUSED], ("left", *well), leave_at=3)
    elif pick < 0.8:
        if path := client.upload("photo.jpg", photo):
            client.ask("reconstruct", [LATENT, file_data(path), "No class", 0.5, 10, seed], well)
    elif pick < 0.9:
        client.ask("fill", [LATENT, None, "Centre", {}, "Coat", 1, 10, seed], well)
    else:
        client.ask("between", [LATENT, None, None, 3, "No class", 3, seed], well)


def bad(client: Client) -> None:
    """What the page never asks for."""
    pick, refused = client.random.random(), ("refused in words", "refused as no such input", "queue full", "too large")
    if pick < 0.1:
        client.upload("huge.png", b"\x89PNG\r\n\x1a\n" + os.urandom(1 << 20) * 30)
    elif pick < 0.4:
        content = client.random.choice(HOSTILE_FILES)
        if path := client.upload("a.png", content):
            client.ask("reconstruct", [LATENT, file_data(path), "No class", 0.5, 5, 0], refused)
    elif pick < 0.5:
        path = client.random.choice(["/etc/passwd", str(PACKAGE / "__init__.py"), "https://example.org/a.png", "../a"])
        client.ask("reconstruct", [LATENT, file_data(path), "No class", 0.5, 5, 0], refused)
    elif pick < 0.6:
        client.ask("draw", ["x" * 3_000_000, None, 1, 1, 1, "ddim", 0, *UNUSED], refused)
    elif pick < 0.7:
        address = client.random.choice(
            ["/gradio_api/process_recording", "/gradio_api/run/draw", "/login", "/gradio_api/vibe-edit"]
        )
        client.counts[client._status(client.web.post(address, content=b"x" * 1000).status_code)] += 1
    elif pick < 0.75:
        sent = client.web.post("/gradio_api/queue/join", content=client.random.choice([b"", b"{", b"[]", b"\xff\xfe"]))
        assert sent.status_code in (400, 422), sent.text
        client.counts["no request"] += 1
    else:
        data = [LATENT, "Dress", 4, 5, 1.5, "dpmpp_2m", 0, *UNUSED]
        data[client.random.choice([0, 1, 2, 3, 4, 6])] = client.random.choice(WRONG)
        client.ask("draw", data, (*refused, "answered"))


def file_data(path: str) -> dict:
    """A file as Gradio's pages name it."""
    return {"path": path, "url": None, "size": None, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def memory(process: subprocess.Popen, name: str) -> int:
    """VmRSS, what a process holds now, or VmHWM, the most that it held, in bytes."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_nothing_dies_and_memory_is_bounded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((4000, 3000)).save(tmp_path / "photo.jpg")
    photo = (tmp_path / "photo.jpg").read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in MODELS:  # the graphs, as on a machine that has drawn with these models before
        load(name, engine="onnxruntime")
    command = [sys.executable, "-m", "latentdiff.stages.app", *MODELS, f"--port={port}", "--max_waiting=16"]
    log = open(tmp_path / "log", "w")  # noqa: SIM115
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address, counts, failures = f"http://127.0.0.1:{port}", Counter[str](), []
    try:
        wait_for(address)
        Client(address, Counter(), 0).ask("draw", [LATENT, "Dress", 4, 5, 1.5, "dpmpp_2m", 0, *UNUSED], ("answered",))
        at_first, end = memory(process, "VmRSS"), time.monotonic() + SECONDS

        def work(number: int) -> None:
            try:
                client = Client(address, counts, number)
                while time.monotonic() < end:
                    bad(client) if number % 2 else good(client, photo)
                    time.sleep(client.random.random())
            except BaseException as error:
                failures.append(f"client {number}: {error!r}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        halfway = 0
        for thread in threads:
            while thread.is_alive():
                thread.join(1)
                if not halfway and time.monotonic() > end - SECONDS / 2:
                    halfway = memory(process, "VmRSS")
        peak, at_last = memory(process, "VmHWM"), memory(process, "VmRSS")
        assert failures == []
        assert process.poll() is None
        Client(address, Counter(), 0).ask("draw", [PIXEL, "Bag", 1, 2, 1.0, "ddim", 1, *UNUSED], ("answered",))
    finally:
        process.terminate()
        process.wait(20)
        log.close()
    megabytes = ", ".join(f"{each / 2**20:.0f}" for each in (at_first, halfway, at_last, peak))
    print(f"\n{sum(counts.values()):,} requests in {SECONDS:.0f} s: {dict(counts.most_common())}")
    print(f"resident MiB after the first drawing, halfway, at the end, at most: {megabytes}")
    assert peak < at_first + MOST_GROWTH
    assert counts["answered"] > 0
    assert counts["refused in words"] > 0
    assert not [path for path in tmp_path.glob(".latentdiff-tmp-*/**/*") if path.is_file()]


def wait_for(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(240):
        try:
            httpx.get(address, timeout=5)
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(address)
