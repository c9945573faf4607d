"""Who may listen, and for how long: tokens, origins, and what is said on the socket."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
import websockets
from serving import (
    ADMIN_KEY,
    ALLOWED_ORIGIN,
    TOKEN_SECRET,
    ServerProcess,
    StartServer,
    charge,
    close_code,
    next_wallet,
    with_limits,
)


async def subscribe(ws: websockets.ClientConnection, token: str) -> None:
    await ws.send(json.dumps({"type": "subscribe", "token": token}))


def bad_tokens() -> Iterator[tuple[str, str]]:
    good = {"sub": "u", "exp": int(time.time()) + 3600, "scopes": ["read"]}
    yield "expired", jwt.encode(good | {"exp": 1}, TOKEN_SECRET, algorithm="HS256")
    yield "foreign", jwt.encode(good, "another secret of thirty-two bytes", algorithm="HS256")
    yield "unsigned", jwt.encode(good, None, algorithm="none")
    yield "too far", jwt.encode(good | {"exp": int(time.time()) + 90_000}, TOKEN_SECRET, algorithm="HS256")
    yield "no read", jwt.encode(good | {"scopes": ["top_up"]}, TOKEN_SECRET, algorithm="HS256")
    yield "no end", jwt.encode({"sub": "u", "scopes": ["read"]}, TOKEN_SECRET, algorithm="HS256")
    yield "bad customer", jwt.encode(good | {"sub": "a/b"}, TOKEN_SECRET, algorithm="HS256")
    yield "nobody", jwt.encode(good | {"sub": ""}, TOKEN_SECRET, algorithm="HS256")
    yield "a key", ADMIN_KEY
    yield "empty", ""
    yield "nonsense", "a.b.c"


@pytest.mark.parametrize("token", [token for _, token in bad_tokens()], ids=[name for name, _ in bad_tokens()])
async def test_a_bad_token_is_shown_the_door(server: ServerProcess, token: str) -> None:
    async with server.live(token) as ws:
        assert await close_code(ws) == 4401


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "https://app.example.com.evil.com", "http://[", "file://"]
)
async def test_a_foreign_origin_may_not_listen(server: ServerProcess, customer: str, origin: str) -> None:
    async with server.live(server.token(customer), origin=origin) as ws:
        assert await close_code(ws) == 4403


async def test_the_servers_own_origin_an_allowed_one_and_no_browser_may_listen(
    server: ServerProcess, customer: str
) -> None:
    for origin in (server.address, ALLOWED_ORIGIN, None):
        async with server.live(server.token(customer), origin=origin) as ws:
            assert (await next_wallet(ws))["balance"] == 100


@pytest.mark.sqlite
async def test_who_says_nothing_is_let_go_after_ten_seconds(server: ServerProcess) -> None:
    begun = time.monotonic()
    async with server.live(None) as ws:
        assert await close_code(ws) == 4408
    assert 9 < time.monotonic() - begun < 12


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"type": "hello"}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "token": 7}',
        '{"type": "subscribe", "token": "t", "extra": 1}',
        '{"type": "subscribe", "token": "t", "since": "1"}',
        "[" * 10_000,
        b"\x00\x01",
        b'{"type": "subscribe", "token": "t"}',
    ],
    ids=range(12),
)
async def test_what_is_no_subscribe_message_is_shown_the_door(server: ServerProcess, message: str | bytes) -> None:
    async with server.live(None) as ws:
        await ws.send(message)
        assert await close_code(ws) == 4400


@pytest.mark.parametrize("since", [-1, 2**63, -(2**63) - 1, -(2**70)])
async def test_a_version_beyond_any_is_no_fault_of_ours(
    server: ServerProcess, api: httpx.Client, customer: str, since: int
) -> None:
    async with server.live(token := server.token(customer)) as ws:
        epoch = (await next_wallet(ws))["epoch"]
    logged = len(server.log.read_text())
    async with server.live(token, epoch=epoch, since=since) as ws:
        with contextlib.suppress(websockets.ConnectionClosed):
            assert (await next_wallet(ws))["balance"] == 100
        assert ws.close_code in (None, 4400)
    assert "Traceback" not in server.log.read_text()[logged:]


async def test_a_huge_message_is_not_taken(server: ServerProcess) -> None:
    async with server.live(None) as ws:
        await ws.send("x" * 1_000_000)
        assert await close_code(ws) in (1009, 4400)


async def test_a_token_that_ends_while_the_socket_is_open_ends_it(server: ServerProcess, customer: str) -> None:
    async with server.live(server.token(customer, expires_in=2)) as ws:
        await next_wallet(ws)
        assert await close_code(ws, 5) == 4401


async def test_a_newer_token_renews_in_place(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    async with server.live(server.token(customer, expires_in=2)) as ws:
        await next_wallet(ws)
        await subscribe(ws, server.token(customer, expires_in=600))
        assert (await next_wallet(ws))["balance"] == 100  # how a client knows that it was taken
        with pytest.raises(TimeoutError):
            await next_wallet(ws, 3.2)
        charge(api, customer)
        assert (await next_wallet(ws))["balance"] == 92


async def test_a_socket_shows_no_more_wallets_than_it_may(server: ServerProcess) -> None:
    async with server.live(None) as ws:
        for number in range(21):
            await subscribe(ws, server.token(f"nobody_{number}"))
        assert await close_code(ws) == 4429


@pytest.mark.sqlite
async def test_a_wallet_is_shown_on_no_more_sockets_than_it_may_be(new_server: StartServer, tmp_path: Path) -> None:
    server = new_server(**with_limits(tmp_path, live_sockets_per_wallet_max=2))
    async with server.live(token := server.token("u")) as first, server.live(token) as second:
        await next_wallet(first)
        await next_wallet(second)
        async with server.live(token) as third:
            assert await close_code(third) == 4429
        async with server.live(server.token("v")) as other:
            await next_wallet(other)
        await first.close()
        async with asyncio.timeout(10):
            while True:
                async with server.live(token) as third:
                    with contextlib.suppress(websockets.ConnectionClosed):
                        await next_wallet(third)
                        break


async def test_no_token_and_no_key_is_ever_logged(server: ServerProcess, customer: str) -> None:
    token = server.token(customer)
    async with server.live(token) as ws:
        await next_wallet(ws)
    with server.client(None) as anybody:
        anybody.get("/v1/live", params={"token": token})
    log = server.log.read_text()
    assert token not in log
    assert ADMIN_KEY not in log
