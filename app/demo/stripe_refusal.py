"""Stripe's refusals, in the shape in which it answers them."""

from typing import Any


class StripeRefusal(Exception):
    """What Stripe answers instead of an object."""

    def __init__(self, status: int, code: str | None, message: str, **more: Any) -> None:
        super().__init__(message)
        kind = "card_error" if status == 402 else "invalid_request_error"
        told = {} if code is None else {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code}"}
        self.status = status
        self.error: dict[str, Any] = {"type": kind, "message": message, **told, **more}
        self.is_about_the_form = False
        """Nothing was begun, so that Stripe remembers no answer for the idempotency key."""

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": self.error}


def bad_form(code: str, message: str, param: str) -> StripeRefusal:
    """A parameter is unknown, missing or no value of its kind."""
    refusal = StripeRefusal(400, code, message, param=param)
    refusal.is_about_the_form = True
    return refusal


def no_such(what: str, id: str, *, param: str = "id") -> StripeRefusal:
    """No object has the id: a 404 where the path names it, a 400 where a parameter does."""
    return StripeRefusal(404 if param == "id" else 400, "resource_missing", f"No such {what}: '{id}'", param=param)


def unexpected_state(message: str, **more: Any) -> StripeRefusal:
    """A payment is past what was asked of it."""
    return StripeRefusal(400, "payment_intent_unexpected_state", message, **more)
