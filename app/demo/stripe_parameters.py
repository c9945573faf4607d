"""The parameters that Chargly sends to Stripe. Others the sandbox does not understand and refuses, as Stripe does."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from app.demo.stripe_refusal import bad_form

Form = dict[str, Any]
"""Stripe's form encoding, `a[b][0]=c`, as nested dicts; lists are dicts by index."""

_CREATED: Final = tuple(f"created.{by}" for by in ("gt", "gte", "lt", "lte"))
_PAGE: Final = ("limit", "starting_after", "ending_before", "created", *_CREATED)
_READ: Final = ("expand.*",)
_SESSION: Final = (
    "mode",
    "customer",
    "customer_email",
    "customer_creation",
    *(f"customer_update.{name}" for name in ("address", "name", "shipping")),
    "client_reference_id",
    "allow_promotion_codes",
    "automatic_tax.enabled",
    "tax_id_collection.enabled",
    "billing_address_collection",
    "invoice_creation.enabled",
    "line_items.*.quantity",
    *(f"line_items.*.price_data.{name}" for name in ("currency", "unit_amount", "tax_behavior")),
    *(f"line_items.*.price_data.product_data.{name}" for name in ("name", "description", "tax_code", "metadata.*")),
    "metadata.*",
    *(f"payment_intent_data.{name}" for name in ("metadata.*", "setup_future_usage", "description")),
    "saved_payment_method_options.payment_method_save",
    "submit_type",
    "success_url",
    "cancel_url",
    "expires_at",
    "locale",
)
_INTENT: Final = (
    "amount",
    "currency",
    "customer",
    "payment_method",
    "automatic_payment_methods.enabled",
    "automatic_payment_methods.allow_redirects",
    "confirm",
    "off_session",
    "error_on_requires_action",
    "description",
    "metadata.*",
    "receipt_email",
    "setup_future_usage",
    "statement_descriptor_suffix",
)
_CUSTOMER: Final = ("email", "name", "description", "metadata.*", "preferred_locales.*")
_BOTH: Final = ("payment_intent", "charge")

_KNOWN: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("POST", "checkout/sessions"): _SESSION,
    ("GET", "checkout/sessions"): (*_PAGE, "payment_intent", "customer", "status"),
    ("POST", "customers"): _CUSTOMER,
    ("POST", "customers/*"): _CUSTOMER,
    ("GET", "customers"): (*_PAGE, "email"),
    ("POST", "payment_intents"): _INTENT,
    ("GET", "payment_intents"): (*_PAGE, "customer"),
    ("POST", "payment_intents/*/cancel"): ("cancellation_reason",),
    ("GET", "payment_methods"): (*_PAGE[:3], "customer", "type"),
    ("GET", "charges"): (*_PAGE, "payment_intent", "customer"),
    ("POST", "refunds"): (*_BOTH, "amount", "reason", "metadata.*"),
    ("GET", "refunds"): (*_PAGE, *_BOTH),
    ("GET", "disputes"): (*_PAGE, *_BOTH),
    ("GET", "invoices"): (*_PAGE, "customer", "status", "subscription"),
    ("GET", "invoice_payments"): (*_PAGE, "invoice", "status", "payment.type", "payment.payment_intent"),
    ("GET", "events"): (*_PAGE, "type", "types.*"),
}
REQUIRED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("POST", "checkout/sessions"): (
        "mode",
        "line_items.0.price_data.currency",
        "line_items.0.price_data.unit_amount",
        "line_items.0.price_data.product_data.name",
        "success_url",
    ),
    ("POST", "payment_intents"): ("amount", "currency"),
}
_WHOLE: Final = re.compile(r"[0-9]{1,15}\Z")
_METADATA_MAX: Final = (50, 40, 500)
"""How many there may be, and how many characters of a name and of a value."""


def unflatten(pairs: Sequence[tuple[str, str]]) -> Form:
    """A form's pairs as nested dicts; `a[]=b` counts up as `a[0]=b` does.

    Raises:
        StripeRefusal: a name is empty, or one is a value here and a folder there.

    """
    root: Form = {}
    for name, value in pairs:
        *folders, last = re.findall(r"[^\[\]]+", name.replace("[]", "[+]")) or [""]
        node: Any = root
        for folder in folders:
            node = node.setdefault(folder, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or not last:
            raise bad_form("parameter_invalid_empty", "Invalid form.", name)
        node[str(len(node)) if last == "+" else last] = value
    return root


def bracketed(path: Sequence[str]) -> str:
    """A parameter as Stripe calls it: `line_items[0][quantity]`."""
    return path[0] + "".join(f"[{part}]" for part in path[1:])


def leaves(form: Form, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value of a form with its path."""
    for name, value in form.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def unknown_parameter(method: str, pattern: str, form: Form) -> str | None:
    """The first parameter that a call does not know, as Stripe calls it; `pattern` is `payment_intents/*/cancel`."""
    known = [one.split(".") for one in (*_KNOWN.get((method, pattern), ()), *_READ)]
    for path, _ in leaves(form):
        if not any(len(one) == len(path) and all(map(_fits, one, path)) for one in known):
            return bracketed(path)
    return None


def _fits(known: str, part: str) -> bool:
    return known in ("*", part)


def check_required(method: str, pattern: str, form: Form) -> None:
    """Raises StripeRefusal where a call lacks what it cannot do without."""
    for path in REQUIRED.get((method, pattern), ()):
        node: Any = form
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, str) or not node:
            name = bracketed(path.split("."))
            raise bad_form("parameter_missing", f"Missing required param: {name}.", name)


def check_metadata(form: Form, at: str = "metadata") -> dict[str, str]:
    """The metadata of a form, within Stripe's limits.

    Raises:
        StripeRefusal: there is too much of it.

    """
    metadata: dict[str, str] = form.get("metadata") or {}
    many, name_max, value_max = _METADATA_MAX
    too_long = [name for name, value in metadata.items() if len(name) > name_max or len(value) > value_max]
    if len(metadata) > many or too_long:
        raise bad_form("parameter_invalid_string", f"Metadata is limited: {_METADATA_MAX}.", f"{at}[{too_long or ''}]")
    return dict(metadata)


def whole(form: Form, name: str, *, least: int = 0) -> int | None:
    """A whole number of a form, or None where it is not given.

    Raises:
        StripeRefusal: it is no whole number, or less than `least`.

    """
    given = form.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or not _WHOLE.match(given):
        raise bad_form("parameter_invalid_integer", f"Invalid integer: {given}", name)
    if int(given) < least:
        raise bad_form("parameter_invalid_integer", f"This value must be greater than or equal to {least}.", name)
    return int(given)


def yes(form: Form, name: str) -> bool:
    """Whether a form says `true`.

    Raises:
        StripeRefusal: it says neither `true` nor `false`.

    """
    given = form.get(name, "false")
    if given not in ("true", "false"):
        raise bad_form("parameter_invalid_boolean", f"Invalid boolean: {given}", name)
    return bool(given == "true")


def one_of(form: Form, name: str, *allowed: str) -> str | None:
    """One of the values that a parameter may have, or None where it is not given.

    Raises:
        StripeRefusal: it is none of them.

    """
    given = form.get(name)
    if given is not None and given not in allowed:
        raise bad_form("parameter_invalid_value", f"Invalid {name}: must be one of {', '.join(allowed)}", name)
    return given
