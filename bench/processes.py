"""One server in a process of its own: started, awaited, stopped by its own process id."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec

from bench.failure import BenchFailed

HOST = "127.0.0.1"
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0


class Server(msgspec.Struct, frozen=True):
    """A server that answers; `directory` holds its log, and its database where `postgres_url` names none."""

    pid: int
    port: int
    directory: Path
    postgres_url: str | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def database(self) -> Path:
        """The file of its ledger."""
        return self.directory / "x.db"

    def cpu_seconds(self) -> float | None:
        """Processor time of it and the processes that it started, so far; None where there is no `/proc`."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return sum(_cpu_seconds(pid) for pid in (str(self.pid), *children))
        except FileNotFoundError:
            return None

    def memory_kib(self) -> int:
        """What it has in memory, in KiB; 0 where there is no `/proc`."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return 0
        return int(text.partition("VmRSS:")[2].split()[0])


def _cpu_seconds(pid: str) -> float:
    text = Path(f"/proc/{pid}/stat").read_text()
    user_ticks, system_ticks = text.rpartition(")")[2].split()[11:13]
    return (int(user_ticks) + int(system_ticks)) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], *, port: int, ready_path: str, environ: Mapping[str, str], directory: Path
) -> Iterator[Server]:
    """Runs a server for as long as the context lasts.

    Args:
        command: the program and its arguments.
        port: where it is going to listen.
        ready_path: answers 200 once the server can work.
        environ: its settings; of this process's environment it gets PATH alone, so that no stray setting counts.
        directory: made here, and the server's working directory.

    Raises:
        BenchFailed: it did not become ready; the sentence holds the end of its log.

    """
    directory.mkdir()
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={"PATH": os.environ.get("PATH", ""), **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Server(process.pid, port, directory, environ.get("DATABASE_URL") if on_postgres(environ) else None)
        _wait_until_ready(process, server.url + ready_path, log)
        yield server
    finally:
        _stop(process)


def on_postgres(environ: Mapping[str, str]) -> bool:
    """Whether a server's settings name a PostgreSQL database."""
    return environ.get("DATABASE_URL", "").startswith("postgresql:")


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS_MAX
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=1, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise BenchFailed(f"{url} did not become ready. Its log ends:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
