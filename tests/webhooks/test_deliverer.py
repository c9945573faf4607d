"""The deliverer's turns: how much is under way to whom, and what becomes of results that cannot be written."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger
from webhooks.test_outbox import all_of, endpoint, message, write

from app.config import LIMITS, Config
from app.errors import TransactionFailed
from app.metrics import Metrics
from app.store.deliveries import Due
from app.store.webhooks import Endpoint
from app.webhooks import delivery as webhooks_delivery
from app.webhooks.delivery import Deliverer
from app.webhooks.frames import Answer
from app.webhooks.sending import Ended, NotSent, Sender

QUICK = replace(LIMITS, deliveries_seconds_between=0.01, deliveries_gather_seconds=0.01)


class StandIn(Sender):
    """Sends nothing: each delivery waits until its endpoint answers."""

    def __init__(self) -> None:
        super().__init__(Config())
        self.asked: list[Due] = []
        self.fault: Exception | None = None
        self._answers: dict[str, Answer | NotSent] = {}
        self._waiting: list[tuple[Due, Ended]] = []

    async def start(self) -> None:
        """There is no process."""

    def send(self, due: Due, ended: Ended) -> None:
        self.asked.append(due)
        if self.fault is not None:
            raise self.fault
        self._waiting.append((due, ended))
        asyncio.get_running_loop().call_soon(self._tell)

    def answer(self, endpoint: Endpoint, answer: Answer | NotSent) -> None:
        """Has an endpoint answer from now on."""
        self._answers[endpoint.id] = answer
        self._tell()

    def hang(self, endpoint: Endpoint) -> None:
        """Has an endpoint answer no more."""
        del self._answers[endpoint.id]

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for due, ended in waiting:
            if due.endpoint.id in self._answers:
                ended(due, self._answers[due.endpoint.id])
            else:
                self._waiting.append((due, ended))

    @property
    def counts(self) -> Counter[str]:
        return Counter(due.endpoint.id for due in self.asked)


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made


@pytest.fixture
def sender() -> StandIn:
    return StandIn()


@pytest.fixture
async def new_deliverer(ledger: Ledger, sender: StandIn) -> AsyncIterator[Callable[..., Deliverer]]:
    made: list[Deliverer] = []

    def make(**limits: float) -> Deliverer:
        config = replace(ledger.config, limits=replace(QUICK, deliveries_stop_seconds_max=0.0, **limits))
        made.append(Deliverer(ledger.db, config, Metrics(), sender))
        return made[-1]

    yield make
    for deliverer in made:
        await deliverer.close()


async def test_no_endpoint_takes_the_room_of_the_others(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    first, second = await endpoint(ledger.db), await endpoint(ledger.db)
    await write(ledger.db, *(message(number) for number in range(20)))
    deliverer = new_deliverer(deliveries_at_once=12, deliveries_per_endpoint_at_once=9)
    while len(sender.asked) < 12:
        assert await deliverer.turn()
    assert await deliverer.turn()
    assert sender.counts == {first.id: 6, second.id: 6}
    sender.answer(second, Answer(status=200))
    while sender.counts[second.id] < 20:
        await deliverer.turn()
    await deliverer.turn()
    assert sender.counts[first.id] == 9
    assert len({due.delivery.id for due in sender.asked}) == len(sender.asked)


async def test_an_endpoint_that_fails_has_little_room_until_it_recovers(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, message(0))
    sender.answer(made, Answer(status=500))
    deliverer = new_deliverer()
    await deliverer.turn()
    sender.hang(made)
    await write(ledger.db, *(message(number) for number in range(1, 20)))
    await deliverer.turn()
    assert len(sender.asked) == 1 + LIMITS.deliveries_to_failing_at_once
    sender.answer(made, Answer(status=204))
    while len(sender.asked) < 20:
        await deliverer.turn()


async def test_an_endpoint_that_refuses_at_once_is_not_sent_all_that_waits(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, message(0))
    sender.answer(made, Answer(status=None, error="No connection: Connection refused"))
    deliverer = new_deliverer(deliveries_seconds_between=60.0)
    assert await deliverer.turn()
    await write(ledger.db, *(message(number) for number in range(1, 20)))
    while await deliverer.turn():
        pass
    assert len(sender.asked) == 1 + LIMITS.deliveries_to_failing_at_once


async def test_a_fault_of_ours_is_no_attempt_and_sending_rests(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, *(message(number) for number in range(20)))
    sender.answer(made, NotSent("no process can be started"))
    deliverer = new_deliverer(delivery_process_seconds_between=60.0)
    while await deliverer.turn():
        pass
    assert {(one.status, one.attempts) for one in await all_of(ledger.db, made)} == {("pending", 0)}
    assert len(sender.asked) <= 20
    sender.answer(made, Answer(status=204))
    again = new_deliverer()
    while await again.turn():
        pass
    assert {one.status for one in await all_of(ledger.db, made)} == {"delivered"}


async def test_a_message_that_cannot_be_sent_at_all_is_a_failed_attempt(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, message(0))
    sender.fault = ValueError("a secret that cannot be read")
    deliverer = new_deliverer()
    while await deliverer.turn():
        pass
    [one] = await all_of(ledger.db, made)
    assert (one.status, one.attempts, one.error) == (
        "pending",
        1,
        "It could not be sent; the server's log says why.",
    )
    assert len(sender.asked) == 1


async def test_results_that_could_not_be_written_are_written_later_and_not_sent_again(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, message(0))
    sender.answer(made, Answer(status=200))
    deliverer = new_deliverer()

    async def fail(*_: object, **__: object) -> None:
        raise TransactionFailed("the disk is full", rows_refused=False)

    with monkeypatch.context() as failing:
        failing.setattr(webhooks_delivery, "record", fail)
        for _ in range(3):
            with pytest.raises(TransactionFailed):
                await deliverer.turn()
    assert (await all_of(ledger.db, made))[0].status == "pending"
    await deliverer.turn()
    assert (await all_of(ledger.db, made))[0].status == "delivered"
    assert len(sender.asked) == 1


async def test_what_another_process_took_over_is_still_written(
    ledger: Ledger, sender: StandIn, new_deliverer: Callable[..., Deliverer]
) -> None:
    made = await endpoint(ledger.db)
    await write(ledger.db, message(0), message(1))
    deliverer = new_deliverer()
    await deliverer.turn()
    sender.answer(made, Answer(status=200))
    while [one.status for one in await all_of(ledger.db, made)] != ["delivered", "delivered"]:
        await deliverer.settle()
        await asyncio.sleep(0.001)
