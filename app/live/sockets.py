"""The open websockets of one process: they are let in, sent to and looked after together, without a task for each.

What waits to be sent goes out in turns, some sockets at a time, so that sending to thousands who look at one wallet
holds up nobody's answer. One loop looks at all of them for what time brings: heartbeats, tokens that end, readers that
stopped.
"""

import asyncio
import contextlib
import logging
import time
import types
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Generator
from functools import partial
from typing import Any, Protocol

from app.config import Limits
from app.errors import Busy
from app.live.hub import Subscription
from app.metrics import Metrics

log = logging.getLogger("chargly.live")


class Socket(Protocol):
    """What is looked after."""

    def deliver(self, subscription: "Subscription[Socket]", /) -> bool:
        """Sends what a subscription has, unless it is being sent to. Says whether it was begun."""
        ...

    def look(self, now: float) -> None:
        """Sees to what time has brought by `now`, in seconds of `time.monotonic()`."""
        ...


class Sockets:
    """All of them."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._open: set[Socket] = set()
        self._line: deque[Subscription[Socket]] = deque()
        self._turn_comes = False
        self._next_at = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def take_place(self) -> float:
        """A place at the door, so that all pages coming back at once leave room for metering.

        Returns:
            The seconds until its turn comes; none or fewer where it may come in at once.

        Raises:
            Busy: too many wait already.

        """
        now = time.monotonic()
        wait = self._next_at - now
        if wait > self._limits.live_accept_wait_seconds_max:
            raise Busy
        # What was not used of the last second may be used at once.
        self._next_at = max(self._next_at, now - 1) + 1 / self._limits.live_accepts_per_second
        return wait

    def give_back_place(self) -> None:
        """One who waited has left: whoever comes next waits less."""
        self._next_at -= 1 / self._limits.live_accepts_per_second

    def add(self, socket: Socket) -> None:
        """Looks after one more."""
        self._open.add(socket)

    def discard(self, socket: Socket) -> None:
        """Forgets one that has ended."""
        self._open.discard(socket)

    def queue(self, subscription: Subscription[Socket]) -> None:
        """Gives a subscription its turn to be sent, soon. It waits for nobody."""
        if not subscription.is_queued:
            subscription.is_queued = True
            self._line.append(subscription)
            if not self._turn_comes:
                self._turn_comes = True
                asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        sent = 0
        for _ in range(min(len(self._line), self._limits.live_sends_at_once)):
            subscription = self._line.popleft()
            subscription.is_queued = False
            try:
                sent += subscription.owner.deliver(subscription)
            except Exception:  # it is that socket's alone, and the others go on
                log.exception("a websocket could not be sent to")
        self._metrics.pushes.inc(sent)
        self._turn_comes = bool(self._line)
        if self._turn_comes:  # after whatever else is ready
            asyncio.get_running_loop().call_soon(self._turn)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks after them for as long as the context lasts."""
        task = asyncio.create_task(self._look_after(), name="sockets")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(self._limits.live_look_seconds)
            for number, socket in enumerate(list(self._open), 1):
                try:
                    socket.look(time.monotonic())
                except Exception:
                    log.exception("a websocket could not be looked after")
                if number % self._limits.live_looks_at_once == 0:
                    await asyncio.sleep(0)


def begin(work: Awaitable[None]) -> asyncio.Task[None] | None:
    """Runs an awaitable as far as it gets without waiting. Python 3.12 does so with eager tasks.

    Nearly always a socket takes a frame at once, and a task for it would cost as much as the sending. A task that is
    cancelled before its own first turn never throws that into the work, which is closed instead: it must need no
    `await` to clean up.

    Returns:
        The rest of it, None where it has ended.

    """
    steps = work.__await__()
    try:
        awaited = next(steps)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_finish(steps, awaited))


async def _finish(steps: Generator[Any, Any, None], awaited: Any) -> None:
    await _rest(steps, awaited)


@types.coroutine
def _rest(steps: Generator[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Hands on what an awaitable that has begun waits for, and what comes of it."""
    while True:
        try:
            came = yield awaited
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the awaitable's
            move = partial(steps.throw, error)
        else:
            move = partial(steps.send, came)
        try:
            awaited = move()
        except StopIteration:
            return
