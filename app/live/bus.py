"""The bus: what one process tells the others. It carries which wallet is at which version, never a state.

Nothing rests on it: what is lost on the way is found by those who look again every few seconds (`live.relay`).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Final, Protocol, TypeAlias

import msgspec

from app.config import Limits
from app.store.ids import now_ms

log = logging.getLogger("chargly.live")

Publish: TypeAlias = Callable[[list[str]], Awaitable[None]]
"""Sends texts to everyone who listens, this process among them."""


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a process tells the others.

    Args:
        sender: its name.
        wallets: which it has changed, with their versions.
        generation: the catalogue's.
        keys: whether an API key has been revoked.
        at: when it was sent, in milliseconds since 1970.

    """

    sender: str
    wallets: list[tuple[str, _Count]] = []
    generation: _Count = 0
    keys: bool = False
    at: _Count = 0


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Notice).decode


def encode_notice(notice: Notice) -> str:
    """A notice as it is sent."""
    return _encode(notice).decode()


class Channel(Protocol):
    """A way to the other processes."""

    failures: tuple[type[Exception], ...]
    """What a connection that cannot be made or is lost raises; TimeoutError is among them."""

    def connected(self, receive: Callable[[str | bytes], None]) -> contextlib.AbstractAsyncContextManager[Publish]:
        """Connects, and disconnects; in between `listen` is to run.

        Args:
            receive: called with each text that anybody has sent.

        """
        ...

    async def listen(self) -> None:
        """Hands on what is heard for as long as the connection lasts, and raises why it was lost."""
        ...


class Bus:
    """Notices over a channel, which is connected again whenever it is lost.

    Args:
        channel: how the others are reached; None where there are no others.
        limits: `bus_*`.
        sender: the name of this process, which does not hear itself.
        receive: called with each notice of another process.

    """

    def __init__(self, channel: Channel | None, limits: Limits, sender: str, receive: Callable[[Notice], None]) -> None:
        self._channel = channel
        self._limits = limits
        self._sender = sender
        self._receive = receive
        self._wallets: dict[str, int] = {}
        self._generation = 0
        self._keys = False
        self._told = asyncio.Event()
        self.is_connected = channel is None
        """Whether others are told and heard."""

    def tell(self, wallets: Iterator[tuple[str, int]], generation: int) -> None:
        """Tells of changed wallets and the catalogue's generation, soon; of a wallet its newest version alone.

        It never waits. While nobody can be told, no more wallets are kept than the limit, and the rest is left to heal.
        """
        if self._channel is None:
            return
        for customer_id, version in wallets:
            if customer_id in self._wallets or len(self._wallets) < self._limits.bus_wallets_waiting_max:
                self._wallets[customer_id] = version
        self._generation = max(self._generation, generation)
        self._told.set()

    def tell_keys(self) -> None:
        """Tells that an API key was revoked, soon. It never waits."""
        if self._channel is not None:
            self._keys = True
            self._told.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tells and listens for as long as the context lasts."""
        task = asyncio.create_task(self._run(self._channel), name="bus") if self._channel is not None else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))

    async def _run(self, channel: Channel) -> None:
        pause, is_said = self._limits.bus_reconnect_seconds_min, False
        while True:
            try:
                async with channel.connected(self._heard) as publish:
                    if is_said:
                        log.info("the bus is back")
                    self.is_connected, is_said = True, False
                    pause = self._limits.bus_reconnect_seconds_min
                    await self._tell_until_lost(channel, publish)
            except channel.failures as error:
                if not is_said:
                    log.warning("the bus is away; it is tried again, and pages hear of others later: %r", error)
                is_said = True
            except Exception:
                log.exception("the bus failed")
            self.is_connected = False
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, self._limits.bus_reconnect_seconds_max)

    async def _tell_until_lost(self, channel: Channel, publish: Publish) -> None:
        listening = asyncio.ensure_future(channel.listen())
        telling = asyncio.ensure_future(self._tell_all(publish))
        try:
            done, _ = await asyncio.wait((listening, telling), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (listening, telling):
                task.cancel()
            await asyncio.gather(listening, telling, return_exceptions=True)

    async def _tell_all(self, publish: Publish) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            texts = list(self._texts())
            async with asyncio.timeout(self._limits.bus_send_seconds_max):
                await publish(texts)

    def _texts(self) -> Iterator[str]:
        """What waits, in texts that are short enough for any channel."""
        wallets, self._wallets = list(self._wallets.items()), {}
        keys, self._keys = self._keys, False
        room = self._limits.bus_message_bytes_max - len(_encode(self._notice([], keys=keys)))
        chunk: list[tuple[str, int]] = []
        size = 0
        for wallet in wallets:
            length = len(_encode(wallet)) + 1
            if size + length > room:
                yield encode_notice(self._notice(chunk))
                chunk, size = [], 0
            chunk.append(wallet)
            size += length
        yield encode_notice(self._notice(chunk, keys=keys))

    def _notice(self, wallets: list[tuple[str, int]], *, keys: bool = False) -> Notice:
        return Notice(sender=self._sender, wallets=wallets, generation=self._generation, keys=keys, at=now_ms())

    def _heard(self, text: str | bytes) -> None:
        try:
            notice = _decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            log.warning("something on the bus is no notice: %s", error)
            return
        if notice.sender != self._sender:
            self._receive(notice)
