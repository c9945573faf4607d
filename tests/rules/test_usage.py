"""What was used, added up: netted of reversals, earned by what was paid, in any order and in any parts."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from app.rules.usage import Key, Used, UsedEntry, flows_of, margin_percent, used_by
from app.rules.worth import Worth

HOUR = 3_600_000
PAID = Worth(20, "usd")
WORTHS = {("u", "grant_paid"): PAID, ("u", "grant_euro"): Worth(30, "eur"), ("u", "grant_1"): PAID}


def entry(kind: str = "event", credits: int = -8, **fields: Any) -> UsedEntry:
    base: dict[str, Any] = dict.fromkeys(UsedEntry.__struct_fields__)
    base |= {"customer_id": "u", "created_at": 5 * HOUR + 7, "event_has_cost": False}
    if kind in ("event", "reversal"):
        base |= {"event": "chat.reply", "quantity": 1}
    return UsedEntry(**base | {"kind": kind, "credits": credits} | fields)


def sums(*entries: UsedEntry) -> dict[tuple[str, str], Used]:
    """By event and currency."""
    return {(key.event, key.currency): used for key, used in used_by(entries, WORTHS).items()}


def test_an_event_is_counted_with_its_cost_and_earns_by_what_it_drew() -> None:
    drawn = (("grant_paid", 5), ("grant_gift", 3))
    found = used_by([entry(quantity=2, cost_nanos=9, draws=drawn, model="m", member="ann")], WORTHS)
    assert found == {
        Key("u", 5 * HOUR, "chat.reply", "m", "ann", ""): Used(
            count=1, quantity=2, credits=8, costed=2, cost_nanos=9, cost_low=4, cost_high=4
        ),
        Key("u", 5 * HOUR, "chat.reply", "m", "ann", "usd"): Used(paid_credits=5, revenue_nanos=100),
    }


def test_unlike_currencies_are_kept_apart() -> None:
    found = sums(entry(draws=(("grant_paid", 5), ("grant_euro", 3))))
    assert found["chat.reply", "usd"].revenue_nanos == 100
    assert found["chat.reply", "eur"].revenue_nanos == 90


def test_a_reversal_takes_its_event_out_of_its_hour_and_leaves_the_cost() -> None:
    happened = entry(cost_nanos=9, draws=(("grant_paid", 8),))
    reversal = entry(
        "reversal",
        8,
        created_at=50 * HOUR,
        event_at=happened.created_at,
        event_has_cost=True,
        draws=(("grant_paid", -8),),
    )
    found = used_by([happened, reversal], WORTHS)
    assert {key.hour for key in found} == {5 * HOUR}
    used, earned = (next(one for key, one in found.items() if key.currency == name) for name in ("", "usd"))
    assert (used.count, used.reversed, used.quantity, used.credits) == (0, 1, 0, 0)
    assert (used.costed, used.cost_nanos) == (0, 9)
    assert (earned.paid_credits, earned.revenue_nanos) == (0, 0)


def test_a_debt_earns_when_it_is_paid_and_beside_all_events() -> None:
    assert sums(entry("top_up", 500, draws=(("grant_paid", 6),)))["", "usd"].revenue_nanos == 120
    assert sums(entry("expiry", -6, draws=(("grant_paid", 6),))) == {}
    assert sums(entry("adjustment", -6, draws=(("grant_paid", 6),))) == {}


def test_what_a_refund_takes_of_spent_credits_is_earned_no_more() -> None:
    # Of 500 bought, 200 were there and 300 spent; of these the other grant pays 50.
    draws = (("grant_1", 200), ("grant_paid", 50))
    refund = entry("refund", -500, checkout_id="co_1", unpaid=300, draws=draws)
    assert sums(refund)["", "usd"] == Used(paid_credits=-250, revenue_nanos=-5_000)
    won = entry("dispute_reversal", 500, checkout_id="co_1", unpaid=-300, draws=(("grant_paid", -50),))
    assert sums(refund, won)["", "usd"] == Used()


def test_the_cheapest_and_the_dearest_unit_are_kept() -> None:
    used = sums(*(entry(quantity=q, cost_nanos=cost) for q, cost in ((1, 5), (2, 4), (1, 9))), entry())[
        "chat.reply", ""
    ]
    assert (used.cost_low, used.cost_high, used.costed, used.quantity) == (2, 9, 4, 5)


def test_order_does_not_matter() -> None:
    entries: Sequence[UsedEntry] = [
        entry(cost_nanos=n, draws=(("grant_paid", n),), model=str(n % 3)) for n in range(40)
    ]
    shuffled = random.Random(7).sample(entries, len(entries))
    assert used_by(shuffled, WORTHS) == used_by(entries, WORTHS)
    assert flows_of(shuffled) == flows_of(entries)


def test_credits_flow_by_hour_and_kind() -> None:
    flows = flows_of([entry(), entry(credits=-2), entry("grant", 10), entry("refund", -3), entry("refund", 1)])
    assert {kind: (one.entries, one.credits_in, one.credits_out) for (_, kind), one in flows.items()} == {
        "event": (2, 0, 10),
        "grant": (1, 10, 0),
        "refund": (2, 1, 3),
    }


@pytest.mark.parametrize(
    ("revenue", "cost", "margin"), [(100, 25, 75.0), (100, 150, -50.0), (3, 1, 66.7), (0, 5, None), (-4, 1, None)]
)
def test_a_margin_is_what_is_left_of_the_revenue(revenue: int, cost: int, margin: float | None) -> None:
    assert margin_percent(revenue, cost) == margin
