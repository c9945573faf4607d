"""A real Redis for tests, which may be stopped and started again on its port."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest
from serving import free_port

_START_SECONDS_MAX = 10


class RedisServer:
    """A redis-server that keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS_MAX
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


def started() -> RedisServer:
    if shutil.which("redis-server") is None:
        what = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("CHARGLY_TESTS_NEED_ALL") == "1":
            pytest.fail(what)
        pytest.skip(what)
    return RedisServer()
