"""Stripe's objects with all their fields, nulls and all: what the sandbox and the tests' stand-in answer with.

Each builder gives an object as it is when nothing is known of it but what is passed. Amounts are in minor units, times
in seconds since 1970.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

StripeObject = dict[str, Any]

API_VERSION: Final = "2026-10-28.endive"
"""The version whose shapes these are, and that events name."""
EVIDENCE_DAYS: Final = 9
_DAY_SECONDS: Final = 86_400
_DISPUTE_FEE: Final = 1_500


def new_id(prefix: str) -> str:
    """An id as Stripe makes them: `pi_…`."""
    return f"{prefix}_{secrets.token_hex(12)}"


def list_of(data: Iterable[StripeObject], url: str, *, has_more: bool = False) -> StripeObject:
    """A page of a list."""
    return {"object": "list", "url": url, "has_more": has_more, "data": list(data)}


def checkout_session(**fields: Any) -> StripeObject:
    """A Checkout session that was opened and not paid."""
    nulls = (
        "after_expiration",
        "allow_promotion_codes",
        "amount_subtotal",
        "amount_total",
        "billing_address_collection",
        "cancel_url",
        "client_reference_id",
        "client_secret",
        "collected_information",
        "consent",
        "consent_collection",
        "currency",
        "currency_conversion",
        "customer",
        "customer_account",
        "customer_creation",
        "customer_details",
        "customer_email",
        "discounts",
        "integration_identifier",
        "invoice",
        "invoice_creation",
        "locale",
        "origin_context",
        "payment_intent",
        "payment_link",
        "payment_method_collection",
        "payment_method_configuration_details",
        "permissions",
        "recovered_from",
        "saved_payment_method_options",
        "setup_intent",
        "shipping_address_collection",
        "shipping_cost",
        "submit_type",
        "subscription",
        "success_url",
        "ui_mode",
        "url",
        "wallet_options",
    )
    return {
        "object": "checkout.session",
        **dict.fromkeys(nulls),
        "adaptive_pricing": {"enabled": False},
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": {},
        "mode": "payment",
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        **fields,
    }


def address() -> StripeObject:
    """An address of which nothing is known."""
    return dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def billing_details(email: str | None = None) -> StripeObject:
    """Whom a payment names."""
    return {"address": address(), "email": email, "name": None, "phone": None, "tax_id": None}


def customer_details(email: str) -> StripeObject:
    """What a buyer typed on the checkout's page."""
    return {
        "address": address(),
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": None,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def customer(**fields: Any) -> StripeObject:
    """A customer who has paid nothing yet."""
    nulls = ("address", "currency", "default_source", "description", "discount", "email", "name", "phone", "shipping")
    return {
        "object": "customer",
        **dict.fromkeys(nulls),
        "balance": 0,
        "delinquent": False,
        "invoice_prefix": secrets.token_hex(4).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
        "test_clock": None,
        **fields,
    }


def payment_method(**fields: Any) -> StripeObject:
    """A card; `card` takes the last four digits' details."""
    return {
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing_details(),
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
        **fields,
    }


def card_details(last4: str) -> StripeObject:
    """The card of a payment method."""
    return {
        "brand": "visa",
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": "visa",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"sandbox{last4}",
        "funding": "credit",
        "generated_from": None,
        "last4": last4,
        "networks": {"available": ["visa"], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def bank_details() -> StripeObject:
    """The bank account of a payment method: a debit, whose money comes days later."""
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": "sandboxbank",
        "last4": "6789",
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {},
    }


def payment_intent(**fields: Any) -> StripeObject:
    """A payment that nobody has tried yet."""
    nulls = (
        "application",
        "application_fee_amount",
        "automatic_payment_methods",
        "canceled_at",
        "cancellation_reason",
        "customer",
        "customer_account",
        "description",
        "excluded_payment_method_types",
        "last_payment_error",
        "latest_charge",
        "next_action",
        "on_behalf_of",
        "payment_method",
        "payment_method_configuration_details",
        "processing",
        "receipt_email",
        "review",
        "setup_future_usage",
        "shipping",
        "source",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_data",
        "transfer_group",
    )
    return {
        "object": "payment_intent",
        **dict.fromkeys(nulls),
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "capture_method": "automatic_async",
        "client_secret": f"{fields['id']}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": {},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        **fields,
    }


def charge(**fields: Any) -> StripeObject:
    """A charge that succeeded."""
    nulls = (
        "application",
        "application_fee",
        "application_fee_amount",
        "balance_transaction",
        "calculated_statement_descriptor",
        "customer",
        "description",
        "failure_balance_transaction",
        "failure_code",
        "failure_message",
        "on_behalf_of",
        "payment_intent",
        "payment_method",
        "receipt_email",
        "receipt_number",
        "receipt_url",
        "review",
        "shipping",
        "source",
        "source_transfer",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_data",
        "transfer_group",
    )
    return {
        "object": "charge",
        **dict.fromkeys(nulls),
        "amount_captured": 0,
        "amount_refunded": 0,
        "billing_details": billing_details(),
        "captured": True,
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "outcome": outcome("authorized", "approved_by_network", "Payment complete."),
        "paid": True,
        "payment_method_details": None,
        "refunded": False,
        "status": "succeeded",
        **fields,
    }


def outcome(kind: str, network_status: str, message: str, reason: str | None = None) -> StripeObject:
    """What the network said of a charge."""
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network_status,
        "reason": reason,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": message,
        "type": kind,
    }


def charged_card(card: Mapping[str, Any], amount: int) -> StripeObject:
    """The `payment_method_details` of a charge to a card."""
    kept = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    unavailable = ("incremental_authorization", "multicapture")
    nulls = ("authorization_code", "installments", "mandate", "network_transaction_id", "transaction_link_id", "wallet")
    return {
        "card": {
            **{name: card[name] for name in kept},
            **dict.fromkeys(nulls),
            **{name: {"status": "unavailable"} for name in unavailable},
            "amount_authorized": amount,
            "extended_authorization": {"status": "disabled"},
            "network": "visa",
            "network_token": {"used": False},
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
            "regulated_status": card["regulated_status"],
            "three_d_secure": None,
        },
        "type": "card",
    }


def charged_bank(bank: Mapping[str, Any]) -> StripeObject:
    """The `payment_method_details` of a debit from a bank account."""
    kept = ("account_holder_type", "account_type", "bank_name", "fingerprint", "last4", "routing_number")
    details = {name: bank[name] for name in kept}
    return {
        "type": "us_bank_account",
        "us_bank_account": {**details, "expected_debit_date": None, "mandate": None, "payment_reference": None},
    }


def refund(**fields: Any) -> StripeObject:
    """A refund that is done."""
    nulls = (
        "balance_transaction",
        "customer",
        "customer_account",
        "payment_intent",
        "payment_method",
        "reason",
        "receipt_number",
        "source_transfer_reversal",
        "transfer_reversal",
    )
    return {
        "object": "refund",
        **dict.fromkeys(nulls),
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": {},
        "status": "succeeded",
        **fields,
    }


_EVIDENCE: Final = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)


def dispute(*, inquiry: bool, **fields: Any) -> StripeObject:
    """A dispute that waits for an answer; an inquiry has taken no money yet."""
    return {
        "object": "dispute",
        "balance_transactions": [],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": fields["created"] + EVIDENCE_DAYS * _DAY_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": None,
        "payment_method_details": {
            "card": {
                "brand": "visa",
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": "visa",
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "warning_needs_response" if inquiry else "needs_response",
        **fields,
    }


def disputed_funds(charge_id: str, amount: int, currency: str, now: int) -> StripeObject:
    """The balance transaction of a dispute: what was taken, below 0, or given back."""
    fee = _DISPUTE_FEE if amount < 0 else 0
    return {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": now,
        "balance_type": "payments",
        "created": now,
        "currency": currency,
        "description": f"Chargeback {'withdrawal' if amount < 0 else 'reversal'} for {charge_id}",
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [],
        "net": amount - fee,
        "reporting_category": "dispute" if amount < 0 else "dispute_reversal",
        "source": charge_id,
        "status": "available",
        "type": "adjustment",
    }


def invoice(**fields: Any) -> StripeObject:
    """An invoice of a subscription, still a draft. `amount_due` and `period_start` are among what it needs."""
    nulls = (
        "account_name",
        "account_tax_ids",
        "application",
        "automatically_finalizes_at",
        "custom_fields",
        "customer_account",
        "customer_address",
        "customer_email",
        "customer_name",
        "customer_phone",
        "customer_shipping",
        "default_payment_method",
        "default_source",
        "description",
        "due_date",
        "effective_at",
        "ending_balance",
        "footer",
        "from_invoice",
        "hosted_invoice_url",
        "invoice_pdf",
        "last_finalization_error",
        "latest_revision",
        "next_payment_attempt",
        "number",
        "on_behalf_of",
        "parent",
        "receipt_number",
        "rendering",
        "shipping_cost",
        "shipping_details",
        "statement_descriptor",
        "test_clock",
        "total_pretax_credit_amounts",
        "webhooks_delivered_at",
    )
    amount = fields["amount_due"]
    totals = ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax")
    return {
        "object": "invoice",
        **dict.fromkeys(nulls),
        **dict.fromkeys(totals, amount),
        "account_country": "US",
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": amount,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "billing_reason": "subscription_cycle",
        "collection_method": "charge_automatically",
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "livemode": False,
        "metadata": {},
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "total_discount_amounts": [],
        "total_taxes": [],
        **fields,
    }


def invoice_line(
    *, price: str, subscription: str, proration: bool = False, unit_amount: int | None = None, **fields: Any
) -> StripeObject:
    """One line of a subscription's invoice. `amount` and `quantity` are among what it needs."""
    each = fields["amount"] // fields["quantity"] if unit_amount is None else unit_amount
    return {
        "object": "line_item",
        "description": f"{fields['quantity']} × {price}",
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": subscription,
                "subscription_item": new_id("si"),
            },
            "type": "subscription_item_details",
        },
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price, "product": f"prod_of_{price}"},
            "type": "price_details",
            "unit_amount_decimal": str(each),
        },
        "quantity_decimal": str(fields["quantity"]),
        "subscription": subscription,
        "subtotal": fields["amount"],
        "taxes": [],
        **fields,
    }


def invoice_payment(**fields: Any) -> StripeObject:
    """Which payment paid an invoice."""
    return {"object": "invoice_payment", "is_default": True, "livemode": False, "status": "paid", **fields}


def event(**fields: Any) -> StripeObject:
    """An event, not delivered to anybody yet. `type` and `data` are among what it needs."""
    return {
        "object": "event",
        "api_version": API_VERSION,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        **fields,
    }
