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
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.api.connection import Connection, Websocket
from app.api.services import Services
from app.config import WORKERS_MAX, Config, Limits
from app.logs import set_up_logging
from app.main import create_app
from app.metrics import SHARED_FOLDER, forget_process

log = logging.getLogger("chargly.serving")

_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a folder of a random name is made in it


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
    """Serves in several processes until told to stop. One that ends is replaced; where none can start, all end with 1.

    On SIGHUP each is replaced in turn, on SIGTTIN and SIGTTOU there is one more or less.

    Args:
        config: of each of them.
        listening: the socket that they share.
        workers: how many.

    """
    with tempfile.TemporaryDirectory(
        prefix="chargly-metrics-", dir=_memory_folder(), ignore_cleanup_errors=True
    ) as folder:
        os.environ[SHARED_FOLDER] = folder  # the workers inherit it
        worker = partial(create_worker_app, config)
        supervisor = _Supervisor(_uvicorn(worker, config, workers=workers), [listening], config.limits)
        supervisor.run()
    if supervisor.failed:
        sys.exit(1)


def _memory_folder() -> str | None:
    """Where shared memory is kept on Linux: a full or tidied `/tmp` would end the workers. None for the usual place."""
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None


def create_worker_app(config: Config) -> ASGIApp:
    """The app of one of several processes, with its own log and watch over the process above it."""
    set_up_logging()
    _let_threads_in(config.limits)
    return create_app(config, background=_as_worker)


def _uvicorn(app: ASGIApp | Callable[[], ASGIApp], config: Config, workers: int | None = None) -> uvicorn.Config:
    limits = config.limits
    return uvicorn.Config(
        app,
        factory=workers is not None,
        workers=workers,
        loop="uvloop",
        http=Connection,
        ws=Websocket,
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
    """uvicorn's, which outlives what its workers do not, and says what becomes of them.

    uvicorn ends all as soon as one worker cannot start. Where others serve, that may be a database that is away for a
    minute: then one is started again, after pauses that grow.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], limits: Limits) -> None:
        super().__init__(config, sockets)
        self.failed = False
        """Whether it ended because no worker could start."""
        self._answer_seconds = limits.worker_answer_seconds_max
        self._end_seconds = limits.worker_end_seconds_max
        self._pause_seconds_max = limits.worker_pause_seconds_max
        self._pause = 0.0
        self._start_again_at = 0.0
        self._has_served = False
        self._ready: set[Process] = set()
        self._gone: set[Process] = set()
        """Those that have ended, until they are replaced."""
        self._counted: list[int] = []
        """Those that have ended, until their numbers are taken over."""

    def run(self) -> None:
        """Serves until told to stop. A fault of its own ends the workers too: without it they would serve for ever."""
        try:
            super().run()
        except BaseException:
            self.terminate_all()
            self.join_all()
            raise

    def keep_subprocess_alive(self) -> None:
        """Replaces those that have ended or do not answer."""
        for process in self.processes:
            if self.should_exit.is_set():
                return
            # With our copy of the worker's end of the pipe open, one that has died would be waited for.
            process.child_conn.close()
            if process not in self._gone and not self._lives(process):
                self._bury(process)
        self._forget_counted()
        if not self._has_served:
            if self._gone.issuperset(self.processes):
                log.error("no worker could start")
                self.failed = True
                self.should_exit.set()
        elif time.monotonic() >= self._start_again_at:
            self._replace_gone()

    def _lives(self, process: Process) -> bool:
        if process not in self._ready and process.process.is_alive() and process.is_ready(self._answer_seconds):
            self._ready.add(process)
            self._has_served, self._pause = True, 0.0
        return process.is_alive(self._answer_seconds)

    def _bury(self, process: Process) -> None:
        process.kill()
        process.join()
        self._gone.add(process)
        log.warning("worker %d has ended (%s)", process.pid, process.exitcode)
        self._forget_later(process)
        if process not in self._ready:
            self._wait_longer()
            log.warning("it was not seen to serve; another starts in %.0f s, where any has served", self._pause)

    def _wait_longer(self) -> None:
        self._pause = min(max(1.0, 2 * self._pause), self._pause_seconds_max)
        self._start_again_at = time.monotonic() + self._pause

    def _replace_gone(self) -> None:
        for place, process in enumerate(self.processes):
            if process in self._gone:
                with self._starting():
                    successor = Process(self.config, self.sockets)
                    successor.start()
                    self.processes[place] = successor
        self._forget_replaced()

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """The system may have no files or memory for one more; that must not end those that serve."""
        try:
            yield
        except OSError as error:
            self._wait_longer()
            log.error("a worker cannot be started: %s", error)  # noqa: TRY400 - the system's reason is enough

    def handle_hup(self) -> None:
        """Replaces each in turn."""
        with self._noting(), self._starting():
            super().handle_hup()

    def handle_ttin(self) -> None:
        """Starts one more, where there may be."""
        if len(self.processes) < WORKERS_MAX:
            with self._starting():
                super().handle_ttin()

    def handle_ttou(self) -> None:
        """Ends one."""
        with self._noting():
            super().handle_ttou()

    def terminate_all(self) -> None:
        """Tells all to end, and takes no further connection: our copy of the socket would, for nobody to answer."""
        for one in self.sockets:
            one.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Waits for all to end, and kills those that hang."""
        deadline = time.monotonic() + self._end_seconds
        for process in self.processes:
            process.process.join(max(0.0, deadline - time.monotonic()))
            if process.process.is_alive():
                log.error("worker %d did not end, and is killed", process.pid)
                process.kill()
        super().join_all()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        before = list(self.processes)
        yield
        for process in before:
            if process not in self.processes and process not in self._gone:
                log.info("worker %d was told to end", process.pid)
                self._forget_later(process)
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        self._ready.intersection_update(self.processes)
        self._gone.intersection_update(self.processes)

    def _forget_later(self, process: Process) -> None:
        assert process.pid is not None
        self._counted.append(process.pid)

    def _forget_counted(self) -> None:
        with contextlib.suppress(OSError):  # no file can be opened: it is tried again in half a second
            while self._counted:
                forget_process(self._counted[0])
                del self._counted[0]


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
