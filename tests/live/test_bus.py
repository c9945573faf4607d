"""The bus alone: what is told of what waits, how long a text gets, and what happens while nobody can be told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from msgspec.structs import replace

from app.config import Limits
from app.live.bus import Bus, Notice, Publish
from app.store.ids import now_ms

LIMITS = Limits(bus_reconnect_seconds_min=0.001, bus_reconnect_seconds_max=0.002)


class Loopback:
    """A channel inside of this process, which can be cut."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self.say: Callable[[str | bytes], None] = lambda _text: None
        self.cut = asyncio.Event()
        self.is_there = True
        self.connections = 0

    @contextlib.asynccontextmanager
    async def connected(self, receive: Callable[[str | bytes], None]) -> AsyncIterator[Publish]:
        if not self.is_there:
            raise ConnectionRefusedError
        self.connections += 1
        self.say = receive
        self.cut.clear()

        async def publish(texts: list[str]) -> None:
            for text in texts:
                self.texts.put_nowait(text)

        yield publish

    async def listen(self) -> None:
        await self.cut.wait()
        raise ConnectionResetError


async def told(channel: Loopback) -> Notice:
    async with asyncio.timeout(5):
        notice = msgspec.json.decode(await channel.texts.get(), type=Notice)
    assert abs(notice.at - now_ms()) < 60_000
    return replace(notice, at=0)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


async def test_of_a_wallet_its_newest_version_is_told_once() -> None:
    channel = Loopback()
    bus = Bus(channel, LIMITS, "me", lambda _notice: None)
    bus.tell(iter([("u", 1), ("v", 4)]), 2)
    bus.tell(iter([("u", 2)]), 1)
    async with bus.running():
        assert await told(channel) == Notice(sender="me", wallets=[("u", 2), ("v", 4)], generation=2)
    assert channel.texts.empty()


async def test_a_text_is_never_longer_than_a_channel_takes() -> None:
    channel = Loopback()
    bus = Bus(channel, LIMITS, "me", lambda _notice: None)
    wallets = [("\U0001f600" * 255 + str(number), 2**53) for number in range(20)] + [("u", 1)]
    bus.tell(iter(wallets), 1)
    heard: list[tuple[str, int]] = []
    async with bus.running():
        while len(heard) < len(wallets):
            text = await channel.texts.get()
            assert len(text.encode()) <= LIMITS.bus_message_bytes_max < 8000
            heard += msgspec.json.decode(text, type=Notice).wallets
    assert heard == wallets


async def test_while_nobody_can_be_told_no_more_is_kept_than_the_limit() -> None:
    channel = Loopback()
    bus = Bus(channel, replace(LIMITS, bus_wallets_waiting_max=2), "me", lambda _notice: None)
    bus.tell(iter([("a", 1), ("b", 1), ("c", 1), ("a", 2)]), 1)
    async with bus.running():
        assert (await told(channel)).wallets == [("a", 2), ("b", 1)]
        bus.tell(iter([("c", 2)]), 1)
        assert (await told(channel)).wallets == [("c", 2)]


async def test_nobody_hears_himself_and_nonsense_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    channel = Loopback()
    heard: list[Notice] = []
    bus = Bus(channel, LIMITS, "me", heard.append)
    async with bus.running():
        await until(lambda: bus.is_connected)
        nonsense = ["", "{", "[]", '{"sender":1}', '{"sender":"x","wallets":[["u"]]}', "[" * 5000, b"\xff\xfe"]
        for number in ("-1", "1.5", "9223372036854775808", "9" * 5000):
            nonsense += [f'{{"sender":"x","{field}":{number}}}' for field in ("at", "generation")]
            nonsense.append(f'{{"sender":"x","wallets":[["u",{number}]]}}')
        for text in nonsense:
            channel.say(text)
        channel.say('{"sender":"me"}')
        channel.say('{"sender":"other","wallets":[["u",7]],"later":"fields"}')
        assert heard == [Notice(sender="other", wallets=[("u", 7)])]
    assert caplog.text.count("is no notice") == len(nonsense)


async def test_a_channel_that_is_lost_is_connected_again_and_told_what_waited() -> None:
    channel = Loopback()
    channel.is_there = False
    bus = Bus(channel, LIMITS, "me", lambda _notice: None)
    async with bus.running():
        bus.tell(iter([("u", 1)]), 1)
        await asyncio.sleep(0.01)
        assert (bus.is_connected, channel.connections) == (False, 0)
        channel.is_there = True
        assert (await told(channel)).wallets == [("u", 1)]
        assert bus.is_connected
        channel.cut.set()
        await until(lambda: channel.connections == 2)
        bus.tell(iter([("u", 2)]), 1)
        assert (await told(channel)).wallets == [("u", 2)]


async def test_that_a_key_was_revoked_is_told_once_with_what_else_waits() -> None:
    channel = Loopback()
    bus = Bus(channel, LIMITS, "me", lambda _notice: None)
    bus.tell_keys()
    bus.tell(iter([("u", 1)]), 1)
    async with bus.running():
        assert await told(channel) == Notice(sender="me", wallets=[("u", 1)], generation=1, keys=True)
        bus.tell(iter([("u", 2)]), 1)
        assert not (await told(channel)).keys


async def test_without_a_channel_nothing_is_kept_and_nothing_runs() -> None:
    bus = Bus(None, LIMITS, "me", lambda _notice: None)
    bus.tell(iter([("u", 1)]), 1)
    bus.tell_keys()
    async with bus.running():
        assert bus.is_connected
