"""onnxruntime-web, which runs ONNX graphs in a browser: its files from npm, checked against digests that stand here."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import os
import tarfile
import urllib.request
from contextlib import suppress
from pathlib import Path

from latentdiff.errors import ConfigError
from latentdiff.files import write_atomically
from latentdiff.inference.engines.graphs import cache_folder

VERSION = "1.30.0"
REGISTRY = "https://registry.npmjs.org"
# What npm's lock files call the integrity of the package.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# Two builds: for WebAssembly alone, the smallest, and with WebGPU. A browser fetches the one that it uses.
SCRIPT = "dist/ort.wasm.bundle.min.mjs"
MACHINE_CODE = "dist/ort-wasm-simd-threaded.wasm"
GPU_SCRIPT = "dist/ort.webgpu.bundle.min.mjs"
GPU_MACHINE_CODE = "dist/ort-wasm-simd-threaded.asyncify.wasm"
# SHA-256 of their files in the package.
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    MACHINE_CODE: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    GPU_SCRIPT: "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    GPU_MACHINE_CODE: "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
# What the page has them as. Not every server knows the type of .mjs, and few compress .wasm, to a quarter.
PAGE_FILES = {
    "onnxruntime/ort.js": SCRIPT,
    "onnxruntime/ort.wasm.gz": MACHINE_CODE,
    "onnxruntime/ort-webgpu.js": GPU_SCRIPT,
    "onnxruntime/ort-webgpu.wasm.gz": GPU_MACHINE_CODE,
}
LICENCE = "onnxruntime/LICENSE.txt"
PACKAGE_BYTES = 33_106_585
SECONDS_TO_ANSWER = 30.0


def runtime_files(source: str | None = None) -> dict[str, bytes]:
    """The files of onnxruntime-web that the page needs, by their paths in its folder, with the licence.

    Args:
        source: The npm package as a file or a folder. Default: the user's cache folder, and where it is not there yet,
            npm's registry or the one that ``npm_config_registry`` names.

    Raises :class:`~latentdiff.errors.ConfigError` for files that cannot be read or downloaded, or that belong to
    another version.
    """
    files = _of_cache() if source is None else _of_source(Path(source))
    if files is None:
        files = _of_package(_download(), "the package")
        for name, content in files.items():
            with suppress(OSError):  # a cache that cannot be written is no reason to fail
                write_atomically(_cached(name), lambda path, content=content: path.write_bytes(content))
    found = {
        place: gzip.compress(files[name], mtime=0) if place.endswith(".gz") else files[name]
        for place, name in PAGE_FILES.items()
    }
    found[LICENCE] = (Path(__file__).with_name("onnxruntime_licence.txt")).read_bytes()
    return found


def _of_cache() -> dict[str, bytes] | None:
    """The files in the user's cache folder; None where one is missing or damaged."""
    files = {}
    for name, sha256 in SHA256.items():
        with suppress(OSError):
            content = _cached(name).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                files[name] = content
    return files if len(files) == len(SHA256) else None


def _cached(name: str) -> Path:
    return cache_folder() / f"onnxruntime-web-{VERSION}" / Path(name).name


def _of_source(path: Path) -> dict[str, bytes]:
    """The files of a package that the user has."""
    if path.is_file():
        return _of_package(path.read_bytes(), str(path))
    folder = next(
        (each for each in (path, path / "package", path / "node_modules/onnxruntime-web") if _holds(each)), None
    )
    if folder is None:
        raise ConfigError(f"{path} is not the npm package onnxruntime-web: it has no {SCRIPT}")
    return _checked({name: (folder / name).read_bytes() for name in SHA256}, str(path))


def _holds(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SHA256)


def _of_package(content: bytes, what: str) -> dict[str, bytes]:
    """The files in a package's archive, whose digest is checked."""
    if _integrity(content) != INTEGRITY:
        raise ConfigError(f"{what} is not onnxruntime-web {VERSION} from npm, or is damaged. {_advice()}")
    archive = gzip.decompress(content)
    return _checked(_members(archive), what)


def _members(archive: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name in SHA256:
            file = tar.extractfile(f"package/{name}")
            assert file is not None
            files[name] = file.read()
    return files


def _checked(files: dict[str, bytes], what: str) -> dict[str, bytes]:
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise ConfigError(f"{what} is not onnxruntime-web {VERSION}: its {name} differs. {_advice()}")
    return files


def _integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _download() -> bytes:
    """The package's archive from the registry."""
    registry = (os.environ.get("npm_config_registry") or REGISTRY).rstrip("/")  # noqa: SIM112
    url = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    print(
        f"downloading onnxruntime-web {VERSION}, {PACKAGE_BYTES / 1e6:.0f} MB, from {registry}; this is done once",
        flush=True,
    )
    try:
        with urllib.request.urlopen(url, timeout=SECONDS_TO_ANSWER) as answer:
            # No more than there is to be: whatever answers, it does not fill the memory.
            return answer.read(PACKAGE_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ConfigError(f"onnxruntime-web cannot be downloaded from {url}: {error}. {_advice()}") from error


def _advice() -> str:
    return f"Get it with `npm pack onnxruntime-web@{VERSION}`, and name the file with --onnxruntime_web"
