"""A stand-in for Stripe: a real HTTP server over an account in memory, that the real `stripe` package talks to."""

import contextlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

import httpx
from payments.stripe_params import unknown_to_stripe
from serving import ServerProcess

from app.demo.sandbox import signature
from app.demo.stripe_account import StripeAccount
from app.demo.stripe_objects import API_VERSION
from app.demo.stripe_parameters import Form, unflatten, unknown_parameter

WEBHOOK_SECRET = "whsec_of_this_test_suite"
SESSIONS = "/v1/checkout/sessions"
DROP: Literal["drop"] = "drop"
"""A fault: the connection ends without an answer."""

Buy = Callable[..., httpx.Response]
"""Asks for a checkout of 500 credits, with further fields: a fixture."""
Reply = tuple[int, bytes]
"""A status and a body."""
Fault = Reply | Literal["drop"] | None


class Call(NamedTuple):
    """What a server asked; the names of its headers in lower case."""

    method: str
    path: str
    form: Form
    headers: dict[str, str]


class Faults:
    """What goes wrong with calls: nothing. Others override a method; they run in the call's own thread."""

    def before(self, _call: Call) -> Fault:
        """What happens instead of a call, which is not carried out then."""
        return None

    def after(self, _call: Call, _reply: Reply) -> Fault:
        """What becomes of an answer after its call was carried out."""
        return None


class DropOne(Faults):
    """One call, counted from 0 among those whose path begins with `path`, gets no answer.

    `carried_out` says whether Stripe does what it asks; `then` is run before the connection ends: a kill of the server.
    """

    def __init__(
        self, number: int, *, carried_out: bool, path: str = "/v1/", then: Callable[[], object] = lambda: None
    ) -> None:
        self.number = number
        self.carried_out = carried_out
        self.path = path
        self.then = then
        self.seen = 0
        self.dropped = threading.Event()
        self._lock = threading.Lock()
        self._wanted: Call | None = None

    def before(self, call: Call) -> Fault:
        with self._lock:
            if call.path.startswith(self.path):
                self._wanted = call if self.seen == self.number else self._wanted
                self.seen += 1
        return self._drop(call) if not self.carried_out else None

    def after(self, call: Call, _reply: Reply) -> Fault:
        return self._drop(call)

    def _drop(self, call: Call) -> Fault:
        if call is not self._wanted:
            return None
        self.then()
        self.dropped.set()
        return DROP


class StripeStandIn:
    """An account, and what its server was asked; `answer`, `drip` and `faults` let it misbehave."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.told: list[dict[str, Any]] = []
        """The events since the test began, in order. Nobody delivers them: `deliver_all` does."""
        self.answer: Reply | None = None
        """What it says to everything instead of an object."""
        self.drip = False
        """It sends a byte now and then; where there is none to send, it hangs."""
        self.faults = Faults()
        self.asked = threading.Event()
        """A session was asked for."""
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.account = StripeAccount(lambda _: f"{self.address}/pay", told=self.told.append, unknown=unknown)

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

    @property
    def requests(self) -> list[tuple[dict[str, str], Form]]:
        """The headers and the form of each call that makes a session; a server reads them by itself."""
        return [(call.headers, call.form) for call in self.calls if _makes_session(call)]

    @property
    def sessions(self) -> dict[str, dict[str, Any]]:
        """The sessions by their ids, oldest first."""
        return {one["id"]: one for one in reversed(self.account.all("checkout.session"))}

    def behave(self) -> None:
        """Forgets faults and what was told."""
        self.answer, self.drip, self.faults = None, False, Faults()
        self.asked.clear()
        self.told.clear()

    def session_of(self, checkout_id: str) -> dict[str, Any]:
        """The session of one of our checkouts itself: what is changed in it is changed at Stripe."""
        of = (id for id, one in self.sessions.items() if one["client_reference_id"] == checkout_id)
        return self.account.live(next(of))

    def pay(self, checkout_id: str, **changes: Any) -> dict[str, Any]:
        """The session of a checkout, paid now, or unpaid and complete; nobody is told."""
        session = self.session_of(checkout_id)
        later = changes.get("payment_status") == "unpaid"
        if session["status"] == "open":
            (self.account.pay_later if later else self.account.pay)(session["id"])
        elif session["payment_status"] == "unpaid" and not later:
            self.account.money_arrives(session["id"])
        session.update({"status": "complete", "payment_status": "paid", "url": None} | changes)
        return session

    def create(self, headers: dict[str, str], form: Form) -> dict[str, Any]:
        """A new session as it was asked for, or the one that the same key made."""
        status, session = self.account.call("POST", SESSIONS, form, headers["idempotency-key"])
        assert status == 200, session
        return session

    def _respond(self, call: Call) -> Fault:
        self.calls.append(call)
        if _makes_session(call):
            self.asked.set()
        if self.answer is not None:
            return self.answer
        fault = self.faults.before(call)
        if fault is not None:
            return fault
        reply = self._carry_out(call)
        return self.faults.after(call, reply) or reply

    def _carry_out(self, call: Call) -> Reply:
        if not call.headers.get("authorization", "").startswith(("Bearer sk_", "Bearer rk_")):
            return 401, b'{"error": {"type": "invalid_request_error", "message": "You did not provide an API key."}}'
        key = call.headers.get("idempotency-key")
        status, body = self.account.call(call.method, call.path, call.form, key)
        return status, json.dumps(body).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                url = urlsplit(self.path)
                given = body.decode() if self.command == "POST" else url.query
                form = unflatten(parse_qsl(given, keep_blank_values=True))
                reply = stand_in._respond(Call(self.command, url.path, form, headers))
                if reply is None or reply == DROP:
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.reply(*reply)

            do_GET = do_POST  # noqa: N815

            def reply(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("request-id", f"req_{secrets.token_hex(7)}")
                self.send_header("content-length", str(len(content) or 1))
                with contextlib.suppress(OSError):  # a server that was killed reads no more
                    self.end_headers()
                    if not stand_in.drip:
                        self.wfile.write(content)
                        return
                    if not content:
                        stand_in.closing.wait(3)
                    for byte in content:
                        if stand_in.closing.wait(0.05):
                            return
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _makes_session(call: Call) -> bool:
    return (call.method, call.path) == ("POST", SESSIONS)


def unknown(method: str, pattern: str, form: Form) -> str | None:
    """A parameter that Stripe does not know, or that the demo's sandbox has not learned."""
    return unknown_to_stripe(method, pattern, form) or unknown_parameter(method, pattern, form)


def event(kind: str, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A Stripe event about an object."""
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": API_VERSION,
        "created": int(time.time()),
        "data": {"object": about},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    } | changes


def deliver(server: ServerProcess, body: dict[str, Any] | bytes, **headers: Any) -> httpx.Response:
    """Sends an event to a server's webhook, signed unless a `signature` is given."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = headers.get("signature", signature(payload, WEBHOOK_SECRET))
    sent = {} if given is None else {b"Stripe-Signature": given if isinstance(given, bytes) else given.encode()}
    with server.client(None) as stripe:
        return stripe.post("/v1/stripe/webhook", content=payload, headers=sent)


def deliver_all(server: ServerProcess, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Delivers events one after another, each of which must be taken, and returns what the server said."""
    answers = [deliver(server, one) for one in list(events)]
    assert {one.status_code for one in answers} <= {200}, [one.text for one in answers]
    return [one.json() for one in answers]
