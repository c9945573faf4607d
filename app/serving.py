"""Runs the server under uvicorn: in this process, or in several that share its socket."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.api.connection import Connection
from app.api.services import Services
from app.config import Config, Limits, load
from app.logs import set_up_logging
from app.main import create_app
from app.metrics import SHARED_FOLDER, forget_process

log = logging.getLogger("chargly.serving")

_WORKER_APP: Final = "app.serving:create_worker_app"


def serve(app: ASGIApp, config: Config, listening: socket.socket) -> None:
    """Serves an app in this process until it is told to stop; one that cannot start exits with 1.

    Args:
        app: what answers.
        config: its limits.
        listening: the socket.

    """
    _let_threads_in(config.limits)
    server = uvicorn.Server(_uvicorn(app, config))
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(1)


def serve_with_workers(config: Config, listening: socket.socket, workers: int) -> None:
    """Serves in several processes until told to stop. One that ends is replaced; one that cannot start ends all.

    On SIGHUP each is replaced in turn, on SIGTTIN and SIGTTOU there is one more or less.

    Args:
        config: as each reads it for itself from the same environment.
        listening: the socket that they share.
        workers: how many.

    """
    with tempfile.TemporaryDirectory(prefix="chargly-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder  # the workers inherit it
        supervisor = _Supervisor(_uvicorn(_WORKER_APP, config, workers=workers), [listening])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(1)


def create_worker_app() -> ASGIApp:
    """The app of one of several processes, with its own configuration, log and watch over the process above it."""
    set_up_logging()
    config = load()
    _let_threads_in(config.limits)
    return create_app(config, background=_as_worker)


def _uvicorn(app: ASGIApp | str, config: Config, workers: int = 1) -> uvicorn.Config:
    limits = config.limits
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        loop="uvloop",
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=limits.live_message_bytes_max,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Longer than clients keep an idle connection (httpx: 5 s, as uvicorn does): else one is closed while a request
        # is on its way.
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=limits.shutdown_seconds_max,
        timeout_worker_healthcheck=limits.worker_answer_seconds_max,
    )


def _let_threads_in(limits: Limits) -> None:
    """SQLite's thread needs the GIL back after each statement, and a busy loop would keep it for the default 5 ms."""
    sys.setswitchinterval(limits.gil_switch_seconds)


class _Supervisor(Multiprocess):
    """uvicorn's, which also says what becomes of a worker."""

    def keep_subprocess_alive(self) -> None:
        """Replaces those that have ended."""
        with self._noting():
            super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Replaces each in turn."""
        with self._noting():
            super().handle_hup()

    def handle_ttou(self) -> None:
        """Ends one."""
        with self._noting():
            super().handle_ttou()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        before = list(self.processes)
        yield
        for process in before:
            if process not in self.processes and process.pid is not None:
                log.warning(
                    "worker %d has ended (%s); there are %d", process.pid, process.exitcode, len(self.processes)
                )
                forget_process(process.pid)


@contextlib.asynccontextmanager
async def _as_worker(_services: Services) -> AsyncIterator[None]:
    """Ends this process as SIGTERM does when the one above it is gone: else it would keep the port from a successor."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    log.info("worker %d serves", os.getpid())
    loop = asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(parent.sentinel)
        log.warning("the process above has ended, so this one does")
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, on_end)
    try:
        yield
    finally:
        loop.remove_reader(parent.sentinel)
