"""Delivering: due messages are sent side by side, and what became of them is written many at a time."""

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence

from app.config import Config
from app.errors import ChargeError
from app.metrics import Metrics
from app.store.db import Database
from app.store.deliveries import Due, Result, due_deliveries, record
from app.store.ids import now_ms
from app.store.webhooks import Endpoint, list_endpoints
from app.webhooks.frames import Answer
from app.webhooks.retries import result_of
from app.webhooks.sending import NotSent, Sender

log = logging.getLogger("chargly.webhooks")


class Deliverer:
    """Sends what is due, in turns, for as long as somebody calls for them.

    What is under way or not written yet is not sent a second time. What could not be written is kept and written again;
    where the process ends before that, it is sent again.

    Args:
        db: where deliveries are.
        config: the limits of deliveries, and where they may go.
        metrics: count them.
        sender: posts them.

    """

    def __init__(self, db: Database, config: Config, metrics: Metrics, sender: Sender | None = None) -> None:
        self._db = db
        self._limits = config.limits
        self._metrics = metrics
        self._sender = sender or Sender(config)
        self._under_way: set[str] = set()
        """The ids of deliveries that were sent and have not ended."""
        self._counts: Counter[str] = Counter()
        """How many are under way, by the endpoint's id."""
        self._tried_again_at: dict[str, float] = {}
        """When an endpoint that fails is sent something again, by its id."""
        self._sends_again_at = 0.0
        """When sending goes on after a fault of ours."""
        self._one_ended = asyncio.Event()
        self._unwritten: list[Result] = []

    async def turn(self) -> bool:
        """Sends what is due for a while, as others end; then writes what became of all that ended.

        Each write is a commit of its own, which metering waits for: so what ends while others are under way is written
        with these.

        Returns:
            Whether anything is or was under way, so that another turn should follow at once.

        Raises:
            ChargeError: the database cannot be asked.

        """
        await self._write()
        waiting = await self._find()
        if not waiting and not self._under_way:
            return False
        try:
            if waiting:
                await self._sender.start()
        except NotSent as error:
            self._rest(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.deliveries_gather_seconds):
                await self._send(waiting)
        await self._write()
        return True

    async def settle(self) -> None:
        """Writes what became of what was under way when another process took over; begins nothing.

        Raises:
            ChargeError: the database cannot be asked.

        """
        await self._write()

    async def close(self) -> None:
        """Waits a little for what is under way, and writes what became of it; the rest is sent again later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.deliveries_stop_seconds_max):
                while self._under_way:
                    self._one_ended.clear()
                    await self._one_ended.wait()
        with contextlib.suppress(ChargeError):
            await self._write()
        await self._sender.close()

    async def _find(self) -> list[deque[Due]]:
        """What is due and not under way, for each endpoint that has any."""
        room = self._limits.deliveries_at_once - len(self._under_way) - len(self._unwritten)
        now = time.monotonic()
        if room <= 0 or now < self._sends_again_at:
            return []
        endpoints = [one for one in await list_endpoints(self._db) if one.disabled is None]
        known = Counter(result.endpoint_id for result in self._unwritten) + self._counts
        most = {one: known[one.id] + self._look(one) for one in endpoints if self._may_be_sent_more(one, now)}
        resting = {id: at for id, at in self._tried_again_at.items() if at > now}
        failing = [one.id for one in most if one.failing_since is not None]
        self._tried_again_at = resting | dict.fromkeys(failing, now + self._limits.deliveries_seconds_between)
        found = await due_deliveries(self._db, most, now_ms())
        held = self._under_way | {result.id for result in self._unwritten}
        new = (deque(due for due in of_endpoint if due.delivery.id not in held) for of_endpoint in found)
        return [of_endpoint for of_endpoint in new if of_endpoint]

    def _look(self, endpoint: Endpoint) -> int:
        """How many new ones are looked for."""
        if endpoint.failing_since is not None:
            return self._limits.deliveries_to_failing_at_once
        return self._limits.deliveries_found_at_once

    def _may_be_sent_more(self, endpoint: Endpoint, now: float) -> bool:
        """Whether it has room; one that fails rests in between, as it may refuse as fast as it is sent to."""
        rests = endpoint.failing_since is not None and now < self._tried_again_at.get(endpoint.id, 0.0)
        return not rests and self._counts[endpoint.id] < self._room(endpoint)

    async def _send(self, waiting: Sequence[deque[Due]]) -> None:
        """Begins as many as there is room for, and further ones as those end, until none is under way."""
        while True:
            self._one_ended.clear()
            while (due := self._next(waiting)) is not None:
                self._begin(due)
                await asyncio.sleep(0)  # one in each turn of the loop: metering does not wait for all of them
            if not self._under_way:
                return
            await self._one_ended.wait()

    def _next(self, waiting: Sequence[deque[Due]]) -> Due | None:
        """One that there is room for, of the endpoint that has least under way."""
        full = len(self._under_way) + len(self._unwritten) >= self._limits.deliveries_at_once
        if full or time.monotonic() < self._sends_again_at:
            return None
        with_room = [one for one in waiting if one and self._counts[one[0].endpoint.id] < self._room(one[0].endpoint)]
        if not with_room:
            return None
        return min(with_room, key=lambda one: self._counts[one[0].endpoint.id]).popleft()

    def _room(self, endpoint: Endpoint) -> int:
        """How many may be under way to an endpoint: one that fails is tried, and does not take the room of others."""
        if endpoint.failing_since is not None:
            return self._limits.deliveries_to_failing_at_once
        return self._limits.deliveries_per_endpoint_at_once

    def _begin(self, due: Due) -> None:
        self._under_way.add(due.delivery.id)
        self._counts[due.endpoint.id] += 1
        try:
            self._sender.send(due, self._ended)
        except NotSent as error:
            self._ended(due, error)
        except Exception:
            log.exception("delivery %s could not be sent", due.delivery.id)
            self._ended(due, Answer(status=None, error="It could not be sent; the server's log says why."))

    def _ended(self, due: Due, answer: Answer | NotSent) -> None:
        self._under_way.discard(due.delivery.id)
        self._counts[due.endpoint.id] -= 1
        if not self._counts[due.endpoint.id]:
            del self._counts[due.endpoint.id]
        self._one_ended.set()
        if isinstance(answer, NotSent):
            self._rest(answer)
        else:
            self._unwritten.append(result_of(due.delivery, answer, now_ms(), self._limits))

    def _rest(self, fault: NotSent) -> None:
        """Sends nothing for a moment; of many that end together, one line tells."""
        now = time.monotonic()
        if now >= self._sends_again_at:
            log.error("no webhooks are sent for a moment: %s", fault)
        self._sends_again_at = now + self._limits.delivery_process_seconds_between

    async def _write(self) -> None:
        results = list(self._unwritten)  # others end while these are written
        if not results:
            return
        disabled = await record(
            self._db,
            results,
            failing_ms_max=round(self._limits.endpoint_failing_seconds_max * 1000),
            swept_at_once=self._limits.deliveries_swept_at_once,
        )
        del self._unwritten[: len(results)]
        self._metrics.delivered([result.status for result in results])
        for one in disabled:
            log.warning("webhook endpoint %s is disabled: %s", one.id, one.reason)
