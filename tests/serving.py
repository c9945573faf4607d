"""A real `chargly` process, and what tests say to it and check of its answers."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import websockets
from forked import RUN_FIRST, Forked

ADMIN_KEY = "sk_test_admin_0123456789abcdef"
TOKEN_SECRET = "a secret of this test suite, long enough"
ALLOWED_ORIGIN = "https://app.example.com"
START_SECONDS_MAX = 30
COMMAND_SECONDS_MAX = 30
MANY = httpx.Limits(max_connections=200, max_keepalive_connections=200)
"""For threads that share a client: one that may keep fewer than it has may close one that another thread was given.

No client verifies anything: it speaks plain HTTP, and would read all certificates for nothing.
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """One `chargly` process on a port of its own, and on a file unless DATABASE_URL is given; a restart keeps both.

    With more than one word in its command it is the installed script that runs: what is forked may have no children.
    """

    def __init__(self, folder: Path, command: str = "serve", **env: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.command = command
        ours = ("CHARGLY_", "STRIPE_", "DATABASE_", "HOST", "PORT")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PORT": str(self.port),
            "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
            "CHARGLY_API_KEY": ADMIN_KEY,
            "CHARGLY_TOKEN_SECRET": TOKEN_SECRET,
            "CHARGLY_ALLOWED_ORIGINS": ALLOWED_ORIGIN,
            **env,
        }
        self.log = folder / "server.log"
        self.process: Forked | subprocess.Popen[bytes] | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs another `chargly` command with the same settings, to its end."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            running = Forked(words, self.env, self.folder, out, err)
            try:
                code = running.wait(COMMAND_SECONDS_MAX)
            finally:
                running.kill()
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())

    def start(self) -> "ServerProcess":
        self.process = self._begin()
        deadline = time.monotonic() + START_SECONDS_MAX
        with httpx.Client(timeout=1, verify=False) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise RuntimeError(f"chargly {self.command} stopped:\n{self.log.read_text()[-3000:]}")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.address}/readyz").status_code == 200:
                        return self
                time.sleep(0.02)
        raise RuntimeError(f"chargly {self.command} was not ready:\n{self.log.read_text()[-3000:]}")

    def _begin(self) -> Forked | subprocess.Popen[bytes]:
        words = self.command.split()
        if len(words) == 1:
            return Forked(words, self.env, self.folder, self.log, self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen([chargly(), *words], env=self.env, cwd=self.folder, stdout=log, stderr=log)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(15)

    def client(self, key: str | None = ADMIN_KEY, **headers: str) -> httpx.Client:
        credential = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.address, headers=credential | headers, timeout=20, verify=False, limits=MANY)

    def token(self, customer_id: str, **fields: Any) -> str:
        with self.client() as api:
            answer = api.post(f"/v1/wallets/{customer_id}/tokens", json=fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    @contextlib.asynccontextmanager
    async def live(
        self, token: str | None, *, origin: str | None = ALLOWED_ORIGIN, address: str | None = None, **resume: Any
    ) -> AsyncIterator[websockets.ClientConnection]:
        """A websocket that has sent its subscribe message; without a token it has sent nothing.

        `address` is that of the client for whom a proxy on this machine would have connected.
        """
        url = f"ws://127.0.0.1:{self.port}/v1/live"
        proxied = {} if address is None else {"X-Forwarded-For": address}
        async with websockets.connect(
            url, subprotocols=["chargly.v1"], origin=origin, additional_headers=proxied
        ) as ws:
            if token is not None:
                with contextlib.suppress(websockets.ConnectionClosed):
                    await ws.send(json.dumps({"type": "subscribe", "token": token, **resume}))
            yield ws


StartServer = Callable[..., ServerProcess]


def with_limits(folder: Path, **limits: float) -> dict[str, str]:
    """Settings of a server with other limits than those it comes with."""
    first = folder / "limits.py"
    sets = [f"force_setattr(LIMITS, {name!r}, {value!r})" for name, value in limits.items()]
    first.write_text("\n".join(["from app.config import LIMITS", "from msgspec.structs import force_setattr", *sets]))
    return {RUN_FIRST: str(first)}


def chargly() -> str:
    """The command as it is installed beside the running Python."""
    return str(Path(sys.executable).with_name("chargly"))


async def next_wallet(ws: websockets.ClientConnection, seconds_max: float = 5) -> dict[str, Any]:
    """The next message of a wallet; heartbeats are passed over."""
    async with asyncio.timeout(seconds_max):
        while True:
            message = json.loads(await ws.recv())
            if message["type"] == "wallet":
                return message


async def close_code(ws: websockets.ClientConnection, seconds_max: float = 15) -> int:
    """Reads until the server closes the socket, and tells its code."""
    async with asyncio.timeout(seconds_max):
        try:
            while True:
                await ws.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, after checking its status, code and shape, and that nothing internal shows."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:400]}"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code, error
    assert len(error["message"]) > 8
    for word in ("Traceback", "sqlite3", "SELECT ", "INSERT "):
        assert word not in answer.text
    return error


def grant(api: httpx.Client, customer_id: str, credits: int, category: str = "promotional") -> dict[str, Any]:
    answer = api.post(f"/v1/wallets/{customer_id}/grants", json={"credits": credits, "category": category})
    assert answer.status_code == 201, answer.text
    return answer.json()


def charge(api: httpx.Client, customer_id: str, event: str = "chat.reply", **fields: Any) -> httpx.Response:
    return api.post("/v1/events", json={"customer_id": customer_id, "event": event, **fields})


def balance(api: httpx.Client, customer_id: str) -> int:
    answer = api.get(f"/v1/wallets/{customer_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()["balance"]


def whole_ledger(api: httpx.Client, customer_id: str, **query: str) -> list[dict[str, Any]]:
    """Every entry, newest first, by following the cursor."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next_cursor": None}
    while not found or page["next_cursor"]:
        more = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        answer = api.get(f"/v1/wallets/{customer_id}/entries", params={"limit": "100", **query, **more})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["entries"]
        if not page["entries"]:
            break
    return found
