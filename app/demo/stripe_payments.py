"""What becomes of money at Stripe: a payment is tried, refunded and disputed, and each step makes its events."""

import copy
from collections import OrderedDict
from typing import Any, Final

from app.demo.stripe_cards import BANK_DEBIT_FAILED, Card, Decline
from app.demo.stripe_objects import (
    StripeObject,
    bank_details,
    billing_details,
    card_details,
    charge,
    charged_bank,
    charged_card,
    dispute,
    disputed_funds,
    new_id,
    outcome,
    payment_intent,
    payment_method,
    refund,
)
from app.demo.stripe_record import Record
from app.demo.stripe_refusal import StripeRefusal, unexpected_state

_CANCELABLE: Final = ("requires_payment_method", "requires_confirmation", "requires_action", "processing")
_OVER: Final = ("won", "lost", "warning_closed")


class Payments:
    """Payments, refunds and disputes of one account."""

    def __init__(self, record: Record, kept_max: int) -> None:
        self._record = record
        self._kept_max = kept_max
        self.cards: OrderedDict[str, Card] = OrderedDict()
        """How the card of a payment method behaves; a bank account has none."""

    def method(self, card: Card | None, email: str | None, customer_id: str | None) -> StripeObject:
        """A payment method: a card, or a bank account where it is None."""
        details = {"card": card_details(card.last4)} if card else {"us_bank_account": bank_details()}
        made = payment_method(
            id=new_id("pm"),
            created=self._record.now,
            billing_details=billing_details(email),
            type=next(iter(details)),
            **details,
        )
        self._record.add(made)
        if card is not None:
            self.cards[made["id"]] = card
            if len(self.cards) > self._kept_max:
                self.cards.popitem(last=False)
        if customer_id is not None:
            made["customer"] = customer_id
            self._record.tell("payment_method.attached", made)
        return made

    def intent(self, amount: int, currency: str, **fields: Any) -> StripeObject:
        """A payment to try; it has a new id unless one is given."""
        fields = {"id": new_id("pi"), "created": self._record.now, **fields}
        made = payment_intent(amount=amount, currency=currency, **fields)
        self._record.add(made)
        self._record.tell("payment_intent.created", made)
        return made

    def attempt(self, intent: StripeObject, method: StripeObject, decline: Decline | None) -> StripeObject:
        """Tries a payment, and returns the charge: it succeeded or failed."""
        made = self._charge(intent, method)
        if decline is None:
            self.succeed(intent, made)
        else:
            self.fail(intent, made, decline)
        return made

    def debit(self, intent: StripeObject, method: StripeObject) -> None:
        """Asks a bank for money that comes, or does not, days later."""
        made = self._charge(intent, method, status="pending", paid=False)
        intent["status"] = "processing"
        self._record.tell("payment_intent.processing", intent)
        self._record.tell("charge.pending", made)

    def _charge(self, intent: StripeObject, method: StripeObject, **fields: Any) -> StripeObject:
        kind = method["type"]
        amount = intent["amount"]
        details = charged_card(method["card"], amount) if kind == "card" else charged_bank(method[kind])
        copied = ("amount", "currency", "customer", "description", "receipt_email")
        made = charge(
            id=new_id("ch"),
            created=self._record.now,
            **{name: intent[name] for name in copied},
            billing_details=copy.deepcopy(method["billing_details"]),
            metadata=dict(intent["metadata"]),
            payment_intent=intent["id"],
            payment_method=method["id"],
            payment_method_details=details,
            **fields,
        )
        intent.update(latest_charge=made["id"], payment_method=method["id"], last_payment_error=None)
        return self._record.add(made)

    def succeed(self, intent: StripeObject, made: StripeObject) -> None:
        """The money is there."""
        amount = intent["amount"]
        made.update(status="succeeded", paid=True, amount_captured=amount, balance_transaction=new_id("txn"))
        intent.update(status="succeeded", amount_received=amount)
        self._record.tell("charge.succeeded", made)
        self._record.tell("payment_intent.succeeded", intent)

    def fail(self, intent: StripeObject, made: StripeObject, decline: Decline = BANK_DEBIT_FAILED) -> None:
        """The bank does not pay; the payment waits for another way to pay."""
        made.update(
            status="failed",
            paid=False,
            captured=False,
            failure_code=decline.code,
            failure_message=decline.message,
            outcome=outcome("issuer_declined", "declined_by_network", decline.message, decline.decline_code or None),
        )
        method = self._record.find("payment_method", made["payment_method"])
        intent.update(
            status="requires_payment_method",
            payment_method=None,
            last_payment_error=self.error(decline, charge=made["id"], payment_method=copy.deepcopy(method)),
        )
        self._record.tell("charge.failed", made)
        self._record.tell("payment_intent.payment_failed", intent)

    @staticmethod
    def error(decline: Decline, **more: Any) -> dict[str, Any]:
        """A decline as an error of Stripe's."""
        refusal = StripeRefusal(402, decline.code, decline.message, **more)
        return refusal.error | ({"decline_code": decline.decline_code} if decline.decline_code else {})

    def declined(self, decline: Decline, intent: StripeObject, charge_id: str, method: StripeObject) -> StripeRefusal:
        """The refusal of a payment that was tried, with all that it names."""
        told = {"charge": charge_id, "payment_intent": copy.deepcopy(intent), "payment_method": copy.deepcopy(method)}
        refusal = StripeRefusal(402, decline.code, decline.message)
        refusal.error = self.error(decline, **told)
        return refusal

    def cancel(self, intent: StripeObject, reason: str | None) -> None:
        """Gives a payment up.

        Raises:
            StripeRefusal: it is over.

        """
        if intent["status"] not in _CANCELABLE:
            raise unexpected_state(
                "You cannot cancel this PaymentIntent because it has a status of "
                f"{intent['status']}. Only a PaymentIntent with one of the following statuses may be canceled: "
                f"{', '.join(_CANCELABLE)}.",
                payment_intent=copy.deepcopy(intent),
            )
        intent.update(status="canceled", canceled_at=self._record.now, cancellation_reason=reason, next_action=None)
        self._record.tell("payment_intent.canceled", intent)

    def refund(self, made: StripeObject, amount: int | None, *, pending: bool = False, **fields: Any) -> StripeObject:
        """Gives a charge's money back, all that is left of it unless an amount is given.

        Raises:
            StripeRefusal: there is no such money.

        """
        self._check_refundable(made, amount)
        was = {"amount_refunded": made["amount_refunded"], "refunded": made["refunded"]}
        given = made["amount"] - made["amount_refunded"] if amount is None else amount
        self._count(made, given)
        back = refund(
            id=new_id("re"),
            amount=given,
            balance_transaction=new_id("txn"),
            charge=made["id"],
            created=self._record.now,
            currency=made["currency"],
            payment_intent=made["payment_intent"],
            status="pending" if pending else "succeeded",
            **fields,
        )
        self._record.add(back)
        self._record.tell("charge.refunded", made, **was)
        self._record.tell("refund.created", back)
        return back

    def _check_refundable(self, made: StripeObject, amount: int | None) -> None:
        id, left = made["id"], made["amount"] - made["amount_refunded"]
        if made["status"] != "succeeded":
            raise StripeRefusal(400, "charge_not_refundable", f"Charge {id} has a status of {made['status']}.")
        disputes = self._record.of("dispute", charge=id)
        if any(not one["is_charge_refundable"] and one["status"] != "won" for one in disputes):
            raise StripeRefusal(
                400, "charge_disputed", f"Charge {id} has been charged back; cannot issue a refund.", param="charge"
            )
        if left == 0:
            raise StripeRefusal(400, "charge_already_refunded", f"Charge {id} has already been refunded.")
        if amount is not None and amount > left:
            of = "unrefunded amount on charge" if made["amount_refunded"] else "charge amount"
            said = f"Refund amount ({_money(amount)}) is greater than {of} ({_money(left)})"
            raise StripeRefusal(400, None, said, param="amount")

    @staticmethod
    def _count(made: StripeObject, given: int) -> None:
        made["amount_refunded"] += given
        made["refunded"] = made["amount_refunded"] == made["amount"]

    def settle(self, back: StripeObject) -> None:
        """A refund that was pending is done.

        Raises:
            StripeRefusal: it was not pending.

        """
        self._move(back, "succeeded", ("pending",))
        for kind in ("refund.updated", "charge.refund.updated"):
            self._record.tell(kind, back, status="pending")

    def fail_refund(self, back: StripeObject) -> None:
        """A refund comes back from the bank, and the charge counts it no more.

        Raises:
            StripeRefusal: it had failed before.

        """
        was = back["status"]
        self._move(back, "failed", ("pending", "succeeded"))
        back.update(failure_reason="expired_or_canceled_card", failure_balance_transaction=new_id("txn"))
        made = self._record.get("charge", back["charge"])
        before = {"amount_refunded": made["amount_refunded"], "refunded": made["refunded"]}
        self._count(made, -back["amount"])
        self._record.tell("refund.updated", back, status=was)
        self._record.tell("refund.failed", back)
        self._record.tell("charge.refund.updated", back, status=was)
        self._record.tell("charge.updated", made, **before)

    @staticmethod
    def _move(back: StripeObject, to: str, of: tuple[str, ...]) -> None:
        if back["status"] not in of:
            raise StripeRefusal(400, None, f"Refund {back['id']} has a status of {back['status']}.")
        back["status"] = to

    def dispute(
        self, made: StripeObject, amount: int | None, *, currency: str | None, inquiry: bool, reason: str
    ) -> StripeObject:
        """The buyer's bank wants money back, or asks first.

        Raises:
            StripeRefusal: the charge has not succeeded, or is disputed already.

        """
        if made["status"] != "succeeded" or made["disputed"]:
            raise StripeRefusal(400, None, f"Charge {made['id']} cannot be disputed now.")
        made["disputed"] = True
        opened = dispute(
            inquiry=inquiry,
            id=new_id("dp"),
            amount=made["amount"] if amount is None else amount,
            charge=made["id"],
            created=self._record.now,
            currency=currency or made["currency"],
            payment_intent=made["payment_intent"],
            reason=reason,
        )
        self._record.add(opened)
        if inquiry:
            self._record.tell("charge.dispute.created", opened)
            return opened
        self._move_funds(opened, -opened["amount"])
        self._record.tell("charge.dispute.created", opened)
        self._record.tell("charge.dispute.funds_withdrawn", opened)
        return opened

    def _move_funds(self, opened: StripeObject, amount: int) -> None:
        moved = disputed_funds(opened["charge"], amount, opened["currency"], self._record.now)
        opened["balance_transactions"].append(moved)

    def escalate(self, opened: StripeObject) -> None:
        """An inquiry becomes a dispute, and the money goes.

        Raises:
            StripeRefusal: it is no open inquiry.

        """
        was = opened["status"]
        if was != "warning_needs_response":
            raise StripeRefusal(400, None, f"Dispute {opened['id']} has a status of {was}.")
        opened.update(status="needs_response", is_charge_refundable=False)
        opened["payment_method_details"]["card"]["case_type"] = "chargeback"
        self._move_funds(opened, -opened["amount"])
        self._record.tell("charge.dispute.updated", opened, status=was)
        self._record.tell("charge.dispute.funds_withdrawn", opened)

    def win(self, opened: StripeObject) -> None:
        """The bank decides for us: what was taken comes back. An inquiry is closed without having taken anything.

        Raises:
            StripeRefusal: it is closed.

        """
        inquiry = opened["status"].startswith("warning")
        was = self._close(opened, "warning_closed" if inquiry else "won")
        if not inquiry:
            self._move_funds(opened, opened["amount"])
        self._record.tell("charge.dispute.closed", opened, status=was)
        if not inquiry:
            self._record.tell("charge.dispute.funds_reinstated", opened)

    def lose(self, opened: StripeObject) -> None:
        """The bank decides for the buyer. An inquiry is escalated first.

        Raises:
            StripeRefusal: it is closed.

        """
        if opened["status"] == "warning_needs_response":
            self.escalate(opened)
        was = self._close(opened, "lost")
        self._record.tell("charge.dispute.closed", opened, status=was)

    @staticmethod
    def _close(opened: StripeObject, status: str) -> str:
        was = str(opened["status"])
        if was in _OVER:
            raise StripeRefusal(400, None, f"Dispute {opened['id']} has a status of {was}.")
        opened["status"] = status
        return was


def _money(amount: int) -> str:
    return f"${amount / 100:,.2f}"
