"""Stripe's test cards: what each does while its buyer is there, and what it does when charged later without them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Decline:
    """Why a bank pays nothing."""

    code: str
    decline_code: str
    message: str


@dataclass(frozen=True)
class Card:
    """One test card: the declines are None where it pays."""

    number: str
    at_checkout: Decline | None = None
    off_session: Decline | None = None
    set_up_once: bool = False
    """Saved in a checkout for later, it needs no more authentication."""

    @property
    def last4(self) -> str:
        """What is shown of the number."""
        return self.number[-4:]


_DECLINED: Final = Decline("card_declined", "generic_decline", "Your card was declined.")
_NO_FUNDS: Final = Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")
_EXPIRED: Final = Decline("expired_card", "expired_card", "Your card has expired.")
_AUTHENTICATE: Final = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)

GOOD_CARD: Final = "4242424242424242"
DECLINED_CARD: Final = "4000000000000002"
NO_FUNDS_CARD: Final = "4000000000009995"
EXPIRED_CARD: Final = "4000000000000069"
DECLINED_LATER_CARD: Final = "4000000000000341"
AUTHENTICATED_CARD: Final = "4000002760003184"
AUTHENTICATED_ONCE_CARD: Final = "4000002500003155"

CARDS: Final = {
    card.number: card
    for card in (
        Card(GOOD_CARD),
        Card(DECLINED_CARD, at_checkout=_DECLINED, off_session=_DECLINED),
        Card(NO_FUNDS_CARD, at_checkout=_NO_FUNDS, off_session=_NO_FUNDS),
        Card(EXPIRED_CARD, at_checkout=_EXPIRED, off_session=_EXPIRED),
        # Stripe's own can be saved and never charged; this one pays its first checkout, so that it comes to be saved.
        Card(DECLINED_LATER_CARD, off_session=_DECLINED),
        Card(AUTHENTICATED_CARD, off_session=_AUTHENTICATE),
        Card(AUTHENTICATED_ONCE_CARD, off_session=_AUTHENTICATE, set_up_once=True),
    )
}
BANK_DEBIT_FAILED: Final = Decline("payment_intent_payment_attempt_failed", "", "The bank returned the debit.")
