"""What may be asked of a wallet."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from app.rules.periods import Per
from app.rules.wallet import PRIORITY_DEFAULT, Category, Entry, Rollover


class Operation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something asked of one wallet.

    `id` is made before the operation is sent and becomes its entry's, so that a commit whose outcome is unknown can be
    looked up. `key` is the caller's idempotency key with a hash of the request it came with; `actor` names who asked.
    """

    customer_id: str
    id: str
    actor: str | None = None
    key: str | None = None
    request_hash: str | None = None


class Event(Operation, frozen=True, kw_only=True):
    """A product's action. `credits`, when given, is the whole price; otherwise the catalogue says."""

    event: str
    quantity: int = 1
    model: str | None = None
    credits: int | None = None
    member: str | None = None
    cost_nanos: int | None = None
    metadata: dict[str, Any]


class Reverse(Operation, frozen=True, kw_only=True):
    """An action that failed: its credits go back, once. Its id follows from the event's; `event` is its entry."""

    event: Entry
    reason: str | None = None


class MakeHold(Operation, frozen=True, kw_only=True):
    """Credits to set apart for `expires_in` seconds: for an event at its price, or as many as `credits` says."""

    event: str | None = None
    quantity: int = 1
    model: str | None = None
    credits: int | None = None
    member: str | None = None
    expires_in: int
    metadata: dict[str, Any]


class Capture(Operation, frozen=True, kw_only=True):
    """The end of a held action: what it cost in all, all that was held by default. Its id follows from the hold's.

    `member` is the hold's.
    """

    hold_id: str
    member: str | None = None
    event: str | None = None
    quantity: int | None = None
    credits: int | None = None
    cost_nanos: int | None = None
    metadata: dict[str, Any]


class Release(Operation, frozen=True, kw_only=True):
    """A held action that did not happen. Its id follows from the hold's; `member` is the hold's."""

    hold_id: str
    member: str | None = None
    reason: str | None = None


class AddGrant(Operation, frozen=True, kw_only=True):
    """Credits given by hand, from `effective_at` (now by default) until `expires_at`; `every` gives them again.

    Paid ones are worth `usd_nanos` in all, in billionths of a US dollar; by default what the packs on sale ask for.
    """

    credits: int
    category: Category
    priority: int = PRIORITY_DEFAULT
    reason: str | None = None
    effective_at: int | None = None
    expires_at: int | None = None
    every: Per | None = None
    rollover: Rollover | None = None
    usd_nanos: int | None = None


class VoidGrant(Operation, frozen=True, kw_only=True):
    """Takes back what is left of a grant; of a recurring one, the newest ends the rest with it.

    Its id follows from the grant's.
    """

    grant_id: str
    reason: str | None = None


class Adjust(Operation, frozen=True, kw_only=True):
    """A correction with a reason: up makes a promotional grant, down burns grants in order."""

    credits: int
    reason: str


PurchaseKind = Literal["checkout", "auto_top_up", "subscription"]
"""How it was bought: on Stripe's page, by the wallet itself from a saved card, by an invoice of a subscription."""


class TopUp(Operation, frozen=True, kw_only=True):
    """Credits that were bought. Its id follows from the checkout, so however often it is reported it lands once.

    `amount` in minor units of `currency` is what they cost, and `paid` what was charged in all, with tax and less what
    a promotion took off. `payment_intent` names the payment, if there was one. With `card_saved` the payment left a
    card that the wallet may charge. `usd_rate` is what one major unit of the currency is in billionths of a US dollar.
    """

    credits: int
    checkout_id: str
    description: str
    amount: int
    currency: str
    purchase: PurchaseKind = "checkout"
    pack: str = ""
    bonus_credits: int = 0
    bonus_days: int | None = None
    expires_at: int | None = None
    paid: int = 0
    payment_intent: str | None = None
    card_saved: bool = False
    usd_rate: int | None = None


class FailTopUp(Operation, frozen=True, kw_only=True):
    """An automatic top-up that did not come to pass. Its id follows from the checkout.

    `reason` is a code; with `pay_url` the customer may pay instead. One that `counts` is followed by a pause, and the
    last of too many by none: the wallet stops trying.
    """

    checkout_id: str
    pack: str
    amount: int
    currency: str
    reason: str
    pay_url: str | None = None
    counts: bool = True


class RestartTopUps(Operation, frozen=True, kw_only=True):
    """A card was saved that the wallet may charge, later than its payment landed."""


class TakeBack(Operation, frozen=True, kw_only=True):
    """What the money of a payment says now: of `charged`, so much is `refunded` and `disputed`, in minor units.

    `seen` is the version of the last taking that was known when Stripe was asked, 0 for none.
    """

    checkout_id: str
    description: str
    charged: int
    refunded: int
    disputed: int
    seen: int
    purchase: PurchaseKind = "checkout"


class AskRefund(Operation, frozen=True, kw_only=True):
    """A refund that is about to be asked of Stripe: so its key is kept, and who asked. `amount` in minor units."""

    checkout_id: str
    description: str
    amount: int
    reason: str | None = None


class OpenWallet(Operation, frozen=True, kw_only=True):
    """A wallet made by name; one that is open already stays as it is."""

    name: str | None = None
    low_balance_threshold: int | None = None


class ChangeSettings(Operation, frozen=True, kw_only=True):
    """New values for fields of the wallet that its operator sets; those not named stay."""

    changes: Mapping[str, Any]


class LimitMember(Operation, frozen=True, kw_only=True):
    """A limit for somebody inside the wallet: credits for each day, week or month; None takes it away."""

    member: str
    limit_credits: int | None
    limit_per: Per | None


class Settle(Operation, frozen=True, kw_only=True):
    """Nothing but what time has brought."""


def derived_id(prefix: str, id: str) -> str:
    """An id that follows from another's: with it, the second of two equal requests finds the first one's entry."""
    return f"{prefix}_{id.partition('_')[2]}"


def grant_id_for(operation_id: str, suffix: str = "") -> str:
    """The id of a grant that an operation makes beside its own entry: it follows from the operation's."""
    return derived_id("grant", operation_id) + suffix


def top_up_id_of(checkout_id: str) -> str:
    """The id of the entry by which a checkout lands."""
    return derived_id("top", checkout_id)


def grant_id_of(checkout_id: str) -> str:
    """The grant that a checkout bought."""
    return grant_id_for(top_up_id_of(checkout_id))


def bonus_id_of(checkout_id: str) -> str:
    """The grant that came on top of it."""
    return grant_id_for(top_up_id_of(checkout_id), "b")
