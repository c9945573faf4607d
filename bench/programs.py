"""The programs that are compared, each as a context that runs it."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.processes import HOST, Server, free_port, running

API_KEY = "sk_bench_only_on_this_machine"
_ROOT = Path(__file__).resolve().parent.parent


def customer(number: int) -> str:
    """The id of the wallet with this number, from 1."""
    return f"user_{number:04d}"


@contextlib.contextmanager
def chargly(
    directory: Path, database_url: str | None = None, workers: int = 1, more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`chargly serve` as it comes but for `more` settings, on a file of its own or on the database that is given."""
    port = free_port()
    settings = {
        "HOST": HOST,
        "PORT": str(port),
        "DATABASE_URL": database_url or f"sqlite:///{directory / 'x.db'}",
        "CHARGLY_API_KEY": API_KEY,
        **(more or {}),
    }
    command = [str(Path(sys.executable).with_name("chargly")), "serve", "--workers", str(workers)]
    with running(command, port=port, ready_path="/readyz", environ=settings, directory=directory) as server:
        yield server


@contextlib.contextmanager
def bare(directory: Path) -> Iterator[Server]:
    """`bench/bare.py`: what Starlette and uvicorn cost without any ledger."""
    with _uvicorn("bench.bare:app", directory, {}) as server:
        yield server


@contextlib.contextmanager
def bare_socket(directory: Path) -> Iterator[Server]:
    """`bench/bare_socket.py`: what a websocket costs without any wallet."""
    with _uvicorn("bench.bare_socket:app", directory, {}) as server:
        yield server


@contextlib.contextmanager
def naive(directory: Path, wallets: int) -> Iterator[Server]:
    """`bench/naive.py`: one transaction for each request, over wallets with credits."""
    settings = {"DATABASE_URL": f"sqlite:///{directory / 'x.db'}", "WALLETS": str(wallets)}
    with _uvicorn("bench.naive:app", directory, settings) as server:
        yield server


@contextlib.contextmanager
def function(directory: Path, database_url: str, workers: int) -> Iterator[Server]:
    """`bench/function.py`: a function in PostgreSQL for each request, over one wallet with credits."""
    with _uvicorn("bench.function:app", directory, {"DATABASE_URL": database_url}, workers) as server:
        yield server


@contextlib.contextmanager
def _uvicorn(app: str, directory: Path, settings: dict[str, str], workers: int = 1) -> Iterator[Server]:
    """An ASGI app under uvicorn, set as `chargly serve` sets it."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(_ROOT), "--host", HOST, "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header"]
    command += ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
    command += ["--log-level", "warning", "--workers", str(workers)]
    with running(command, port=port, ready_path="/", environ=settings, directory=directory) as server:
        yield server
