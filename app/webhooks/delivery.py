"""Delivering: due messages are sent side by side, and what became of them is written many at a time."""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Sequence

from app.config import Config
from app.errors import ChargeError
from app.metrics import Metrics
from app.store.db import Database
from app.store.deliveries import Due, Result, due_deliveries, record
from app.store.ids import now_ms
from app.store.webhooks import Endpoint, list_endpoints
from app.webhooks.retries import result_of
from app.webhooks.sending import Sender

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
        self._sending: dict[asyncio.Task[Result], Due] = {}
        self._unwritten: list[Result] = []

    async def turn(self) -> bool:
        """Begins to send what is due, waits until something of it has ended, and writes what did.

        Returns:
            Whether anything is or was under way, so that another turn should follow at once.

        Raises:
            ChargeError: the database cannot be asked.

        """
        await self._write()
        await self._begin()
        if not self._sending:
            return False
        done, _ = await asyncio.wait(
            self._sending, timeout=self._limits.deliveries_seconds_between, return_when=asyncio.FIRST_COMPLETED
        )
        if done:  # others end in a moment: they are written as one
            await asyncio.wait(self._sending, timeout=self._limits.deliveries_gather_seconds)
        await self.settle()
        return True

    async def settle(self) -> None:
        """Writes what became of what was under way when another process took over; begins nothing.

        Raises:
            ChargeError: the database cannot be asked.

        """
        self._collect()
        await self._write()

    async def close(self) -> None:
        """Waits a little for what is under way, and writes what became of it; the rest is sent again later."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._limits.deliveries_stop_seconds_max)
        self._collect()
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        with contextlib.suppress(ChargeError):
            await self._write()
        await self._sender.close()

    async def _begin(self) -> None:
        limits = self._limits
        free = limits.deliveries_at_once - len(self._sending) - len(self._unwritten)
        endpoints = [one for one in await list_endpoints(self._db) if one.disabled is None]
        if free <= 0 or not endpoints:
            return
        most = limits.deliveries_per_endpoint_at_once
        found = await due_deliveries(self._db, endpoints, now_ms(), most)
        under_way = {due.delivery.id for due in self._sending.values()} | {result.id for result in self._unwritten}
        counts = Counter(due.endpoint.id for due in self._sending.values())
        for due in _in_turn(found):
            if free > 0 and due.delivery.id not in under_way and counts[due.endpoint.id] < self._room(due.endpoint):
                self._sending[asyncio.create_task(self._attempt(due))] = due
                counts[due.endpoint.id] += 1
                free -= 1
                # Not all in one turn of the loop: whoever meters meanwhile would wait for every one of them.
                await asyncio.sleep(limits.delivery_begin_seconds_between)

    def _room(self, endpoint: Endpoint) -> int:
        """How many may be under way to an endpoint: one that fails is tried, and does not take the room of others."""
        if endpoint.failing_since is not None:
            return self._limits.deliveries_to_failing_at_once
        return self._limits.deliveries_per_endpoint_at_once

    async def _attempt(self, due: Due) -> Result:
        answer = await self._sender.send(due)
        return result_of(due.delivery, answer, now_ms(), self._limits)

    def _collect(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            due = self._sending.pop(task)
            try:
                self._unwritten.append(task.result())
            except Exception:
                log.exception("delivery %s is sent again", due.delivery.id)

    async def _write(self) -> None:
        results = self._unwritten
        if not results:
            return
        disabled = await record(
            self._db,
            results,
            failing_ms_max=round(self._limits.endpoint_failing_seconds_max * 1000),
            swept_at_once=self._limits.deliveries_swept_at_once,
        )
        self._unwritten = []
        self._metrics.delivered([result.status for result in results])
        for one in disabled:
            log.warning("webhook endpoint %s is disabled: %s", one.id, one.reason)


def _in_turn(found: Sequence[Sequence[Due]]) -> list[Due]:
    """One of each endpoint, then the second of each, and so on."""
    return [due for row in itertools.zip_longest(*found) for due in row if due is not None]
