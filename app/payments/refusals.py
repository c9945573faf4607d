"""Stripe's ways to say no, beside being away."""

from app.errors import StripeUnavailable


class StripeRefused(StripeUnavailable):
    """Stripe understood and refuses: nothing happened, and asking the same again would not help.

    `reason` is Stripe's code, `param` what it is about.
    """

    def __init__(self, reason: str, param: str | None) -> None:
        super().__init__(f"Stripe refused this ({reason}); nothing was charged or granted.", stripe_code=reason)
        self.reason = reason
        self.param = param


class CardDeclined(Exception):
    """The bank refuses, or wants its customer present. `reason` is Stripe's code, `intent` the payment left open."""

    def __init__(self, reason: str, intent: str | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.intent = intent
