"""A stand-in for Stripe: a real HTTP server that the real `stripe` package talks to, with sessions that can be paid."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

import httpx
from serving import ServerProcess

from app.demo.sandbox import checkout_session, signature, unflatten

WEBHOOK_SECRET = "whsec_of_this_test_suite"
Buy = Callable[..., httpx.Response]
"""Asks for a checkout of 500 credits, with further fields: a fixture."""


class StripeStandIn:
    """Keeps sessions in memory and what it was asked; `answer` and `drip` let it misbehave."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answer: tuple[int, bytes] | None = None
        """What it says to everything instead of a session."""
        self.drip = False
        """It sends a byte now and then; where there is none to send, it hangs."""
        self.asked = threading.Event()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """The settings of a server that buys here."""
        return {
            "STRIPE_SECRET_KEY": "sk_test_stand_in",
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STRIPE_API_BASE": self.address,
        }

    def session_of(self, checkout_id: str) -> dict[str, Any]:
        """The session of one of our checkouts."""
        return next(one for one in self.sessions.values() if one["client_reference_id"] == checkout_id)

    def pay(self, checkout_id: str, **changes: Any) -> dict[str, Any]:
        """The session of a checkout, paid now; nobody is told."""
        session = self.session_of(checkout_id)
        session.update({"status": "complete", "payment_status": "paid", "url": None} | changes)
        return session

    def create(self, headers: dict[str, str], form: dict[str, Any]) -> dict[str, Any]:
        """A new session as it was asked for, or the one that the same key made."""
        for session in self.sessions.values():
            if session["_key"] == headers["idempotency-key"]:
                return session
        price = form["line_items"]["0"]["price_data"]
        session = checkout_session(
            id=f"cs_test_{secrets.token_hex(12)}",
            amount_subtotal=int(price["unit_amount"]),
            amount_total=int(price["unit_amount"]),
            currency=price["currency"],
            client_reference_id=form["client_reference_id"],
            metadata=form["metadata"],
            expires_at=int(form["expires_at"]),
            url=f"{self.address}/pay",
            _key=headers["idempotency-key"],
        )
        self.sessions[session["id"]] = session
        return session

    def _respond(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        form = unflatten(parse_qsl(body.decode()))
        self.requests.append((headers, form))
        self.asked.set()
        if self.answer is not None:
            return self.answer
        session = self.create(headers, form) if body else self.sessions.get(path.rsplit("/", 1)[-1])
        if session is None:
            return 404, b'{"error": {"type": "invalid_request_error", "code": "resource_missing"}}'
        return 200, json.dumps({name: value for name, value in session.items() if name != "_key"}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, content = stand_in._respond(self.path, headers, body)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content) or 1))
                self.end_headers()
                if stand_in.drip and not content:
                    stand_in.closing.wait(3)
                for byte in content if stand_in.drip else ():
                    if stand_in.closing.wait(0.05):
                        return
                    try:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                    except OSError:
                        return
                if not stand_in.drip:
                    self.wfile.write(content)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def event(kind: str, session: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A Stripe event about a session."""
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": "2026-01-28.clover",
        "created": int(time.time()),
        "data": {"object": session},
        "livemode": False,
        "type": kind,
    } | changes


def deliver(server: ServerProcess, body: dict[str, Any] | bytes, **headers: Any) -> httpx.Response:
    """Sends an event to a server's webhook, signed unless a `signature` is given."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = headers.get("signature", signature(payload, WEBHOOK_SECRET))
    sent = {} if given is None else {b"Stripe-Signature": given if isinstance(given, bytes) else given.encode()}
    with server.client(None) as stripe:
        return stripe.post("/v1/stripe/webhook", content=payload, headers=sent)
