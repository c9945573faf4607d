"""A past that is written into a fresh ledger: by the rules, at its own times, whole or not at all."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.config import Config
from app.rules.operations import AddGrant, Event, TopUp, top_up_id_of
from app.rules.packs import Pack
from app.rules.periods import DAY_MS as DAY
from app.rules.periods import HOUR_MS
from app.store import checkouts, reads
from app.store.catalogue import CatalogueStore, PriceDraft
from app.store.checkouts import Checkout
from app.store.costs import CostDraft, CostStore
from app.store.db import Database, Script
from app.store.ids import new_id
from app.store.past import Slice, Story, standing_of, write_past
from app.store.usage import UsageStore
from app.store.verify import Audit

BEGAN = 1_700_000_000_000 // DAY * DAY
DEARER = PriceDraft(event="chat.reply", credits=10, label="Chat reply")


def told() -> Story:
    """Two days of Ada's: a grant that expires between two batches' operations, a purchase, a new price."""

    def used(at: int) -> tuple[int, Event]:
        return at, Event(customer_id="ada", id=new_id("evt", "ada", at), event="chat.reply", metadata={})

    at = BEGAN + 1_000
    grant = AddGrant(
        customer_id="ada",
        id=new_id("grant", "ada", at),
        credits=100,
        category="promotional",
        expires_at=BEGAN + DAY + HOUR_MS,
    )
    results = yield Slice(begins_at=BEGAN, operations=[(at, grant), used(BEGAN + 2_000), used(BEGAN + 5 * HOUR_MS)])
    assert [one.wallet.balance for one in results if not isinstance(one, Exception)] == [100, 92, 84]

    bought_at = BEGAN + DAY + HOUR_MS
    checkout = Checkout(
        id=new_id("co", "ada", bought_at),
        customer_id="ada",
        pack="team",
        description="Team: 500 credits",
        credits=500,
        amount=1_000,
        currency="usd",
        status="open",
        created_at=bought_at,
        expires_at=bought_at + HOUR_MS,
    )
    top_up = TopUp(
        customer_id="ada",
        id=top_up_id_of(checkout.id),
        credits=500,
        checkout_id=checkout.id,
        description="Team",
        amount=1_000,
        currency="usd",
        paid=1_000,
    )
    yield Slice(
        begins_at=BEGAN + DAY,
        prices=[DEARER],
        costs=[CostDraft(event="chat.reply", nanos=7)],
        packs=[Pack(code="team", name="Team", credits=500, amount=1_000, currency="usd")],
        checkouts=[checkout],
        operations=[(BEGAN + DAY + 2 * HOUR_MS, top_up), used(BEGAN + DAY + 3 * HOUR_MS)],
    )


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(Config(database_url=database_url))
    await opened.open()
    yield opened
    await opened.close()


async def _write(db: Database, story: Callable[[], Story] = told) -> str:
    return await write_past(db, BEGAN, story, actor="ops", on_slice=lambda: None)


async def _entries(db: Database, customer_id: str) -> list[Any]:
    found, _ = await reads.entries(db, customer_id, reads.EntryFilter(), limit=100, before=None)
    return found[::-1]


async def test_each_operation_happens_at_its_time_and_what_is_due_before_it(db: Database) -> None:
    assert await _write(db) == "fresh"
    entries = await _entries(db, "ada")
    assert [(one.kind, one.created_at - BEGAN, one.balance) for one in entries] == [
        ("grant", 1_000, 100),
        ("event", 2_000, 92),
        ("event", 5 * HOUR_MS, 84),
        ("expiry", DAY + 2 * HOUR_MS, 0),
        ("top_up", DAY + 2 * HOUR_MS, 500),
        ("event", DAY + 3 * HOUR_MS, 490),
    ]
    assert [mismatch async for mismatch in Audit(db).mismatches()] == []


async def test_ids_carry_the_time(db: Database) -> None:
    await _write(db)
    events = [one for one in await _entries(db, "ada") if one.kind == "event"]
    # Nine digits are all but the last three bits of it.
    assert [one.id[4:13] for one in events] == [new_id("evt", "ada", one.created_at)[4:13] for one in events]


async def test_prices_costs_and_packs_hold_from_their_slice_on(db: Database) -> None:
    await _write(db)
    entries = [one for one in await _entries(db, "ada") if one.kind == "event"]
    assert [(one.price_version, one.cost_nanos) for one in entries] == [(1, None), (1, None), (2, 7)]
    config = Config()
    catalogue = CatalogueStore(db, config.limits)
    versions = await catalogue.versions("chat.reply")
    assert [(price.version, price.effective_at - BEGAN, status) for price, status in versions] == [
        (2, DAY, "in_force"),
        (1, 0, "superseded"),
    ]
    [cost] = await CostStore(db, catalogue, config.limits).costs()
    assert (cost.event, cost.nanos, cost.created_at - BEGAN) == ("chat.reply", 7, DAY)
    assert "team" in {pack.code for pack in await catalogue.packs()}


async def test_a_checkout_is_moved_by_what_lands(db: Database) -> None:
    await _write(db)
    [paid], _ = await checkouts.page_of(db, "ada", status="paid", limit=10, before=None)
    assert (paid.amount_paid, paid.created_at) == (1_000, BEGAN + DAY + HOUR_MS)


async def test_usage_is_noted_and_added_up_in_its_hours(db: Database) -> None:
    await _write(db)
    usage = UsageStore(db, Config().limits)
    assert await usage.catch_up()
    periods = [(BEGAN, BEGAN + HOUR_MS), (BEGAN + DAY, BEGAN + 2 * DAY)]
    found = [
        (at - BEGAN, used.credits)
        for at, _, currency, used in await usage.report(periods, "event", None)
        if not currency
    ]
    assert found == [(0, 8), (DAY, 10)]


async def test_a_past_is_written_once(db: Database) -> None:
    assert await standing_of(db) == "fresh"
    assert await _write(db) == "fresh"
    entries = await _entries(db, "ada")
    assert await standing_of(db) == "has_past"
    assert await _write(db) == "has_past"
    assert await _entries(db, "ada") == entries


async def test_one_that_breaks_off_leaves_a_fresh_ledger(db: Database) -> None:
    def broken() -> Story:
        yield from told()
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        await _write(db, broken)
    assert await standing_of(db) == "fresh"
    assert await reads.wallet(db, "ada") is None
    assert await _write(db) == "fresh"


PRICE = "INSERT INTO prices (event, version, credits, label, per_model, archived, created_at, actor) VALUES "
PACK = (
    "INSERT INTO pack_versions (code, version, name, credits, amount, currency, bonus_credits, currencies,"
    " expires_with_period, archived, created_at, actor) VALUES "
)
OF_ITS_OWN = {
    "price": f"{PRICE} ('mine', 1, 1, 'Mine', '{{}}', 0, 1, 'ops')",
    "price's version": f"{PRICE} ('chat.reply', 2, 1, 'Mine', '{{}}', 0, 1, NULL)",
    "cost": "INSERT INTO costs (event, version, nanos, per_model, archived, created_at) VALUES ('a', 1, 1, '{}', 0, 1)",
    "pack": f"{PACK} ('mine', 1, 'Mine', 1, 1, 'usd', 0, '{{}}', 1, 0, 1, 'ops')",
    "pack's version": f"{PACK} ('chargly_500', 2, 'Mine', 1, 1, 'usd', 0, '{{}}', 1, 0, 1, NULL)",
    "webhook endpoint": (
        "INSERT INTO webhook_endpoints (id, url, events, secret, created_at, updated_at)"
        " VALUES ('whe_1', 'https://a.example', ' * ', 'whsec_1', 1, 1)"
    ),
    "API key": "INSERT INTO api_keys (id, name, scope, hash, created_at) VALUES ('key_1', 'ops', 'admin', 'x', 1)",
    "checkout": (
        "INSERT INTO checkouts (id, customer_id, pack, description, credits, amount, currency, status, created_at,"
        " expires_at) VALUES ('co_1', 'ada', 'p', 'P', 1, 1, 'usd', 'open', 1, 1)"
    ),
    "recommendation": (
        "INSERT INTO recommendations (id, event, kind, per_model, reason, confidence, status, facts, current_credits,"
        " recommended_credits, estimated_lift_nanos, version_from, created_at)"
        " VALUES ('rec_1', 'a', 'raise', '{}', 'Why', 'high', 'rejected', '{}', 1, 2, 1, 1, 1)"
    ),
}


@pytest.mark.parametrize("what", OF_ITS_OWN)
async def test_a_ledger_that_has_something_of_its_own_is_given_none(db: Database, what: str) -> None:
    def script() -> Script[None]:
        yield OF_ITS_OWN[what], ()

    assert await standing_of(db) == "fresh"
    await db.transact(script)
    assert await standing_of(db) == "in_use"
    assert await _write(db) == "in_use"
    assert await reads.wallet(db, "ada") is None


async def test_what_a_store_sets_is_of_its_own(db: Database) -> None:
    await CatalogueStore(db, Config().limits).put_price(DEARER)
    assert await standing_of(db) == "in_use"
