"""Stripe's signature: what it must be, over which bytes, and how old."""

import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.stripe_stand_in import WEBHOOK_SECRET, StripeStandIn, deliver, event
from serving import ServerProcess, balance, error_of

from app.errors import InvalidRequest
from app.payments.signing import check_signature

NOW = 1_800_000_000
YEARS = 10 * 365 * 86_400


def signed(payload: bytes, secret: str = WEBHOOK_SECRET, at: int | None = None) -> str:
    at = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def refused(payload: bytes, header: str | None, now: int = NOW) -> bool:
    try:
        check_signature(payload, header, (WEBHOOK_SECRET,), now, 300)
    except InvalidRequest:
        return True
    return False


@pytest.mark.parametrize("secret", ["whsec_other", WEBHOOK_SECRET + "x", ""])
def test_a_forged_webhook_is_refused_and_grants_nothing(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn, secret: str
) -> None:
    payload = json.dumps(event("checkout.session.completed", stripe.pay(bought["id"]))).encode()
    answer = deliver(server, payload, signature=signed(payload, secret))
    assert error_of(answer, 400, "invalid_request")["field"] == "Stripe-Signature"
    assert balance(api, customer) == 100


@pytest.mark.parametrize("seconds", [-3600, -301, 310, 3600, YEARS])
def test_a_webhook_of_another_time_is_refused(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn, seconds: int
) -> None:
    payload = json.dumps(event("checkout.session.completed", stripe.pay(bought["id"]))).encode()
    error_of(deliver(server, payload, signature=signed(payload, at=int(time.time()) + seconds)), 400, "invalid_request")
    assert balance(api, customer) == 100


def test_a_webhook_is_taken_with_an_older_secrets_signature_beside_ours(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    payload = json.dumps(event("checkout.session.completed", stripe.pay(bought["id"]))).encode()
    stamp, ours = signed(payload).split(",")
    deliver(server, payload, signature=f"{stamp},v1={'0' * 64},{ours},v0=old")
    assert balance(api, customer) == 600


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"t=1",
        b"v1=" + b"0" * 64,
        "t=1,v1=é".encode("latin-1"),
        "t=\u0661,v1=0".encode(),
        b"t=" + b"9" * 5000 + b",v1=" + b"0" * 64,
        b"t=1,t=2,v1=" + b"0" * 64,
        b",,,===",
        b"t=nan,v1=" + b"0" * 64,
    ],
    ids=range(10),
)
def test_a_header_that_is_no_signature_is_a_400(server: ServerProcess, header: bytes | None) -> None:
    error_of(deliver(server, b"{}", signature=header), 400, "invalid_request")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"id": "evt_1", "type": "x"}',
        b'{"id": "evt_1", "type": 7, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "checkout.session.completed", "data": {"object": []}}',
        b'{"id": "evt_1", "type": "checkout.session.completed", "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "checkout.session.completed", "data": {"object": {"id": "c", "metadata": [1]}}}',
        b"[" * 100_000,
        b'{"id": "\\ud800"}',
    ],
    ids=range(12),
)
def test_a_signed_body_that_is_no_event_is_a_400(server: ServerProcess, payload: bytes) -> None:
    error_of(deliver(server, payload), 400, "invalid_request")


@given(payload=st.binary(max_size=200), age=st.integers(-300, 300))
def test_every_signature_of_ours_within_five_minutes_passes(payload: bytes, age: int) -> None:
    assert not refused(payload, signed(payload, at=NOW - age))


@given(payload=st.binary(max_size=200), age=st.integers(301, YEARS), future=st.booleans())
def test_no_signature_beyond_five_minutes_passes(payload: bytes, age: int, *, future: bool) -> None:
    assert refused(payload, signed(payload, at=NOW + age if future else NOW - age))


@given(payload=st.binary(max_size=200), position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_changed_body_passes(payload: bytes, position: int, bit: int) -> None:
    changed = bytearray(payload or b"x")
    changed[position % len(changed)] ^= 1 << bit
    assert refused(bytes(changed), signed(payload or b"x", at=NOW))


@given(header=st.none() | st.text(max_size=300) | st.from_regex(r"t=\d{1,13},v1=[0-9a-f]{60,66}", fullmatch=True))
def test_no_made_up_header_passes_or_fails_otherwise(header: str | None) -> None:
    assert refused(b"{}", header)


@given(secret=st.text(min_size=1, max_size=50).filter(lambda text: text != WEBHOOK_SECRET and text.isascii()))
def test_no_other_secret_passes(secret: str) -> None:
    assert refused(b"{}", signed(b"{}", secret, NOW))
