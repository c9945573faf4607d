"""What an action costs its operator: the provider's bill for a unit, where the event does not say it by itself."""

from collections.abc import Mapping

import msgspec

from app.config import COST_NANOS_MAX


class Cost(msgspec.Struct, frozen=True):
    """One version of an event's cost: what a provider charges for one unit, in billionths of a US dollar.

    `per_model` overrides it for a model's name; a cost of None is unknown for every other model.
    """

    event: str
    version: int
    nanos: int | None
    per_model: Mapping[str, int]

    def of(self, model: str | None, quantity: int) -> int | None:
        """What so many units cost, None where it is unknown; capped, since no action is refused for its cost."""
        unit = self.nanos if model is None else self.per_model.get(model, self.nanos)
        return None if unit is None else min(unit * quantity, COST_NANOS_MAX)
