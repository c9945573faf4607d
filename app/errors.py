"""Every way the service says no, as one tree: each class carries its code, its status and one sentence.

    ChargeError
    ├── InvalidJSON · InvalidRequest                                        400
    ├── MissingKey · InvalidKey · InvalidToken · TokenExpired               401
    ├── InsufficientCredits · SpendLimitReached                             402
    ├── ForbiddenScope · WalletFrozen                                       403
    ├── NotFound · UnknownEvent                                             404
    ├── MethodNotAllowed                                                    405
    ├── IdempotencyConflict · HoldNotOpen · VersionConflict · CheckoutNotPaid  409
    ├── BodyTooLarge                                                        413
    ├── UnsupportedMediaType                                                415
    ├── TooManyHolds · TooManyConnections                                   429
    ├── HeadersTooLarge                                                     431
    ├── Internal                                                            500
    ├── StripeUnavailable                                                   502
    ├── Unavailable: Busy · OutcomeUnknown · TransactionFailed              503
    └── ShuttingDown · StripeNotConfigured                                  503

The facts given to an error travel in its answer beside `code` and `message`.
"""

from typing import Any, ClassVar


class ChargeError(Exception):
    """A refusal with a name: what a caller did or met, in one sentence.

    Args:
        message: a sentence for a person; the class's own by default.
        facts: what the caller needs to act on it (amounts in credits, names of fields).

    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    sentence: ClassVar[str] = "Something went wrong on our side; nothing was charged twice, so you may try again."
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        self.message = message or self.sentence
        self.facts = facts
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The answer's body: `{"error": {"code", "message", …facts}}`."""
        return {"error": {"code": self.code, "message": self.message, **self.facts}}


class Internal(ChargeError):
    """A fault of ours; the log has the traceback under the request's id."""


class InvalidJSON(ChargeError):
    """The body is no JSON in UTF-8."""

    code, status = "invalid_json", 400
    sentence = "The request body is not valid JSON in UTF-8."


class InvalidRequest(ChargeError):
    """A field is missing, unknown or out of range; `field` names it."""

    code, status = "invalid_request", 400
    sentence = "The request is not valid."

    def __init__(self, message: str | None = None, *, field: str = "", **facts: Any) -> None:
        super().__init__(message, field=field, **facts)


class MissingKey(ChargeError):
    """No credential came with the request."""

    code, status = "missing_key", 401
    sentence = "Send an API key as 'Authorization: Bearer sk_…' or in the 'x-api-key' header."


class InvalidKey(ChargeError):
    """The key is unknown or was revoked."""

    code, status = "invalid_key", 401
    sentence = "This API key is unknown or was revoked."


class InvalidToken(ChargeError):
    """The widget token is malformed or not signed with this server's secret."""

    code, status = "invalid_token", 401
    sentence = "This widget token is not valid on this server."


class TokenExpired(ChargeError):
    """The widget token was good once."""

    code, status = "token_expired", 401
    sentence = "This widget token has expired; ask your backend for a new one."


class InsufficientCredits(ChargeError):
    """The wallet cannot cover the action: `required`, `available`, `balance` in credits."""

    code, status = "insufficient_credits", 402
    sentence = "The wallet does not hold enough credits."


class SpendLimitReached(ChargeError):
    """A limit of the wallet or of a member (`scope`) does not let it pass: `limit` and `spent` in credits."""

    code, status = "spend_limit_reached", 402
    sentence = "The spend limit is reached."


class ForbiddenScope(ChargeError):
    """The credential is good, but not for this route."""

    code, status = "forbidden_scope", 403
    sentence = "This credential may not do that."


class WalletFrozen(ChargeError):
    """The operator has frozen the wallet: nothing is spent from it, and money still comes in."""

    code, status = "wallet_frozen", 403
    sentence = "This wallet is frozen; nothing can be spent from it."


class NotFound(ChargeError):
    """There is nothing under that name."""

    code, status = "not_found", 404
    sentence = "There is nothing here."


class UnknownEvent(ChargeError):
    """The event has no price and no flat rate covers it."""

    code, status = "unknown_event", 404
    sentence = "This event has no price."


class MethodNotAllowed(ChargeError):
    """The path exists, the method does not."""

    code, status = "method_not_allowed", 405
    sentence = "This path does not take that method."


class IdempotencyConflict(ChargeError):
    """The key was used for another request on the same wallet."""

    code, status = "idempotency_conflict", 409
    sentence = "This idempotency key was used for a different request on the same wallet."


class HoldNotOpen(ChargeError):
    """The hold was captured or released, or ran out: `status` says which."""

    code, status = "hold_not_open", 409
    sentence = "This hold is not open any more."


class RecommendationNotOpen(ChargeError):
    """The recommendation was applied or rejected, or has expired: `status` says which."""

    code, status = "recommendation_not_open", 409
    sentence = "This recommendation is not open any more."


class CheckoutNotPaid(ChargeError):
    """There is no money to give back: `status` says where the checkout is."""

    code, status = "checkout_not_paid", 409
    sentence = "This checkout took no money, so there is none to give back."


class VersionConflict(ChargeError):
    """Somebody else changed it first."""

    code, status = "version_conflict", 409
    sentence = "It was changed by someone else; read it again and repeat."


class BodyTooLarge(ChargeError):
    """The body is over the limit, and was not read to its end."""

    code, status = "body_too_large", 413
    sentence = "The request body is too large."


class UnsupportedMediaType(ChargeError):
    """The body is not sent as JSON."""

    code, status = "unsupported_media_type", 415
    sentence = "Send the body as 'Content-Type: application/json'."


class TooManyHolds(ChargeError):
    """The wallet has as many open holds as it may."""

    code, status = "rate_limited", 429
    sentence = "This wallet has too many open holds; capture or release some."
    retry_after_seconds = 1


class TooManyConnections(ChargeError):
    """The client's address has as many open websockets as it may."""

    code, status = "too_many_connections", 429
    sentence = "Your address has as many open websockets as it may; close some, or try again later."
    retry_after_seconds = 30


class HeadersTooLarge(ChargeError):
    """The headers are beyond any use."""

    code, status = "headers_too_large", 431
    sentence = "The request's headers are too large."


class StripeUnavailable(ChargeError):
    """Stripe failed or did not answer in time; nothing was granted."""

    code, status = "stripe_unavailable", 502
    sentence = "Stripe could not be reached; nothing was charged or granted. Try again in a moment."


class Unavailable(ChargeError):
    """The database cannot serve this now; each kind says what is known of a write."""

    code, status = "busy", 503
    sentence = "The database did not answer. Try again in a moment."
    retry_after_seconds = 1


class Busy(Unavailable):
    """The write queue is full or the database did not answer; nothing was written."""

    sentence = "The server is busy; nothing was written. Try again with the same idempotency key."


class TransactionFailed(Unavailable):
    """A transaction did not succeed; if it was at its COMMIT, whether that reached the disk is not known.

    `cause` is for the log; `rows_refused` says that this transaction's own rows were refused, rather than the database
    failing for everyone.
    """

    sentence = "The database failed. Send it again with the same idempotency key: it takes effect once."

    def __init__(self, cause: str, *, rows_refused: bool) -> None:
        super().__init__()
        self.args = (cause,)
        self.rows_refused = rows_refused


class OutcomeUnknown(Unavailable):
    """The disk was told to keep it and has not answered; it may yet be written."""

    sentence = (
        "The database did not answer in time, and it may still have been written. "
        "Send it again with the same idempotency key: it takes effect once."
    )


class ShuttingDown(ChargeError):
    """The server is on its way down."""

    code, status = "shutting_down", 503
    sentence = "The server is restarting; nothing was written. Try again in a moment."
    retry_after_seconds = 1


class StripeNotConfigured(ChargeError):
    """No Stripe key was given to this server."""

    code, status = "stripe_not_configured", 503
    sentence = "This server has no Stripe key; set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."


class StartRefused(Exception):
    """The server or a command cannot start; the message is one sentence that names what to change."""
