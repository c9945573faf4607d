"""What the history's product does: one action at a time, metered at once or held first."""

import random
from collections.abc import Iterator
from typing import Final

from app.demo.history_cast import BACKEND, DRIFT_DAYS, DRIFT_FACTOR, Action, Buyer, Model
from app.rules.operations import Capture, Event, MakeHold, Release, Settle, derived_id
from app.rules.periods import DAY_MS
from app.store.ids import new_id
from app.store.past import Moment

_HOLD_SECONDS: Final = 900
_SETTLED_AFTER_MS: Final = 700
_CAPTURED: Final = 0.82
_RELEASED: Final = 0.13
"""Shares of the holds; the rest runs out."""
_TAKES_MS: Final = (20_000, 300_000)
_COST_SPREAD: Final = (0.88, 1.12)


def settling(customer_id: str, due_at: int) -> Moment:
    """Brings a wallet what is due at a time, as the server's job does where nobody touches it."""
    at = due_at + _SETTLED_AFTER_MS
    return at, Settle(customer_id=customer_id, id=new_id("settle", customer_id, at))


class Traffic:
    """Actions as operations.

    Args:
        rng: its chance.
        now: when the history ends, in milliseconds since 1970: costs have been drifting up to then.

    """

    def __init__(self, rng: random.Random, now: int) -> None:
        self._rng = rng
        self._now = now

    def run(self, buyer: Buyer, action: Action, at: int) -> Iterator[Moment]:
        """What one action of a customer asks of the ledger, and when."""
        rng = self._rng
        [model] = rng.choices(action.models, weights=[model.share for model in action.models])
        units = rng.randint(1, action.units_max)
        member = rng.choice(buyer.members) if buyer.members else None
        cost = self._cost(action, model, units, at)
        if rng.random() < action.held:
            yield from self._hold(buyer, action, model, member, cost, at)
            return
        event = Event(
            customer_id=buyer.id,
            id=new_id("evt", buyer.id, at),
            actor=BACKEND,
            event=action.event,
            quantity=units,
            model=model.name,
            member=member,
            cost_nanos=cost,
            metadata={},
        )
        yield at, event

    def _hold(
        self, buyer: Buyer, action: Action, model: Model, member: str | None, cost: int | None, at: int
    ) -> Iterator[Moment]:
        """An action that is held first: as a rule it is captured, sometimes released, and at times forgotten."""
        hold = MakeHold(
            customer_id=buyer.id,
            id=new_id("hold", buyer.id, at),
            actor=BACKEND,
            event=action.event,
            model=model.name,
            member=member,
            expires_in=_HOLD_SECONDS,
            metadata={},
        )
        yield at, hold
        done = at + self._rng.randrange(*_TAKES_MS)
        end = self._rng.random()
        if end < _CAPTURED:
            capture = Capture(
                customer_id=buyer.id,
                id=derived_id("evt", hold.id),
                actor=BACKEND,
                hold_id=hold.id,
                member=member,
                cost_nanos=cost,
                metadata={},
            )
            yield done, capture
        elif end < _CAPTURED + _RELEASED:
            release = Release(
                customer_id=buyer.id,
                id=derived_id("rel", hold.id),
                actor=BACKEND,
                hold_id=hold.id,
                member=member,
                reason="Stopped by its user",
            )
            yield done, release
        else:
            yield settling(buyer.id, at + _HOLD_SECONDS * 1000)

    def _cost(self, action: Action, model: Model, units: int, at: int) -> int | None:
        """What the provider charges for some units, None where the event does not say it."""
        if model.nanos is None:
            return None
        factor = self._rng.uniform(*_COST_SPREAD)
        if action.drifts:
            days_ago = (self._now - at) / DAY_MS
            factor *= DRIFT_FACTOR ** max(0.0, 1 - days_ago / DRIFT_DAYS)
        return round(model.nanos * factor) * units
