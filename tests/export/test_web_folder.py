"""The page's folder as it is written, served, and given onnxruntime-web."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import io
import shlex
import shutil
import socket
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from latentdiff import load
from latentdiff.digest import read_json
from latentdiff.errors import CheckpointError, ConfigError, FolderError
from latentdiff.export import onnxruntime_web, web_folder
from latentdiff.export.half_weights import rounded_to_half, with_half_weights
from latentdiff.export.serve import server_of
from latentdiff.stages import export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
PAGE = web_folder.HERE / "web"
RUNTIME = {*onnxruntime_web.PAGE_FILES, onnxruntime_web.LICENCE}


def small_graph(values):
    """An ONNX graph with one matrix."""
    matrix = onnx.numpy_helper.from_array(np.array(values, np.float32), "w")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [matrix])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]).SerializeToString()


@pytest.fixture
def quick(monkeypatch):
    """Exports of pages that nothing runs: graphs that take no time, and no onnxruntime-web."""
    files = dict.fromkeys(RUNTIME, b"")
    monkeypatch.setattr(web_folder, "runtime_files", lambda source: dict(files))
    graph = small_graph([[1.0, 2.0], [3.0, 4.0]])
    graphs = {f"{name}.onnx": graph for name in ("network", "encoder", "decoder")}
    monkeypatch.setattr(web_folder, "onnx_files", lambda model: graphs)


def test_the_folder_is_whole_and_can_be_written_anew(quick, tiny_model_file, tmp_path):
    asked = [str(tiny_model_file), str(tiny_model_file), "--to=web", "--steps=[7]", f"--run.folder={tmp_path / 'page'}"]
    export.main(asked)
    there = {
        path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*") if path.is_file()
    }
    page = {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file()}
    networks = {f"models/tiny{n}-{name}.onnx.gz" for n in ("", "-2") for name in ("network", "encoder", "decoder")}
    assert there == {".latentdiff", "README.md", "page.json", *page, *networks, *RUNTIME}
    assert "$" not in (tmp_path / "page" / "README.md").read_text()

    record, signed = read_json(tmp_path / "page" / "page.json")
    assert signed
    first, second = record["models"]
    assert (first["name"], second["name"]) == ("tiny", "tiny-2")
    assert [len(rows) for rows in first["levels"]] == list(range(2, 52))
    assert (len(first["strengths"]), len(first["flow"])) == (101, web_folder.FLOW_STEPS + 1)
    schedule = load(tiny_model_file).schedule
    assert first["levels"][6][0][1:] == [
        float(v) for v in (schedule.sampling_levels(7).alpha[0], schedule.sampling_levels(7).sigma[0])
    ]
    said = first["graphs"]["network"]
    packed = (tmp_path / "page" / said["file"]).read_bytes()
    graph = gzip.decompress(packed)
    assert (len(packed), len(graph)) == (said["bytes"], said["size"])
    assert hashlib.sha256(graph).hexdigest() == said["sha256"]
    assert first["defaults"]["steps"] == 7

    with pytest.raises(FolderError, match="already holds an export:"):
        export.main(asked)
    (tmp_path / "page" / "js" / "mine.txt").write_text("mine")
    export.main([str(tiny_model_file), "--to=web", f"--run.folder={tmp_path / 'page'}", "--run.overwrite"])
    left = {path.name for path in (tmp_path / "page" / "models").iterdir()}
    assert left == {f"tiny-{name}.onnx.gz" for name in ("network", "encoder", "decoder")}
    assert (tmp_path / "page" / "js" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "there", "named"),
    [
        ("latent", ["pixel"], "my models/pixel.safetensors"),
        ("pixel", ["latent"], "my models/latent.safetensors"),
        ("mine", ["latent", "pixel"], "my models/pixel.safetensors"),
        ("latent", [], "OTHER.safetensors"),
    ],
)
def test_a_page_of_one_model_says_how_it_gets_a_second(
    given, there, named, quick, tiny_model_file, tmp_path, monkeypatch, capsys
):
    """The command that is printed runs as it is, where a second model is there; then nothing more is said."""
    folder = Path("my models")
    folder.mkdir()
    for name in [given, *there]:
        shutil.copy(tiny_model_file, folder / f"{name}.safetensors")
    export.main([f"{folder}/{given}.safetensors", "--to=web"])
    said, _, command = capsys.readouterr().out.splitlines()[-1].partition(": ")
    assert said == "to compare it with a second model on the same page"
    words = shlex.split(command)
    assert words == ["latentdiff", "export", f"my models/{given}.safetensors", named, "--to", "web"]
    if there:
        export.main(words[2:])
        assert "second model" not in capsys.readouterr().out
        record, _ = read_json(Path("stages/export") / f"{given}-web-2" / "page.json")
        assert len(record["models"]) == 2


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, "BFLOAT16"), (torch.float16, "FLOAT16")])
def test_weights_are_stored_in_16_bits(dtype, kind):
    values = [[1.001, -2.5], [0.15625, 3e-6]]
    graph = with_half_weights(small_graph(values), dtype)
    stored = onnx.load_from_string(graph).graph.initializer[0]
    assert (stored.data_type, len(stored.raw_data)) == (getattr(onnx.TensorProto, kind), 8)
    session = onnxruntime.InferenceSession(graph)
    used = np.concatenate([session.run(None, {"x": row[None]})[0] for row in np.eye(2, dtype=np.float32)])
    assert np.array_equal(used, torch.tensor(values).to(dtype).float().numpy())


def test_a_weight_beyond_fp16_is_refused():
    with pytest.raises(ConfigError, match="w holds 70000, which fp16 cannot store: use --precision fp32 or bf16"):
        with_half_weights(small_graph([[1.0, 2.0], [3.0, -7e4]]), torch.float16)


def test_weights_are_rounded_to_bf16():
    exact, other = [[1.0, -2.5], [0.15625, 3.0]], [[1.001, 0.0], [0.0, 0.0]]
    assert rounded_to_half(small_graph(exact)) == small_graph(exact)
    rounded = onnx.load_from_string(rounded_to_half(small_graph(other))).graph.initializer[0]
    assert onnx.numpy_helper.to_array(rounded)[0, 0] == 1.0


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        (["--to=web", "--steps=[51]"], ConfigError, "1 to 50 steps"),
        (["--to=web", "--precision=int8"], ConfigError, "does not support --precision int8"),
        (["--to=web", "--precision=fp16"], ConfigError, "does not support --precision fp16: use fp32 or bf16"),
        (["--beside=[a.safetensors]"], ConfigError, "--beside is for a page"),
        (["--serve"], ConfigError, "--serve is for a page"),
        (["--onnxruntime_web=x.tgz"], ConfigError, "--onnxruntime_web is for a page"),
        (["--to=web", "--beside=[checkpoints/fashion-mnist/autoencoder.safetensors]"], CheckpointError, "autoencoder"),
        (["--to=web", "--port=70000"], ConfigError, "port"),
    ],
)
def test_what_makes_no_page_is_refused_before_any_work(
    flags, error, words, quick, tmp_path, tiny_model_file, monkeypatch
):
    monkeypatch.setattr(web_folder, "onnx_files", lambda model: pytest.fail("it was not refused"))
    with pytest.raises(error, match=words):
        export.main([str(tiny_model_file), *flags])
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_shown_on_this_machine_alone(tmp_path):
    (tmp_path / "index.html").write_text("<h1>here</h1>")
    (tmp_path / "page.js").write_text("export {}")
    with server_of(tmp_path, 0) as server:
        host, port = server.server_address
        assert host == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection(host, port)
        for path, status, kind in (("/", 200, "text/html"), ("/page.js", 200, "text/javascript"), ("/../x", 404, None)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert kind is None or answer.headers["Content-Type"] == kind
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be used"):
            server_of(tmp_path, port)
        connection.close()
        server.shutdown()


def test_a_visitor_who_leaves_in_the_middle_of_a_file_is_no_error(tmp_path, capfd):
    (tmp_path / "large.onnx").write_bytes(bytes(50_000_000))
    with server_of(tmp_path, 0) as server:
        server.daemon_threads = False  # the block waits for them
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(server.server_address) as visitor:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
            visitor.sendall(b"GET /large.onnx HTTP/1.0\r\n\r\n")
            visitor.recv(1000)
        server.shutdown()
    assert capfd.readouterr() == ("", "")


# --- onnxruntime-web ---


def package(tmp_path, **content):
    """An archive such as npm's, with other content."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in onnxruntime_web.SHA256:
            info = tarfile.TarInfo(f"package/{name}")
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return path


def test_another_package_is_refused(tmp_path):
    path = package(tmp_path)
    with pytest.raises(ConfigError, match=r"package.tgz is not onnxruntime-web 1\.\d+\.\d+ from npm, or is damaged"):
        onnxruntime_web.runtime_files(str(path))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path, filter="data")
    with pytest.raises(ConfigError, match=r"its dist/ort\.wasm\.bundle\.min\.mjs differs"):
        onnxruntime_web.runtime_files(str(tmp_path))  # finds package/ in it
    with pytest.raises(ConfigError, match="is not the npm package onnxruntime-web: it has no dist/ort"):
        onnxruntime_web.runtime_files(str(tmp_path / "package" / "dist"))


def test_a_download_is_checked_cached_and_not_fetched_again(tmp_path, monkeypatch):
    """A registry of one's own, as ``npm_config_registry`` names it."""
    path, asked = package(tmp_path), []

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(path.read_bytes())

        def log_message(self, *arguments):
            """Say nothing."""

    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_address[1]}/npm/")
        with pytest.raises(ConfigError, match="the package is not onnxruntime-web"):
            onnxruntime_web.runtime_files()
        assert not (tmp_path / "cache").exists()  # what is not the package is not kept

        monkeypatch.setattr(onnxruntime_web, "INTEGRITY", onnxruntime_web._integrity(path.read_bytes()))
        abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        monkeypatch.setattr(onnxruntime_web, "SHA256", dict.fromkeys(onnxruntime_web.SHA256, abc))
        files = onnxruntime_web.runtime_files()
        assert files["onnxruntime/ort.js"] == b"abc"
        assert b"MIT License" in files[onnxruntime_web.LICENCE]
        assert onnxruntime_web.runtime_files() == files == onnxruntime_web.runtime_files(str(path))
        assert asked == [f"/npm/onnxruntime-web/-/onnxruntime-web-{onnxruntime_web.VERSION}.tgz"] * 2
        # A cached file that was damaged is fetched again.
        next(Path(tmp_path / "cache").rglob("*.wasm")).write_bytes(b"xyz")
        assert onnxruntime_web.runtime_files() == files
        assert len(asked) == 3
        server.shutdown()
    next(Path(tmp_path / "cache").rglob("*.wasm")).unlink()
    with pytest.raises(ConfigError, match=r"cannot be downloaded from http://127.*npm pack onnxruntime-web@"):
        onnxruntime_web.runtime_files()
