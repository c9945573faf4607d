"""Checkout sessions, from the form that opens one to the money that arrives or does not."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from app.demo.stripe_cards import Card
from app.demo.stripe_customers import Customers
from app.demo.stripe_objects import StripeObject, checkout_session, customer_details, new_id
from app.demo.stripe_parameters import Form, check_metadata, one_of, whole, yes
from app.demo.stripe_payments import Payments
from app.demo.stripe_record import Record
from app.demo.stripe_refusal import StripeRefusal, bad_form

_AMOUNT_MAX: Final = 99_999_999
_REFERENCE_MAX: Final = 200
_SESSION_SECONDS_MIN: Final = 30 * 60
_SESSION_SECONDS_MAX: Final = 24 * 60 * 60
_CLOCKS_APART: Final = 5


class Sessions:
    """Opens sessions, and takes their money."""

    def __init__(
        self,
        record: Record,
        payments: Payments,
        customers: Customers,
        page_url: Callable[[str], str],
        kept_max: int,
    ) -> None:
        self._record = record
        self._payments = payments
        self._customers = customers
        self._page_url = page_url
        self._kept_max = kept_max
        self._intents_asked: OrderedDict[str, Form] = OrderedDict()

    def create(self, form: Form, id: str) -> StripeObject:
        """A new session of a form; it has a new id unless one is given."""
        one_of(form, "mode", "payment")
        asked = form.get("payment_intent_data", {})
        check_metadata(asked, "payment_intent_data[metadata]")
        one_of(asked, "setup_future_usage", "off_session", "on_session")
        session_id = id or f"cs_test_{secrets.token_hex(20)}"
        items = [self._line(item) for item in form["line_items"].values()]
        subtotal = sum(item["amount_total"] for item in items)
        session = checkout_session(
            id=session_id,
            amount_subtotal=subtotal,
            amount_total=subtotal,
            created=self._record.now,
            currency=items[0]["currency"],
            expires_at=self._expires_at(form),
            metadata=check_metadata(form),
            url=self._page_url(session_id),
            **self._buyer_of(form),
            **{name: form.get(name) for name in ("success_url", "cancel_url", "locale", "submit_type")},
        )
        session["allow_promotion_codes"] = yes(form, "allow_promotion_codes") or None
        if yes(form.get("automatic_tax", {}), "enabled"):
            self._check_taxable(form)
            session["automatic_tax"].update(
                enabled=True, liability={"type": "self"}, provider="stripe", status="requires_location_inputs"
            )
        self._record.keep_line_items(session_id, items)
        self._intents_asked[session_id] = asked
        if len(self._intents_asked) > self._kept_max:
            self._intents_asked.popitem(last=False)
        return self._record.add(session)

    def _line(self, item: Form) -> StripeObject:
        price = item.get("price_data", {})
        each, many = whole(price, "unit_amount"), whole(item, "quantity", least=1)
        if each is None or not price.get("currency"):
            raise bad_form("parameter_missing", "You must specify either `price` or `price_data`.", "line_items")
        if not 0 <= each * (many or 1) <= _AMOUNT_MAX:
            raise StripeRefusal(400, "amount_too_large", f"Amount must be no more than {_AMOUNT_MAX}.")
        amount = each * (many or 1)
        return {
            "id": new_id("li"),
            "object": "item",
            "amount_discount": 0,
            "amount_subtotal": amount,
            "amount_tax": 0,
            "amount_total": amount,
            "currency": price["currency"],
            "description": price.get("product_data", {}).get("name"),
            "price": None,
            "quantity": many or 1,
        }

    def _buyer_of(self, form: Form) -> dict[str, str | None]:
        names = ("customer", "customer_email", "customer_creation", "client_reference_id")
        given: dict[str, str | None] = {name: form.get(name) for name in names}
        if given["customer"]:
            self._customers.named(given["customer"])
            if given["customer_email"] or given["customer_creation"]:
                said = "You may only specify one of these parameters: customer, customer_email, customer_creation."
                raise StripeRefusal(400, None, said, param="customer")
        elif "customer_update" in form:
            said = "`customer_update` can only be used with `customer`."
            raise StripeRefusal(400, None, said, param="customer_update")
        elif one_of(form, "customer_creation", "always", "if_required") is None:
            given["customer_creation"] = "if_required"
        if len(given["client_reference_id"] or "") > _REFERENCE_MAX:
            raise bad_form("parameter_invalid_string", "At most 200 characters.", "client_reference_id")
        return given

    def _check_taxable(self, form: Form) -> None:
        known = self._record.find("customer", form.get("customer"))
        if known is not None and not known["address"] and form.get("customer_update", {}).get("address") != "auto":
            said = (
                "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address "
                "to the Customer or set either `customer_update[address]` to 'auto'."
            )
            raise StripeRefusal(400, "customer_tax_location_invalid", said)

    def _expires_at(self, form: Form) -> int:
        now = self._record.now
        at = whole(form, "expires_at")
        if at is None:
            return now + _SESSION_SECONDS_MAX
        if not now + _SESSION_SECONDS_MIN - _CLOCKS_APART <= at <= now + _SESSION_SECONDS_MAX + _CLOCKS_APART:
            said = "The `expires_at` timestamp must be from 30 minutes to 24 hours from Checkout Session creation."
            raise bad_form("parameter_invalid_integer", said, "expires_at")
        return at

    def expire_now(self, _: Form, session_id: str) -> StripeObject:
        """Ends an open session."""
        self.expire_due()
        session = self._record.get("checkout.session", session_id)
        if session["status"] != "open":
            said = f"Only Checkout Sessions with a status of open can be expired; this one is {session['status']}."
            raise StripeRefusal(400, None, said)
        self._expire(session)
        return session

    def _expire(self, session: StripeObject) -> None:
        session.update(status="expired", url=None)
        self._record.tell("checkout.session.expired", session)

    def expire_due(self) -> None:
        """Ends the sessions whose time is over."""
        for session in reversed(self._record.of("checkout.session", status="open")):
            if session["expires_at"] <= self._record.now:
                self._expire(session)

    def keeps_card(self, session_id: str) -> bool:
        """Whether the card that pays a session is kept."""
        return bool(self._intents_asked.get(session_id, {}).get("setup_future_usage"))

    def open(self, session_id: str) -> StripeObject:
        """A session that can be paid.

        Raises:
            StripeRefusal: there is none, or it is over.

        """
        self.expire_due()
        session = self._record.get("checkout.session", session_id)
        if session["status"] != "open":
            raise StripeRefusal(400, None, f"This session is {session['status']}.")
        return session

    def price(self, session: StripeObject, discount: int, tax: int) -> None:
        """Sets the total: the subtotal less a promotion code's discount, and tax on top.

        Raises:
            StripeRefusal: the session takes no promotion codes, or has no automatic tax.

        """
        if discount and not session["allow_promotion_codes"]:
            raise StripeRefusal(400, None, "This session takes no promotion codes.")
        if tax and not session["automatic_tax"]["enabled"]:
            raise StripeRefusal(400, None, "This session has no automatic tax.")
        subtotal: int = session["amount_subtotal"]
        discount = min(discount, subtotal)
        session["amount_total"] = subtotal - discount + tax
        session["total_details"].update(amount_discount=discount, amount_tax=tax)
        session["discounts"] = [{"coupon": None, "promotion_code": new_id("promo")}] if discount else None
        if session["automatic_tax"]["enabled"]:
            session["automatic_tax"]["status"] = "complete"

    def pay(self, session: StripeObject, card: Card | None, email: str) -> None:
        """Pays a session by card, or by a bank debit where it is None.

        Raises:
            StripeRefusal: the card is declined, and the session stays open.

        """
        email = self._email(session, email)
        if session["amount_total"] == 0:
            self._complete(session, email, "no_payment_required")
            return
        decline = card.at_checkout if card else None
        asked = self._intents_asked.get(session["id"], {})
        later = asked.get("setup_future_usage")
        customer_id = session["customer"]
        if decline is None and customer_id is None and (later or session["customer_creation"] == "always"):
            customer_id = self._customers.add(email=email)["id"]
        intent = self._intent(session, asked, customer_id)
        if card and card.set_up_once and later == "off_session":
            card = replace(card, off_session=None)
        method = self._payments.method(card, email, customer_id if later and decline is None else None)
        session["payment_intent"] = intent["id"]
        if card is None:
            self._payments.debit(intent, method)
        elif decline is not None:
            made = self._payments.attempt(intent, method, decline)
            raise self._payments.declined(decline, intent, made["id"], method)
        else:
            self._payments.attempt(intent, method, None)
        session["customer"] = customer_id
        self._complete(session, email, "paid" if card else "unpaid")

    def _email(self, session: StripeObject, email: str) -> str:
        known = self._record.find("customer", session["customer"])
        return str((known or {}).get("email") or session["customer_email"] or email)

    def _intent(self, session: StripeObject, asked: Form, customer_id: str | None) -> StripeObject:
        fields = {"amount": session["amount_total"], "customer": customer_id}
        intent = self._record.find("payment_intent", session["payment_intent"])
        if intent is not None:
            intent.update(fields)
            return intent
        return self._payments.intent(
            **fields,
            currency=session["currency"],
            metadata=dict(asked.get("metadata", {})),
            description=asked.get("description"),
            setup_future_usage=asked.get("setup_future_usage"),
        )

    def _complete(self, session: StripeObject, email: str, payment_status: str) -> None:
        session.update(
            status="complete", payment_status=payment_status, url=None, customer_details=customer_details(email)
        )
        self._record.tell("checkout.session.completed", session)

    def settle(self, id: str, *, arrives: bool) -> StripeObject:
        """The money of a bank debit arrives, or it does not: of a session, or of a payment, with its session if any.

        Raises:
            StripeRefusal: it waits for none.

        """
        found = self._record.any(id) or {}
        intent = self._record.find("payment_intent", found.get("payment_intent") or id)
        if intent is None or intent["status"] != "processing":
            raise StripeRefusal(400, None, "This payment waits for no money.")
        made = self._record.get("charge", intent["latest_charge"])
        if arrives:
            self._payments.succeed(intent, made)
        else:
            self._payments.fail(intent, made)
        for session in self._record.of("checkout.session", payment_intent=intent["id"]):
            session["payment_status"] = "paid" if arrives else "unpaid"
            kind = "succeeded" if arrives else "failed"
            self._record.tell(f"checkout.session.async_payment_{kind}", session)
        return found
