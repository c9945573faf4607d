"""What open websockets share: turns to send, a look at the time, and a door that lets in so many a second."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import websockets
from api.test_metrics import samples
from live.test_hub import change, first
from live.test_live import plain_socket
from serving import StartServer, charge, grant, next_wallet, with_limits

from app.config import Limits
from app.errors import Busy
from app.live.hub import Hub
from app.live.sockets import Sockets, begin
from app.metrics import Metrics

SECONDS_MAX = 30.0


async def nothing() -> None:
    pass


async def test_what_need_not_wait_is_done_at_once() -> None:
    done = []

    async def work() -> None:
        await nothing()
        done.append(1)

    assert begin(work()) is None
    assert done == [1]


async def test_what_must_wait_goes_on_as_a_task() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        for number in range(3):
            await gate.wait()
            await asyncio.sleep(0)
            done.append(number)

    rest = begin(work())
    assert rest is not None
    assert done == []
    gate.set()
    await rest
    assert done == [0, 1, 2]


async def test_what_fails_fails_where_it_is_begun_or_awaited() -> None:
    async def work(gate: asyncio.Event | None) -> None:
        if gate is not None:
            await gate.wait()
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        begin(work(None))
    gate = asyncio.Event()
    rest = begin(work(gate))
    assert rest is not None
    gate.set()
    with pytest.raises(ConnectionResetError):
        await rest


async def test_what_waits_can_be_cancelled_and_cleans_up() -> None:
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    rest = begin(work())
    assert rest is not None
    await asyncio.sleep(0)
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    assert cleaned == [1]


class Page:
    """A socket that notes in which turn it was sent to."""

    def __init__(self, hub: Hub["Page"], sockets: Sockets) -> None:
        self.sent: list[int] = []
        subscription = hub.subscribe(self, "u", sockets.queue)  # type: ignore[arg-type]
        assert subscription is not None
        subscription.begin(first(hub, 0))

    def deliver(self, subscription: object) -> bool:
        push = subscription.take()  # type: ignore[attr-defined]
        self.sent.append(push.message.version)
        return True

    def look(self, now: float) -> None:
        """Nothing that time brings."""


async def test_thousands_of_pages_are_sent_to_in_turns_between_which_others_work() -> None:
    limits = Limits(live_sends_at_once=10)
    hub, metrics = Hub[Page](limits), Metrics()
    sockets = Sockets(limits, metrics)
    pages = [Page(hub, sockets) for _ in range(35)]
    hub.publish([change(1)], generation=1)
    seen = []
    for _ in range(5):
        seen.append(sum(bool(page.sent) for page in pages))
        await asyncio.sleep(0)
    assert seen == [0, 10, 20, 30, 35]
    assert {tuple(page.sent) for page in pages} == {(1,)}
    assert b"chargly_pushes_total 35.0" in metrics.text()


async def test_what_comes_before_the_turn_is_sent_as_one() -> None:
    limits = Limits()
    hub = Hub[Page](limits)
    sockets = Sockets(limits, Metrics())
    page = Page(hub, sockets)
    for version in (1, 2, 3):
        hub.publish([change(version)], generation=1)
    await asyncio.sleep(0)
    assert page.sent == [3]


async def test_the_door_lets_a_second_of_them_in_at_once_then_so_many_a_second_and_refuses_a_crowd() -> None:
    sockets = Sockets(Limits(live_accepts_per_second=20, live_accept_wait_seconds_max=0.2), Metrics())
    waits: list[float] = []
    with contextlib.suppress(Busy):
        while len(waits) < 100:
            waits.append(sockets.take_place())
    assert 20 <= sum(wait <= 0 for wait in waits) <= 22  # a second's worth, and what came meanwhile
    assert waits == sorted(waits)
    assert 24 <= len(waits) <= 26
    assert waits[-1] == pytest.approx(0.2, abs=0.05)


async def test_a_place_at_the_door_that_is_given_back_is_the_next_ones() -> None:
    sockets = Sockets(Limits(live_accepts_per_second=1, live_accept_wait_seconds_max=100.0), Metrics())
    while (wait := sockets.take_place()) < 50:
        pass
    sockets.give_back_place()
    assert sockets.take_place() == pytest.approx(wait, abs=0.5)


@pytest.mark.sqlite
async def test_pages_that_all_come_back_at_once_are_let_in_by_and_by_and_metering_goes_on(
    new_server: StartServer, tmp_path: Path
) -> None:
    limits = with_limits(tmp_path, live_accepts_per_second=10, live_accept_wait_seconds_max=0.3)
    server = new_server(**limits)
    with server.client() as api:
        grant(api, "u", 100)
        token = server.token("u")

        async def page() -> int:
            try:
                async with server.live(token) as ws:
                    return int((await next_wallet(ws))["balance"])
            except websockets.InvalidStatus as refused:
                answer = refused.response
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.body is not None
                assert json.loads(answer.body)["error"]["code"] == "busy"
                return -1

        pages = asyncio.gather(*(page() for _ in range(40)))
        assert (await asyncio.to_thread(charge, api, "u", credits=1)).status_code == 201
        shown = await pages
        assert shown.count(-1) >= 10
        assert set(shown) <= {-1, 99, 100}
        assert len(shown) - shown.count(-1) >= 10
        async with asyncio.timeout(SECONDS_MAX):
            while await page() == -1:
                await asyncio.sleep(0.1)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.sqlite
async def test_a_reader_that_has_stopped_is_let_go(new_server: StartServer, tmp_path: Path) -> None:
    server = new_server(**with_limits(tmp_path, live_send_seconds_max=0.5, live_look_seconds=0.1))
    with server.client() as api, contextlib.closing(plain_socket(server, server.token("u"))):
        grant(api, "u", 10**6)
        await asyncio.to_thread(until, lambda: samples(api)["chargly_sockets"] == 1)
        long = "\N{ELEPHANT}" * 255

        def let_go() -> bool:
            for _ in range(20):
                charge(api, "u", "x.y", credits=1, member=long, model=long)
            return samples(api)["chargly_sockets"] == 0

        await asyncio.to_thread(until, let_go)


@pytest.mark.sqlite
async def test_a_silence_is_broken_by_a_heartbeat(new_server: StartServer, tmp_path: Path) -> None:
    server = new_server(**with_limits(tmp_path, live_heartbeat_seconds=0.3, live_look_seconds=0.1))
    with server.client() as api:
        grant(api, "u", 5)
    async with server.live(server.token("u")) as ws, asyncio.timeout(SECONDS_MAX):
        assert json.loads(await ws.recv())["type"] == "wallet"
        beats = [json.loads(await ws.recv()) for _ in range(2)]
    assert [beat["type"] for beat in beats] == ["heartbeat", "heartbeat"]
    assert all(beat["prices"] >= 1 and beat["at"].endswith("Z") for beat in beats)
