"""The outbox: who is written to, what is due, what is written of attempts, and what is taken away."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger

from app.config import Config
from app.rules.operations import AddGrant
from app.store import deliveries, webhooks
from app.store.db import Database, Script
from app.store.deliveries import Delivery, Result
from app.store.expiring import tell_of_expiring
from app.store.ids import new_id, now_ms
from app.store.webhooks import Endpoint, EndpointChange, Message, deliveries_of, position_of

DAY = 86_400_000


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made


@pytest.fixture
def db(ledger: Ledger) -> Database:
    return ledger.db


async def endpoint(db: Database, *events: str) -> Endpoint:
    return await webhooks.create_endpoint(
        db, url="https://h/", events=events or ("*",), description=None, secret="whsec_", most=20
    )


def message(number: int = 0, *, customer_id: str = "", **fields: Any) -> Message:
    base = {
        "id": f"msg_{customer_id}_{number}",
        "type": "wallet.low",
        "customer_id": customer_id,
        "position": position_of(number, 0),
        "data": {"n": number},
        "at": 1_000 + number,
    }
    return Message(**base | fields)


async def write(db: Database, *messages: Message) -> None:
    def script() -> Script[None]:
        yield deliveries_of(db.dialect, messages)

    await db.transact(script)


async def due(db: Database, *, now: int = 2**45, most: int = 100) -> list[list[str]]:
    endpoints = [one for one in await webhooks.list_endpoints(db) if one.disabled is None]
    found = await deliveries.due_deliveries(db, dict.fromkeys(endpoints, most), now)
    return [[one.delivery.message_id for one in of_endpoint] for of_endpoint in found]


async def all_of(db: Database, made: Endpoint, **filters: Any) -> list[Delivery]:
    found, _ = await deliveries.list_deliveries(db, made.id, **{"status": None, "limit": 100, "before": None} | filters)
    return found


def result(of: Delivery, **fields: Any) -> Result:
    names = ("id", "endpoint_id", "customer_id", "position", "status", "next_at", "answer_status", "error")
    base = {name: getattr(of, name) for name in names} | {"attempts": of.attempts + 1, "at": 5_000}
    return Result(**base | fields)


async def record(db: Database, *results: Result) -> Sequence[deliveries.Disabled]:
    return await deliveries.record(db, results, failing_ms_max=3 * DAY, swept_at_once=100)


async def test_only_those_who_listen_are_written_to(db: Database) -> None:
    everything, low = await endpoint(db), await endpoint(db, "wallet.low", "price.changed")
    other, off = await endpoint(db, "wallet.depleted"), await endpoint(db)
    await webhooks.change_endpoint(db, off.id, EndpointChange(disabled="off"), swept_at_once=10)
    told = message(7, customer_id="ü'\"%_?\\", data={"text": "ü \u0000 ' ? :a %s"})
    await write(db, told)
    for listens in (everything, low):
        [delivery] = await all_of(db, listens)
        assert delivery.id == f"del_{told.id.removeprefix('msg_')}_{listens.id.removeprefix('whe_')}"
        assert delivery.payload == (
            '{"type":"wallet.low","timestamp":"1970-01-01T00:00:01.007Z","data":{"text":"ü \\u0000 \' ? :a %s"}}'
        )
        assert (delivery.message_id, delivery.customer_id, delivery.position) == (told.id, told.customer_id, 7_000)
        assert (delivery.status, delivery.attempts, delivery.next_at, delivery.created_at) == ("pending", 0, 1007, 1007)
    assert await all_of(db, other) == await all_of(db, off) == []


async def test_a_message_is_written_once(db: Database) -> None:
    made = await endpoint(db)
    await write(db, message(1), message(2))
    await write(db, message(2, data={"n": "another"}), message(3))
    assert [one.message_id for one in await all_of(db, made)] == ["msg__3", "msg__2", "msg__1"]
    assert '"n":2' in (await all_of(db, made))[1].payload
    await write(db)


async def test_of_each_wallet_the_first_alone_is_due(db: Database) -> None:
    await endpoint(db)
    await write(
        db,
        message(5, customer_id="a", at=1),
        message(4, customer_id="a", at=9),
        message(6, customer_id="b"),
        message(1),
        message(2),
        message(9, customer_id="late", at=2**46),
    )
    assert [sorted(ids) for ids in await due(db)] == [["msg__1", "msg__2", "msg_a_4", "msg_b_6"]]
    assert await due(db, now=0) == [[]]


async def test_each_endpoint_has_its_own_share_and_order(db: Database) -> None:
    first, second = await endpoint(db), await endpoint(db)
    await write(
        db, *(message(number) for number in range(9)), message(20, customer_id="a"), message(21, customer_id="a")
    )
    assert [len(ids) for ids in await due(db, most=4)] == [4, 4]
    [head] = [one for one in await all_of(db, first) if one.message_id == "msg_a_20"]
    await record(db, result(head, status="delivered"))
    of_first, of_second = await due(db)
    assert "msg_a_21" in of_first
    assert "msg_a_20" in of_second
    assert "msg_a_21" not in of_second
    assert second.id != first.id


async def test_what_follows_waits_with_the_one_ahead(db: Database) -> None:
    made = await endpoint(db)
    await write(db, *(message(number, customer_id="a") for number in (1, 2, 3)), message(1, customer_id="b"))
    *_, head = sorted(await all_of(db, made), key=lambda one: (one.customer_id != "a", one.position), reverse=True)
    await record(db, result(head, status="pending", next_at=90_000))
    waits = {(one.message_id): one.next_at for one in await all_of(db, made)}
    assert waits == {"msg_a_1": 90_000, "msg_a_2": 90_000, "msg_a_3": 90_000, "msg_b_1": 1_001}
    assert await due(db, now=80_000) == [["msg_b_1"]]
    assert sorted((await due(db, now=90_000))[0]) == ["msg_a_1", "msg_b_1"]


async def test_results_written_twice_are_the_same(db: Database) -> None:
    made = await endpoint(db)
    await write(db, message(1), message(2), message(3))
    third, second, first = await all_of(db, made)
    results = [
        result(first, status="delivered", answer_status=200),
        result(second, status="pending", next_at=90_000, answer_status=500, error="a ' ? \\"),
        result(third, status="failed", error="no"),
    ]
    await record(db, *results)
    written = await all_of(db, made)
    await record(db, *results)
    assert await all_of(db, made) == written
    assert [(one.status, one.attempts, one.ended_at, one.answer_status, one.error) for one in written] == [
        ("failed", 1, 5_000, None, "no"),
        ("pending", 1, None, 500, "a ' ? \\"),
        ("delivered", 1, 5_000, 200, None),
    ]
    assert (await webhooks.find_endpoint(db, made.id)).failing_since is None
    assert [one.message_id for one in await all_of(db, made, status="failed")] == ["msg__3"]
    assert [one.message_id for one in await all_of(db, made, status="pending")] == ["msg__2"]
    assert await deliveries.count_pending(db, 10) == 1


async def test_failures_add_up_until_a_success(db: Database) -> None:
    made = await endpoint(db)
    await write(db, message(1))
    [delivery] = await all_of(db, made)
    for at in (5_000, 9_000):
        assert await record(db, result(delivery, status="pending", at=at)) == []
        assert (await webhooks.find_endpoint(db, made.id)).failing_since == 5_000
    await record(db, result(delivery, status="delivered", at=9_500))
    assert (await webhooks.find_endpoint(db, made.id)).failing_since is None


async def test_after_three_days_without_a_success_it_is_disabled(db: Database) -> None:
    made, other = await endpoint(db), await endpoint(db, "endpoint.disabled")
    await write(db, message(1), message(2, customer_id="a"))
    delivery = (await all_of(db, made))[1]
    await record(db, result(delivery, status="pending", at=DAY))
    assert await record(db, result(delivery, status="pending", at=4 * DAY - 1)) == []
    [disabled] = await record(db, result(delivery, status="pending", at=4 * DAY))
    assert (disabled.id, disabled.reason) == (made.id, "Nothing has arrived since 1970-01-02T00:00:00.000Z.")
    assert {one.status for one in await all_of(db, made)} == {"failed"}
    [told] = await all_of(db, other)
    assert told.type == "endpoint.disabled"
    # One that was under way meanwhile may have arrived.
    await record(db, result(delivery, status="delivered", at=4 * DAY + 1))
    assert [one.status for one in await all_of(db, made)] == ["failed", "delivered"]
    again = await webhooks.change_endpoint(db, made.id, EndpointChange(disabled=None), swept_at_once=10)
    assert (again.disabled, again.failing_since) == (None, None)


async def test_upkeep_takes_away_what_is_old_or_of_nobody(db: Database) -> None:
    kept, deleted, off = await endpoint(db), await endpoint(db), await endpoint(db)
    await write(db, *(message(number) for number in range(5)))
    old, *_ = await all_of(db, kept)
    await record(db, result(old, status="delivered", at=5_000))
    await webhooks.delete_endpoint(db, deleted.id)
    await webhooks.change_endpoint(db, off.id, EndpointChange(disabled="off"), swept_at_once=2)
    assert [one.status for one in await all_of(db, off)].count("pending") == 3
    assert await deliveries.sweep(db, ended_before=5_000, most=2) == 2
    for _ in range(5):
        await deliveries.sweep(db, ended_before=5_000, most=2)
    assert await deliveries.sweep(db, ended_before=5_000, most=2) == 0
    assert len(await all_of(db, kept)) == 5
    assert await all_of(db, deleted) == []
    assert {one.status for one in await all_of(db, off)} == {"failed"}
    assert await deliveries.sweep(db, ended_before=5_001, most=2) == 1
    assert len(await all_of(db, kept)) == 4


async def give(ledger: Ledger, customer_id: str, expires_at: int | None, *, effective_at: int | None = None) -> str:
    grant_id = new_id("grant", customer_id)
    await ledger.writer.submit(
        AddGrant(
            customer_id=customer_id,
            id=grant_id,
            credits=10,
            category="paid",
            expires_at=expires_at,
            effective_at=effective_at,
        )
    )
    return grant_id


async def test_grants_that_expire_within_three_days_are_told_once(ledger: Ledger) -> None:
    db, now = ledger.db, now_ms()

    async def tell(at: int) -> int:
        return await tell_of_expiring(db, now=at, window_ms=3 * DAY, most=2)

    soon = [await give(ledger, f"u{number}", now + 10 * DAY) for number in range(5)]
    later = await give(ledger, "u0", now + 11 * DAY)
    await give(ledger, "u1", None)
    await give(ledger, "u2", now + 10 * DAY, effective_at=now + 5 * DAY)  # it lives for less than twice the time
    used = await give(ledger, "used", now + 10 * DAY)
    await ledger.meter("used", credits=10)
    assert await tell(now + 8 * DAY) == 0  # nobody listens
    made = await endpoint(db, "grant.expiring")
    assert await tell(now) == 0
    assert await tell(now + 7 * DAY) == 5
    assert await tell(now + 7 * DAY + 60_000) == 0
    found = await all_of(db, made)
    assert {one.message_id for one in found} == {f"msg_expiring_{id}" for id in soon}
    assert used not in "".join(one.payload for one in found)
    assert f'"customer_id":"u3","grant_id":"{soon[3]}","category":"paid","credits_remaining":10' in "".join(
        one.payload for one in found
    )
    assert await tell(now + 9 * DAY) == 1
    assert later in (await all_of(db, made))[0].message_id


async def test_a_rotation_ends_by_itself(db: Database) -> None:
    made = await endpoint(db)
    rotated = await webhooks.rotate_secret(db, made.id, "whsec_new", 60)
    assert (rotated.secret, rotated.former_secret) == ("whsec_new", made.secret)
    assert replace(rotated, updated_at=0) == replace(await webhooks.find_endpoint(db, made.id), updated_at=0)
