"""The parameters that Stripe knows, at every depth, as the installed `stripe` package types them."""

import importlib
import sys
from functools import cache
from typing import Any, ForwardRef, get_args

from stripe import RequestOptions

from app.demo.stripe_parameters import Form, bracketed

_CLASSES = {
    ("POST", "checkout/sessions"): "checkout.SessionCreateParams",
    ("GET", "checkout/sessions"): "checkout.SessionListParams",
    ("GET", "checkout/sessions/*"): "checkout.SessionRetrieveParams",
    ("POST", "checkout/sessions/*/expire"): "checkout.SessionExpireParams",
    ("POST", "customers"): "CustomerCreateParams",
    ("POST", "customers/*"): "CustomerUpdateParams",
    ("GET", "customers"): "CustomerListParams",
    ("GET", "customers/*"): "CustomerRetrieveParams",
    ("POST", "payment_intents"): "PaymentIntentCreateParams",
    ("GET", "payment_intents"): "PaymentIntentListParams",
    ("GET", "payment_intents/*"): "PaymentIntentRetrieveParams",
    ("POST", "payment_intents/*/cancel"): "PaymentIntentCancelParams",
    ("GET", "payment_methods"): "PaymentMethodListParams",
    ("GET", "payment_methods/*"): "PaymentMethodRetrieveParams",
    ("GET", "charges"): "ChargeListParams",
    ("GET", "charges/*"): "ChargeRetrieveParams",
    ("POST", "refunds"): "RefundCreateParams",
    ("GET", "refunds"): "RefundListParams",
    ("GET", "refunds/*"): "RefundRetrieveParams",
    ("GET", "disputes"): "DisputeListParams",
    ("GET", "disputes/*"): "DisputeRetrieveParams",
    ("GET", "prices"): "PriceListParams",
    ("GET", "prices/*"): "PriceRetrieveParams",
    ("GET", "invoices"): "InvoiceListParams",
    ("GET", "invoices/*"): "InvoiceRetrieveParams",
    ("GET", "invoice_payments"): "InvoicePaymentListParams",
    ("GET", "invoice_payments/*"): "InvoicePaymentRetrieveParams",
    ("GET", "events"): "EventListParams",
    ("GET", "events/*"): "EventRetrieveParams",
}


def unknown_to_stripe(method: str, pattern: str, form: Form) -> str | None:
    """The first parameter that the package's types of a call do not name, or None."""
    module, _, name = f"stripe.params.{_CLASSES[method, pattern]}".rpartition(".")
    return _unknown(form, getattr(importlib.import_module(module), name), ())


def _unknown(form: Form, kind: Any, path: tuple[str, ...]) -> str | None:
    known = parameters(kind)
    for name, value in form.items():
        here = (*path, name)
        if name not in known:
            return bracketed(here)
        found = _unknown_value(value, known[name], here)
        if found:
            return found
    return None


def _unknown_value(value: Any, shapes: list[Any], path: tuple[str, ...]) -> str | None:
    """Looks into a value by whatever of its shapes knows it best."""
    tried = [_unknown_of_shape(value, shape, path) for shape in shapes]
    return None if None in tried else next(iter(tried), bracketed(path))


def _unknown_of_shape(value: Any, shape: Any, path: tuple[str, ...]) -> str | None:
    if getattr(shape, "__origin__", None) is list:
        if not isinstance(value, dict) or not all(index.isdecimal() for index in value):
            return bracketed(path)
        [inner] = get_args(shape)
        found = (_unknown_value(one, shapes_of(inner), (*path, index)) for index, one in value.items())
        return next(filter(None, found), None)
    if getattr(shape, "__origin__", None) is dict or "UntypedStripeObject" in str(shape):
        flat = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
        return None if flat else bracketed(path)
    if isinstance(shape, type) and hasattr(shape, "__total__"):
        return _unknown(value, shape, path) if isinstance(value, dict) else bracketed(path)
    return bracketed(path) if isinstance(value, dict) else None


@cache
def parameters(kind: Any) -> dict[str, list[Any]]:
    """The shapes of each parameter of a typed dict, without the options of a request that it inherits."""
    scope = vars(sys.modules[kind.__module__])
    mine = {name: hint for name, hint in kind.__annotations__.items() if name not in RequestOptions.__annotations__}
    return {name: shapes_of(_evaluated(hint, scope), scope) for name, hint in mine.items()}


def shapes_of(hint: Any, scope: dict[str, Any] | None = None) -> list[Any]:
    """What a hint allows: NotRequired, unions and forward references taken apart."""
    hint = _evaluated(hint, scope or {})
    origin = getattr(hint, "__origin__", None)
    if str(origin).endswith("NotRequired") or "Union" in f"{origin}{type(hint)}":
        return [shape for one in get_args(hint) for shape in shapes_of(one, scope)]
    if origin is list:
        [inner] = get_args(hint)
        return [list[_Any(shapes_of(inner, scope))]]  # type: ignore[misc]
    return list(hint.shapes) if isinstance(hint, _Any) else [hint]


class _Any:
    """The shapes of a list's values, which `list[…]` takes as it takes a type."""

    def __init__(self, shapes: list[Any]) -> None:
        self.shapes = tuple(shapes)


def _evaluated(hint: Any, scope: dict[str, Any]) -> Any:
    if isinstance(hint, ForwardRef):
        hint = hint.__forward_arg__
    return eval(hint, scope) if isinstance(hint, str) else hint
