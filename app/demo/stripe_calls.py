"""What a Stripe account answers to the calls of a server."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from app.demo.stripe_customers import Customers
from app.demo.stripe_objects import StripeObject, new_id
from app.demo.stripe_parameters import Form, check_metadata, check_required, one_of, whole, yes
from app.demo.stripe_payments import Payments
from app.demo.stripe_record import Record
from app.demo.stripe_refusal import StripeRefusal, bad_form, no_such, unexpected_state
from app.demo.stripe_sessions import Sessions

Answer = tuple[int, StripeObject]
"""An HTTP status, and the object or the error."""
FindUnknown = Callable[[str, str, Form], str | None]
"""Names the first parameter that a method and a path's pattern do not know, or None."""

_AMOUNT_MAX: Final = 99_999_999
_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer")


class _Collection(NamedTuple):
    kind: str
    filters: tuple[str, ...]


_COLLECTIONS: Final = {
    "checkout/sessions": _Collection("checkout.session", ("payment_intent", "customer", "status")),
    "customers": _Collection("customer", ("email",)),
    "payment_intents": _Collection("payment_intent", ("customer",)),
    "payment_methods": _Collection("payment_method", ("customer", "type")),
    "charges": _Collection("charge", ("payment_intent", "customer")),
    "refunds": _Collection("refund", ("payment_intent", "charge")),
    "disputes": _Collection("dispute", ("payment_intent", "charge")),
    "prices": _Collection("price", ()),
    "invoices": _Collection("invoice", ("customer", "status", "subscription")),
    "invoice_payments": _Collection("invoice_payment", ("invoice", "status", "payment")),
    "events": _Collection("event", ()),
}


class _Route(NamedTuple):
    pattern: str
    collection: str
    id: str


class _Remembered(NamedTuple):
    path: str
    form: Form
    status: int
    body: StripeObject


class Calls:
    """Routes a call, and answers one with the same idempotency key as it did before."""

    def __init__(
        self,
        record: Record,
        payments: Payments,
        customers: Customers,
        sessions: Sessions,
        unknown: FindUnknown,
        kept_max: int,
    ) -> None:
        self._record = record
        self._payments = payments
        self._customers = customers
        self._sessions = sessions
        self._unknown = unknown
        self._kept_max = kept_max
        self._answers: OrderedDict[str, _Remembered] = OrderedDict()
        self._posts: dict[str, Callable[[Form, str], StripeObject]] = {
            "checkout/sessions": sessions.create,
            "checkout/sessions/*/expire": sessions.expire_now,
            "customers": customers.create,
            "customers/*": customers.update,
            "payment_intents": self._create_intent,
            "payment_intents/*/cancel": self._cancel_intent,
            "refunds": self._create_refund,
        }

    def call(self, method: str, path: str, form: Form, idempotency_key: str | None = None) -> Answer:
        """Answers one call, `form` being its body or query as `unflatten` gives it."""
        try:
            route = self._route(method, path)
            name = self._unknown(method, route.pattern, form)
            if name is not None:
                raise bad_form("parameter_unknown", f"Received unknown parameter: {name}", name)
            check_required(method, route.pattern, form)
            if method == "POST" and idempotency_key:
                return self._once(idempotency_key, path, form, route)
            return 200, self._carry_out(method, route, form)
        except StripeRefusal as refusal:
            return refusal.status, refusal.body

    def _route(self, method: str, path: str) -> _Route:
        rest = path.removeprefix("/v1/")
        for name in _COLLECTIONS:
            if rest != name and not rest.startswith(f"{name}/"):
                continue
            id, _, action = rest[len(name) + 1 :].partition("/")
            pattern = "/".join(filter(None, (name, "*" if id else "", action)))
            if pattern in self._posts if method == "POST" else method == "GET" and not action:
                return _Route(pattern, name, id)
        raise StripeRefusal(404, None, f"Unrecognized request URL ({method}: {path}).")

    def _once(self, key: str, path: str, form: Form, route: _Route) -> Answer:
        first = self._answers.get(key)
        if first is None:
            first = self._answers[key] = _Remembered(path, copy.deepcopy(form), *self._attempt(key, route, form))
            if len(self._answers) > self._kept_max:
                self._answers.popitem(last=False)
        if (first.path, first.form) != (path, form):
            said = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key}' if you meant to execute a different request."
            )
            return 400, {"error": {"type": "idempotency_error", "message": said}}
        return first.status, first.body

    def _attempt(self, key: str, route: _Route, form: Form) -> Answer:
        self._record.request = {"id": new_id("req"), "idempotency_key": key}
        try:
            return 200, copy.deepcopy(self._carry_out("POST", route, form))
        except StripeRefusal as refusal:
            if refusal.is_about_the_form:
                raise
            return refusal.status, copy.deepcopy(refusal.body)
        finally:
            self._record.request = {"id": None, "idempotency_key": None}

    def _carry_out(self, method: str, route: _Route, form: Form) -> StripeObject:
        if method == "POST":
            return self._record.expanded(self._posts[route.pattern](form, route.id), form)
        kind, filters = _COLLECTIONS[route.collection]
        self._sessions.expire_due()
        if route.id:
            return self._record.expanded(self._record.get(kind, route.id), form)
        return self._record.expanded(self._record.page(kind, f"/v1/{route.collection}", form, filters), form)

    def _create_intent(self, form: Form, _: str) -> StripeObject:
        amount = whole(form, "amount", least=1)
        assert amount is not None
        if amount > _AMOUNT_MAX:
            raise StripeRefusal(400, "amount_too_large", f"Amount must be no more than {_AMOUNT_MAX}.", param="amount")
        confirm, off_session = yes(form, "confirm"), yes(form, "off_session")
        if off_session and not confirm:
            raise bad_form("parameter_invalid", "off_session is for a payment with confirm=true.", "off_session")
        method = self._method_of(form)
        if confirm and method is None:
            raise unexpected_state("You cannot confirm this PaymentIntent because it's missing a payment method.")
        automatic = form.get("automatic_payment_methods", {})
        intent = self._payments.intent(
            amount,
            form["currency"].lower(),
            customer=form.get("customer"),
            metadata=check_metadata(form),
            payment_method=method and method["id"],
            status="requires_confirmation" if method else "requires_payment_method",
            automatic_payment_methods={"enabled": True} if yes(automatic, "enabled") else None,
            **{name: form.get(name) for name in ("description", "receipt_email", "setup_future_usage")},
        )
        if confirm and method is not None:
            self._confirm(intent, method, off_session=off_session)
        return intent

    def _method_of(self, form: Form) -> StripeObject | None:
        owner, id = form.get("customer"), form.get("payment_method")
        if owner is not None:
            self._customers.named(owner)
        if id is None:
            return None
        method = self._record.find("payment_method", id)
        if method is None:
            raise no_such("PaymentMethod", id, param="payment_method")
        if method["customer"] != owner or owner is None:
            said = (
                f"The customer does not have a payment method with the ID {id}. "
                "The payment method must be attached to the customer."
            )
            raise StripeRefusal(400, "resource_missing", said, param="payment_method")
        return method

    def _confirm(self, intent: StripeObject, method: StripeObject, *, off_session: bool) -> None:
        card = self._payments.cards.get(method["id"])
        if card is None:
            self._payments.debit(intent, method)
            return
        decline = card.off_session if off_session else card.at_checkout
        if card.off_session and decline is None:
            intent.update(status="requires_action", next_action={"type": "use_stripe_sdk", "use_stripe_sdk": {}})
            self._record.tell("payment_intent.requires_action", intent)
            return
        made = self._payments.attempt(intent, method, decline)
        if decline is not None:
            raise self._payments.declined(decline, intent, made["id"], method)

    def _cancel_intent(self, form: Form, id: str) -> StripeObject:
        intent = self._record.get("payment_intent", id)
        self._payments.cancel(intent, one_of(form, "cancellation_reason", *_REASONS, "abandoned"))
        return intent

    def _create_refund(self, form: Form, _: str) -> StripeObject:
        amount = whole(form, "amount", least=1)
        metadata, reason = check_metadata(form), one_of(form, "reason", *_REASONS)
        intent_id, charge_id = form.get("payment_intent"), form.get("charge")
        if (intent_id is None) == (charge_id is None):
            said = "One of the following params should be provided: payment_intent or charge."
            raise bad_form("parameter_missing", said, "charge")
        return self._payments.refund(self._charge_of(intent_id, charge_id), amount, metadata=metadata, reason=reason)

    def _charge_of(self, intent_id: str | None, charge_id: str | None) -> StripeObject:
        if intent_id is None:
            return self._record.get("charge", charge_id or "", param="charge")
        intent = self._record.get("payment_intent", intent_id, param="payment_intent")
        made = self._record.find("charge", intent["latest_charge"])
        if made is None or made["status"] != "succeeded":
            raise unexpected_state(f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.")
        return made
