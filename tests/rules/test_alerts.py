"""Low, depleted, recovered: told once for each crossing."""

import pytest
from rules.ledgers import HOUR, NEW, NOW, adjust, after, change, done, event, grant, settle

from app.rules.operations import OpenWallet, Operation
from app.rules.wallet import Applied, State

LOW_AT_50 = after(grant(100), change(low_balance_threshold=50))


def alerts(*operations: Operation, state: State = LOW_AT_50) -> list[list[str]]:
    """What is told of each of some operations."""
    told = []
    for operation in operations:
        applied = done(state, operation)
        state = applied.state
        told.append([notice.type for notice in applied.notices])
    return told


def spend(credits: int) -> Operation:
    return event(credits=credits, id=f"evt_{credits}")


def test_a_wallet_is_low_below_its_threshold_and_is_told_once() -> None:
    assert alerts(spend(50), spend(1), spend(2), spend(3)) == [[], ["wallet.low"], [], []]


def test_it_is_depleted_at_nothing_and_recovers_when_it_is_not_low() -> None:
    assert alerts(spend(60), spend(40), adjust(20), adjust(29), adjust(1), spend(1)) == [
        ["wallet.low"],
        ["wallet.depleted"],
        [],
        [],
        ["wallet.recovered"],
        ["wallet.low"],
    ]


def test_both_are_told_where_one_step_leads_there() -> None:
    assert alerts(spend(100)) == [["wallet.low", "wallet.depleted"]]


def test_without_a_threshold_it_is_depleted_and_recovers_at_the_first_credit() -> None:
    state = after(grant(10))
    assert alerts(spend(10), adjust(1), spend(1), state=state) == [
        ["wallet.depleted"],
        ["wallet.recovered"],
        ["wallet.depleted"],
    ]


def test_a_wallet_that_never_had_credits_is_not_depleted() -> None:
    state = after(change(overdraft_limit=10), state=done(NEW, event(credits=0)).state)
    assert alerts(spend(5), state=state) == [[]]


def test_a_threshold_that_is_moved_over_the_balance_makes_it_low_and_back() -> None:
    state = after(grant(10))
    assert alerts(change(low_balance_threshold=20), change(low_balance_threshold=None), state=state) == [
        ["wallet.low"],
        ["wallet.recovered"],
    ]


def test_what_time_takes_is_told_as_well() -> None:
    state = after(grant(10, expires_at=NOW + HOUR))
    applied = done(state, settle(), NOW + HOUR)
    assert [notice.type for notice in applied.notices] == ["wallet.depleted"]


@pytest.mark.parametrize(("credits", "alert"), [(1, None), (51, "low"), (100, "depleted")])
def test_the_wallet_says_what_was_told_and_since_when(credits: int, alert: str | None) -> None:
    wallet = done(LOW_AT_50, spend(credits)).state.wallet
    assert (wallet.alert, wallet.alert_at) == (alert, NOW if alert else None)


def test_a_notice_says_how_the_wallet_stands() -> None:
    applied: Applied = done(LOW_AT_50, spend(60))
    [notice] = applied.notices
    assert notice.version == applied.state.wallet.version
    assert notice.data == {"customer_id": "u", "low_balance_threshold": 50, "balance": 40, "available": 40}


def test_a_wallet_that_is_made_below_its_threshold_has_not_crossed_it() -> None:
    opened = done(NEW, OpenWallet(customer_id="u", id="set_1", low_balance_threshold=20))
    assert (opened.notices, opened.state.wallet.low, opened.state.wallet.alert) == ((), True, None)
    assert alerts(grant(10), grant(10, "grant_2"), spend(1), state=opened.state) == [[], [], ["wallet.low"]]


def test_a_threshold_set_on_a_depleted_wallet_says_nothing_new() -> None:
    assert alerts(spend(10), change(low_balance_threshold=20), state=after(grant(10))) == [["wallet.depleted"], []]
