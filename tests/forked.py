"""Processes of `chargly` forked from one that has imported it: the imports cost more than most commands.

The command is run as it is installed, by its entry point, with an environment, a folder and output of its own.
Tests that are about the installed script itself, a terminal or a pipe start that.
"""

import contextlib
import multiprocessing
import multiprocessing.context
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

import pytest

RUN_FIRST = "CHARGLY_TESTS_RUN_FIRST"
"""Names a file of Python that is run before the command."""
_IMPORTED = [
    "app.cli",
    "app.main",
    "app.api.connection",
    "app.demo",
    "app.payments.stripe_api",
    "app.store.postgres_start",
    "app.store.upgrade",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
]


@cache
def _forking() -> multiprocessing.context.ForkServerContext:
    """The process that commands are forked from. It imports what is installed, not what lies in its folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONSAFEPATH", "1")
        forkserver.ensure_running()
    return context


class Forked:
    """A command that runs; as `subprocess.Popen` knows it.

    Args:
        words: the command's.
        env: its whole environment.
        folder: where it runs.
        out: a file that its output is added to.
        err: one for its errors.

    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str], folder: Path, out: Path, err: Path) -> None:
        process = _forking().Process(target=_run, args=(list(words), dict(env), folder, out, err), daemon=True)
        process.start()
        assert process.pid is not None
        self._process = process
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, how: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("chargly", timeout or 0)
        return self._process.exitcode


def _run(words: list[str], env: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    if (first := os.environ.pop(RUN_FIRST, None)) is not None:
        exec(compile(Path(first).read_text(), first, "exec"), {})
    sys.argv = ["chargly", *words]
    from app.cli import main

    main()
