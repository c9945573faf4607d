"""How many sockets one client address may have, and whose address counts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
from api.test_metrics import samples
from live.test_rude_sockets import HANDSHAKE
from serving import ServerProcess, StartServer, close_code, next_wallet, with_limits

from app.api.live import LiveEndpoint
from app.config import Config, Limits
from app.errors import TooManyConnections
from app.live.addresses import Addresses, counted_address
from app.live.sockets import Sockets
from app.metrics import Metrics

HERE, ELSEWHERE = "8.8.8.8", "8.8.4.4"  # text in a header: nothing is sent there
SECONDS_MAX = 20.0


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("64:ff9b::8.8.8.8", "8.8.8.8"),
        ("2606:4700:4700:1:aaaa::1", "2606:4700:4700:1::/64"),
        ("2606:4700:4700:1::", "2606:4700:4700:1::/64"),
        ("2606:4700:4700:2::", "2606:4700:4700:2::/64"),
        ("2606:4700:4700:1::1%eth0", "2606:4700:4700:1::/64"),
    ],
)
def test_a_client_counts_by_its_address_and_one_of_ipv6_by_its_network(written: str, counted: str) -> None:
    assert counted_address(written) == counted


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "unknown",
        "/run/chargly.sock",
        "127.0.0.1",
        "10.1.2.3",
        "172.17.0.1",
        "192.168.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "203.0.113.7",
        "0.0.0.0",
        "::1",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "64:ff9b::10.1.2.3",
        "fe80::1%eth0",
        "fd00::1",
        "2001:db8::1",
    ],
)
def test_what_is_no_address_of_the_internet_is_a_proxy_or_our_own_network_and_does_not_count(
    written: str | None,
) -> None:
    assert counted_address(written) is None


def test_an_address_is_forgotten_with_its_last_socket() -> None:
    addresses = Addresses(2, Limits())
    addresses.take_place(HERE)
    addresses.take_place(HERE)
    with pytest.raises(TooManyConnections):
        addresses.take_place(HERE)
    addresses.take_place(ELSEWHERE)
    assert len(addresses) == 2
    for address in (HERE, HERE, ELSEWHERE):
        addresses.give_back_place(address)
    assert len(addresses) == 0


def test_a_crowd_is_warned_of_once_a_while(caplog: pytest.LogCaptureFixture) -> None:
    for seconds, warnings in ((60.0, 1), (0.0, 5)):
        caplog.clear()
        addresses = Addresses(1, Limits(live_address_warning_seconds=seconds))
        addresses.take_place(HERE)
        for _ in range(5):
            with pytest.raises(TooManyConnections):
                addresses.take_place(HERE)
        assert len(caplog.messages) == warnings
        assert HERE in caplog.messages[0]
        assert "CHARGLY_SOCKETS_PER_ADDRESS" in caplog.messages[0]


def test_a_second_has_so_many_goodbyes() -> None:
    addresses = Addresses(1, Limits(live_goodbyes_per_second=5))
    said = [addresses.may_say_goodbye() for _ in range(50)]
    assert 5 <= sum(said) <= 6
    assert all(said[:5])


@contextlib.asynccontextmanager
async def open_sockets(server: ServerProcess, *addresses: str | None) -> AsyncIterator[list[Any]]:
    """Sockets that have their first state."""
    token = server.token("u")
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(SECONDS_MAX):
        opened = [await stack.enter_async_context(server.live(token, address=address)) for address in addresses]
        for socket in opened:
            await next_wallet(socket)
        yield opened


async def is_let_in(server: ServerProcess, address: str | None) -> bool:
    """Whether one more socket of an address is shown its wallet, or is told that there are too many."""
    async with server.live(server.token("u"), address=address) as socket:
        with contextlib.suppress(websockets.ConnectionClosed):
            await next_wallet(socket)
            return True
    assert (socket.close_code, socket.close_reason) == (4429, "this address has as many sockets as it may")
    return False


async def until_let_in(server: ServerProcess, address: str) -> None:
    """Waits until the server knows that a place is free: it hears of an end after the client."""
    async with asyncio.timeout(SECONDS_MAX):
        while not await is_let_in(server, address):
            await asyncio.sleep(0.05)


@pytest.mark.sqlite
async def test_an_address_has_as_many_sockets_as_it_may_and_one_more_when_one_ends(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="2")
    async with open_sockets(server, HERE, HERE, ELSEWHERE) as (first, *_):
        assert not await is_let_in(server, HERE)
        assert not await is_let_in(server, f"10.0.0.9, {HERE}")
        assert await is_let_in(server, ELSEWHERE)
        await first.close()
        await until_let_in(server, HERE)
    with server.client() as api:
        assert samples(api)["chargly_refusals_total{code=too_many_connections}"] >= 2
    warnings = [line for line in server.log.read_text().splitlines() if "CHARGLY_SOCKETS_PER_ADDRESS" in line]
    assert len(warnings) == 1
    assert HERE in warnings[0]


@pytest.mark.sqlite
async def test_a_network_of_ipv6_is_one_client(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="1")
    async with open_sockets(server, "2606:4700:4700:1::1"):
        assert not await is_let_in(server, "2606:4700:4700:1:2::2")
        assert await is_let_in(server, "2606:4700:4700:2::1")


@pytest.mark.sqlite
async def test_behind_a_proxy_that_names_nobody_everyone_is_let_in(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="1")
    async with open_sockets(server, None, None, "10.1.2.3", "10.1.2.3", "unknown", "unknown"):
        assert await is_let_in(server, None)


@pytest.mark.sqlite
async def test_a_proxy_that_is_not_trusted_may_claim_what_it_likes(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="1", FORWARDED_ALLOW_IPS="192.0.2.1")
    async with open_sockets(server, HERE, HERE):
        pass


@pytest.mark.sqlite
async def test_with_zero_there_is_no_limit(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="0")
    async with open_sockets(server, *[HERE] * 20):
        assert await is_let_in(server, HERE)


@pytest.mark.sqlite
async def test_every_way_to_end_gives_the_place_back(new_server: StartServer) -> None:
    server = new_server(CHARGLY_SOCKETS_PER_ADDRESS="1")
    async with server.live(server.token("u"), address=HERE, origin="https://evil.example.com") as foreign:
        assert await close_code(foreign) == 4403
    await until_let_in(server, HERE)
    async with server.live("no token", address=HERE) as stranger:
        assert await close_code(stranger) == 4401
    await until_let_in(server, HERE)
    async with server.live(server.token("u"), address=HERE) as rude:
        await next_wallet(rude)
        assert rude.transport is not None
        rude.transport.abort()
    await until_let_in(server, HERE)


@pytest.mark.sqlite
async def test_who_leaves_at_the_door_or_is_refused_there_gives_the_place_back(
    new_server: StartServer, tmp_path: Path
) -> None:
    limits = with_limits(tmp_path, live_accepts_per_second=2, live_accept_wait_seconds_max=1.0)
    server = new_server(**limits, CHARGLY_SOCKETS_PER_ADDRESS="100")
    shake = HANDSHAKE.replace(b"\r\n\r\n", f"\r\nX-Forwarded-For: {HERE}\r\n\r\n".encode())

    async def leave() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(shake)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    for _ in range(3):  # 120 in all; some wait, some are refused
        await asyncio.gather(*(leave() for _ in range(40)))
        await asyncio.sleep(0.2)
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            with contextlib.suppress(websockets.InvalidStatus):  # the door is still busy
                assert await is_let_in(server, HERE)
                break
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("how", ["cancelled", "a fault"])
async def test_a_place_comes_back_when_all_ends_badly(how: str) -> None:
    addresses = Addresses(1, limits := Limits(live_accepts_per_second=1, live_accept_wait_seconds_max=100.0))
    services: Any = SimpleNamespace(
        addresses=addresses,
        sockets=Sockets(limits, metrics := Metrics()),
        config=Config(limits=limits),
        metrics=metrics,
    )
    connects = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        for message in connects:
            return message
        if how == "a fault":
            raise ZeroDivisionError
        return await asyncio.Event().wait()

    async def send(_message: Any) -> None:
        pass

    while services.sockets.take_place() <= 0:
        pass
    scope = {"client": (HERE, 1), "headers": [], "subprotocols": []}
    running = asyncio.create_task(LiveEndpoint(services)(scope, receive, send))
    await asyncio.sleep(0)
    if how == "cancelled":
        assert len(addresses) == 1
        running.cancel()
    with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
        await running
    assert len(addresses) == 0


@pytest.mark.sqlite
async def test_a_flood_of_them_is_refused_before_it_is_accepted(new_server: StartServer, tmp_path: Path) -> None:
    limits = with_limits(tmp_path, live_goodbyes_per_second=1)
    server = new_server(**limits, CHARGLY_SOCKETS_PER_ADDRESS="1")
    async with open_sockets(server, HERE):
        refused = []
        for _ in range(5):
            try:
                await is_let_in(server, HERE)
            except websockets.InvalidStatus as refusal:
                refused.append(refusal.response)
        assert await is_let_in(server, ELSEWHERE)
    assert len(refused) >= 3
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
        assert answer.body is not None
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
    with server.client() as api:
        assert samples(api)["chargly_refusals_total{code=too_many_connections}"] == 5
    assert "ERROR" not in server.log.read_text()
