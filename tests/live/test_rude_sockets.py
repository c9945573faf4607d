"""Websockets that send what they should not, leave while they wait, or come while the server or its database goes."""

import asyncio
import json
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
import websockets
from api.test_metrics import samples
from live.test_live import plain_socket
from postgres import PostgresServer
from serving import ServerProcess, StartServer, charge, close_code, error_of, grant, next_wallet, with_limits

HANDSHAKE = (
    b"GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PING, TEXT, MORE = 0x89, 0x01, 0x00
SECONDS_MAX = 20.0


def frame(kind: int, payload: bytes) -> bytes:
    """A client's frame, under a mask of zeros."""
    return bytes([kind, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


def ends(connection: socket.socket, sent: bytes) -> bool:
    """Whether the server breaks a connection on which that is sent, over and over; what it says is read meanwhile."""
    deadline = time.monotonic() + SECONDS_MAX
    connection.settimeout(0.05)
    while time.monotonic() < deadline:
        try:
            connection.sendall(sent)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.sqlite
@pytest.mark.parametrize("flood", [frame(PING, b"x" * 100), frame(MORE, b"x")], ids=["pings", "pieces"])
def test_a_flood_of_frames_ends_the_socket(new_server: StartServer, flood: bytes) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 5)
        with plain_socket(server, server.token("u")) as connection:
            connection.sendall(frame(TEXT, b"{"))
            assert ends(connection, flood * 20)
        assert samples(api)["chargly_sockets"] == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.sqlite
async def test_a_few_pings_are_answered(new_server: StartServer) -> None:
    server = new_server()
    async with server.live(server.token("u")) as page, asyncio.timeout(SECONDS_MAX):
        for _ in range(50):
            await (await page.ping())


@pytest.mark.sqlite
def test_text_that_is_none_closes_the_socket_and_logs_no_traceback(new_server: StartServer) -> None:
    server = new_server()
    with plain_socket(server, server.token("u")) as connection:
        connection.settimeout(SECONDS_MAX)
        connection.sendall(frame(0x80 | TEXT, b"\xff\xfe"))
        heard = b""
        while more := connection.recv(4096):
            heard += more
    assert struct.pack("!H", 1007) in heard
    assert "Traceback" not in server.log.read_text()


@pytest.mark.sqlite
async def test_who_leaves_while_waiting_at_the_door_gives_up_the_place(new_server: StartServer, tmp_path: Path) -> None:
    limits = with_limits(tmp_path, live_accepts_per_second=1, live_accept_wait_seconds_max=3600.0)
    server = new_server(**limits)

    async def leave() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with server.live(server.token("u")) as page:  # the one who may come in this second
        await next_wallet(page)
    await asyncio.gather(*(leave() for _ in range(50)))
    async with asyncio.timeout(SECONDS_MAX), server.live(server.token("u")) as page:
        await next_wallet(page)


@pytest.mark.sqlite
async def test_who_is_refused_at_the_door_is_counted_and_not_logged_as_an_error(
    new_server: StartServer, tmp_path: Path
) -> None:
    server = new_server(**with_limits(tmp_path, live_accepts_per_second=1, live_accept_wait_seconds_max=0.0))
    refusals = []
    for _ in range(5):
        try:
            async with server.live(None):
                pass
        except websockets.InvalidStatus as refusal:
            refusals.append(refusal.response.status_code)
    assert set(refusals) == {503}
    with server.client() as api:
        assert samples(api)["chargly_refusals_total{code=busy}"] == len(refusals) >= 3
    assert "ERROR" not in server.log.read_text()


@pytest.mark.sqlite
def test_who_waits_at_the_door_of_a_server_that_stops_is_told_to_come_back(
    new_server: StartServer, tmp_path: Path
) -> None:
    limits = with_limits(tmp_path, live_accepts_per_second=0.01, live_accept_wait_seconds_max=3600.0)
    server = new_server(**limits)
    assert server.process is not None
    waiting = []
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", server.port), SECONDS_MAX)
        connection.sendall(HANDSHAKE)
        waiting.append(connection)
    assert b" 101 " in waiting[0].recv(1000)
    with server.client() as api:  # what was sent before has been read
        assert api.get("/healthz").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    for connection in waiting[1:]:
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
    for connection in waiting:
        connection.close()
    server.process.wait(SECONDS_MAX)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.postgresql
async def test_while_the_database_is_away_a_page_that_is_open_stays_and_one_that_comes_is_told_to_try_later(
    engine: str, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    server = ServerProcess(tmp_path, DATABASE_URL=own_postgres.new_database()).start()
    try:
        with server.client() as api:
            grant(api, "u", 7)
            first, second = server.token("u"), server.token("u")
            async with server.live(first) as page:
                before = await next_wallet(page)
                own_postgres.stop()
                await page.send(json.dumps({"type": "subscribe", "token": second}))
                again = await next_wallet(page)
                assert {**again, "at": before["at"]} == before
                async with server.live(second) as newcomer:
                    assert await close_code(newcomer) == 1013
                error_of(api.get("/v1/wallets/u"), 503, "busy")
                own_postgres.start()
                while charge(api, "u", credits=1).status_code != 201:
                    await asyncio.sleep(0.1)
                assert (await next_wallet(page))["balance"] == 6
    finally:
        server.stop()
