"""The websocket: the whole state at every change, to those who may see it, and nobody slows anybody."""

import asyncio
import contextlib
import json
import secrets
import signal
import socket
import time
from typing import Any

import httpx
import pytest
import websockets
from serving import (
    ServerProcess,
    StartServer,
    charge,
    close_code,
    grant,
    next_wallet,
)


async def subscribe(ws: websockets.ClientConnection, token: str) -> None:
    await ws.send(json.dumps({"type": "subscribe", "token": token}))


def moves(message: dict[str, Any]) -> list[tuple[str, int]]:
    return [(entry["description"], entry["credits"]) for entry in message["entries"]]


async def test_the_first_message_is_the_wallet_as_it_stands(server: ServerProcess, customer: str) -> None:
    async with server.live(server.token(customer)) as ws:
        assert ws.subprotocol == "chargly.v1"
        first = await next_wallet(ws)
    assert first.pop("epoch")
    assert first.pop("prices") >= 1
    assert first.pop("at").endswith("Z")
    assert first == {
        "type": "wallet",
        "customer_id": customer,
        "balance": 100,
        "held": 0,
        "available": 100,
        "version": 1,
        "low": False,
        "entries": [],
        "gap": False,
    }


async def test_each_event_is_pushed_with_its_entry_in_the_order_of_versions(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        for number in range(1, 6):
            charged = charge(api, customer).json()
            pushed = await next_wallet(ws)
            assert (pushed["balance"], pushed["version"]) == (100 - 8 * number, 1 + number)
            [entry] = pushed["entries"]
            assert (entry["id"], entry["description"], entry["credits"]) == (charged["id"], "Chat reply", -8)


async def test_a_push_tells_a_customer_nothing_of_the_operators(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        charge(api, customer, cost_usd="0.1234", metadata={"secret": "thing"})
        text = json.dumps(await next_wallet(ws))
        api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": 1, "reason": "a secret thing"})
        text += json.dumps(await next_wallet(ws))
    for word in ("0.1234", "secret", "cost", "actor", "CHARGLY_API_KEY"):
        assert word not in text


async def test_every_kind_of_change_is_pushed(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    url = f"/v1/wallets/{customer}"
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        grant(api, customer, 5, "paid")
        assert moves(await next_wallet(ws)) == [("Credits added", 5)]
        api.post(f"{url}/adjustments", json={"credits": -5, "reason": "r"})
        assert moves(await next_wallet(ws)) == [("Adjustment", -5)]
        api.patch(url, json={"low_balance_threshold": 200})
        pushed = await next_wallet(ws)
        assert (pushed["low"], pushed["entries"], pushed["version"]) == (True, [], 4)


async def test_a_refusal_a_replay_and_somebody_elses_event_push_nothing(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    grant(api, f"{customer}_2", 100)
    charge(api, customer, idempotency_key="k")
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        charge(api, customer, credits=10**6)
        charge(api, customer, idempotency_key="k")
        charge(api, f"{customer}_2")
        charge(api, customer, credits=1)
        pushed = await next_wallet(ws)
    assert (pushed["version"], moves(pushed)) == (3, [("Chat reply", -1)])


async def test_a_burst_loses_no_entry_and_ends_in_the_newest_state(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        for _ in range(50):
            await asyncio.to_thread(charge, api, customer, credits=1)
        seen: list[int] = []
        while not seen or seen[-1] < 51:
            pushed = await next_wallet(ws)
            assert not pushed["gap"]
            seen += [entry["version"] for entry in pushed["entries"]]
            assert pushed["version"] == seen[-1]
    assert seen == list(range(2, 52))


async def test_a_resume_gets_what_came_between(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    async with server.live(server.token(customer)) as ws:
        seen = await next_wallet(ws)
    for _ in range(3):
        charge(api, customer)
    api.patch(f"/v1/wallets/{customer}", json={"name": "Acme"})
    async with server.live(server.token(customer), epoch=seen["epoch"], since=seen["version"]) as ws:
        state = await next_wallet(ws)
    assert [entry["version"] for entry in state["entries"]] == [2, 3, 4]
    assert (state["gap"], state["balance"], state["version"]) == (False, 76, 5)


@pytest.mark.parametrize(("missed", "gap"), [(20, False), (21, True)])
async def test_a_resume_after_more_than_twenty_says_that_there_is_a_gap(
    server: ServerProcess, api: httpx.Client, customer: str, missed: int, *, gap: bool
) -> None:
    async with server.live(server.token(customer)) as ws:
        seen = await next_wallet(ws)
    for _ in range(missed):
        charge(api, customer, credits=1)
    async with server.live(server.token(customer), epoch=seen["epoch"], since=seen["version"]) as ws:
        state = await next_wallet(ws)
    assert (len(state["entries"]), state["gap"]) == (20, gap)
    assert state["entries"][-1]["version"] == state["version"] == missed + 1


@pytest.mark.parametrize("resume", [{"epoch": "of another database", "since": 1}, {"since": 1}, {"since": 99}])
async def test_a_resume_in_another_epoch_or_from_the_future_starts_afresh(
    server: ServerProcess, api: httpx.Client, customer: str, resume: dict[str, Any]
) -> None:
    charge(api, customer)
    async with server.live(server.token(customer), **resume) as ws:
        state = await next_wallet(ws)
    assert (state["entries"], state["version"], state["balance"]) == ([], 2, 92)


async def test_an_epoch_stays_over_a_restart_and_a_resume_goes_on(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 100)
        async with server.live(token := server.token("u")) as ws:
            seen = await next_wallet(ws)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop, signal.SIGTERM))
            assert await close_code(ws) == 1012
            await stopping
    server.start()
    with server.client() as api:
        charge(api, "u")
    async with server.live(token, epoch=seen["epoch"], since=seen["version"]) as ws:
        state = await next_wallet(ws)
    assert (state["epoch"], moves(state)) == (seen["epoch"], [("Chat reply", -8)])


async def test_several_wallets_share_one_socket(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    grant(api, other := f"{customer}_2", 50)
    async with server.live(server.token(customer)) as ws:
        assert (await next_wallet(ws))["customer_id"] == customer
        await subscribe(ws, server.token(other))
        first = await next_wallet(ws)
        assert (first["customer_id"], first["balance"]) == (other, 50)
        for one, left in ((customer, 92), (other, 42)):
            charge(api, one)
            pushed = await next_wallet(ws)
            assert (pushed["customer_id"], pushed["balance"]) == (one, left)


async def test_somebody_never_seen_is_shown_zero_and_then_the_first_grant(
    server: ServerProcess, api: httpx.Client, customer_id: str
) -> None:
    async with server.live(server.token(customer_id)) as ws:
        first = await next_wallet(ws)
        assert (first["balance"], first["available"], first["version"]) == (0, 0, 0)
        grant(api, customer_id, 30)
        pushed = await next_wallet(ws)
        assert (pushed["balance"], pushed["version"]) == (30, 1)


async def test_somebody_never_seen_is_shown_the_welcome_credits(new_server: StartServer) -> None:
    server = new_server(CHARGLY_WELCOME_CREDITS="50")
    async with server.live(server.token("u")) as ws:
        assert (await next_wallet(ws))["balance"] == 50
        with server.client() as api:
            charge(api, "u")
        assert (await next_wallet(ws))["balance"] == 42


async def test_a_price_change_is_told_with_the_next_push(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        before = (await next_wallet(ws))["prices"]
        api.put(f"/v1/prices/p.{secrets.token_hex(4)}", json={"credits": 1})
        charge(api, customer)
        assert (await next_wallet(ws))["prices"] > before


def plain_socket(server: ServerProcess, token: str) -> socket.socket:
    """A websocket that subscribes at once, and has as little room for what comes as the kernel gives."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", server.port))
    handshake = (
        f"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    payload = json.dumps({"type": "subscribe", "token": token}).encode()
    frame = b"\x81\xfe" + len(payload).to_bytes(2, "big") + b"\0\0\0\0" + payload
    connection.sendall(handshake.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    connection.sendall(frame)
    return connection


def test_whoever_subscribes_at_once_gets_the_first_state(server: ServerProcess, customer: str) -> None:
    token = server.token(customer)
    for _ in range(100):
        with plain_socket(server, token) as connection:
            connection.settimeout(3)
            heard = b""
            while b'"type":"wallet"' not in heard:
                heard += (more := connection.recv(4096))
                assert more, heard


async def test_a_reader_that_stalls_slows_nobody(server: ServerProcess, api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 10_000)
    long = "\N{ELEPHANT}" * 255  # a push of some kilobytes, so that the kernel's buffers are soon full

    def load(_: int) -> float:
        slowest = 0.0
        with server.client() as mine:
            for _ in range(250):
                begun = time.monotonic()
                assert charge(mine, customer_id, "x.y", credits=1, member=long, model=long).status_code == 201
                slowest = max(slowest, time.monotonic() - begun)
        return slowest

    with contextlib.ExitStack() as stalled:
        for _ in range(3):
            stalled.enter_context(plain_socket(server, server.token(customer_id)))
        async with server.live(server.token(customer_id)) as ws:
            await next_wallet(ws)
            callers = asyncio.gather(*[asyncio.to_thread(load, number) for number in range(8)])
            while (await next_wallet(ws, 2))["balance"] > 8_000:
                pass
            assert max(await callers) < 1
