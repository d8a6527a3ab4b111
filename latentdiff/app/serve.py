"""Serve the page on an address of this machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import torch

from latentdiff.app.catalogue import Catalogue
from latentdiff.app.handlers import gr
from latentdiff.app.page import build_page, theme
from latentdiff.app.request_limits import MEGABYTE, MOST_BYTES, RequestLimits
from latentdiff.app.studio import Studio
from latentdiff.config.model_stages import AppStage
from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra
from latentdiff.files import scratch_folder
from latentdiff.precision import resolve_device

STYLE = Path(__file__).parent / "style.css"
LOCAL = ("127.0.0.1", "localhost", "::1")
# Browser windows whose state is remembered at once, and bytes of all uploads on the disk, or two of the largest.
MOST_SESSIONS, MOST_UPLOADS = 200, 500 * MEGABYTE


def serve(config: AppStage) -> None:
    """Serve the page until the process is interrupted.

    Raises :class:`~latentdiff.errors.LatentdiffError` as :func:`running` does.
    """
    with running(config) as address:
        print(f"the app is at {address} until you press Ctrl-C", flush=True)
        if config.host not in LOCAL:
            print("other machines can reach it, without a password", flush=True)
        with suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container's end is an end too
            while True:
                time.sleep(3600)


@contextmanager
def running(config: AppStage, studio: Studio | None = None) -> Iterator[str]:
    """Serve the page while the block runs, and give its address.

    Args:
        config: See :class:`~latentdiff.config.model_stages.AppStage`.
        studio: What answers. Default: one with the models that ``config`` names.

    Raises :class:`~latentdiff.errors.CheckpointError` for a model that cannot be used, and
    :class:`~latentdiff.errors.ConfigError` for a port or an engine that is not free or not there.
    """
    _check_address(config.host, config.port)
    if config.threads:
        torch.set_num_threads(config.threads)
    studio = studio or Studio(config, Catalogue(config.models, config.engine, resolve_device(config.device)))
    with scratch_folder() as uploads, _environment({"GRADIO_TEMP_DIR": str(uploads), **QUIET}), _no_fetching():
        page = build_page(studio)
        most = max(MOST_UPLOADS, 2 * (config.max_upload_mb * MEGABYTE + MOST_BYTES))
        limits = {"uploads": uploads, "most_upload": config.max_upload_mb * MEGABYTE, "most_uploads": most}
        middleware = import_extra("starlette.middleware", "app").Middleware(RequestLimits, **limits)
        try:
            _, address, _ = page.launch(
                server_name=config.host,
                server_port=config.port,
                max_file_size=config.max_upload_mb * MEGABYTE,
                state_session_capacity=MOST_SESSIONS,
                app_kwargs={"middleware": [middleware]},
                theme=theme(),
                css_paths=[STYLE],
                **PLAIN,
            )
        except OSError as error:
            raise _no_address(config.host, config.port, error) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


# Nothing of Gradio's that asks another server, or that this page has no use for.
# In a Space, which SYSTEM tells, it would look for changes of the program, to load it anew.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "SYSTEM": "",
}
PLAIN = {
    "share": False,
    "prevent_thread_lock": True,
    "quiet": True,
    "show_error": False,
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
    "allowed_paths": [],
}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _no_fetching() -> Iterator[None]:
    """Keep Gradio from fetching a file that a request names by its address, which its components otherwise do."""
    processing = import_extra("gradio.processing_utils", "app")

    async def refuse(url: str, cache_dir: str) -> NoReturn:
        raise gr.Error("The app fetches nothing from the network: choose a file", print_exception=False)

    before = processing.async_ssrf_protected_download
    processing.async_ssrf_protected_download = refuse
    try:
        yield
    finally:
        processing.async_ssrf_protected_download = before


def _check_address(host: str, port: int | None) -> None:
    """Raise ConfigError where the page cannot be served, before models are loaded and Gradio tries all ports."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _no_address(host, port, error) from error


def _no_address(host: str, port: int | None, error: Exception) -> ConfigError:
    where = f"{host}:{port}" if port else host
    return ConfigError(
        f"the page cannot be served on {where} ({getattr(error, 'strerror', None) or error}): choose another --port, "
        "or a --host that is an address of this machine, such as 127.0.0.1"
    )
