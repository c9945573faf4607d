"""`/v1/live`: a wallet's state over a websocket, pushed at every change.

A socket has one task, which receives; `live.sockets` gives it its turns to send, and looks after it. A server that goes
down closes each with 1012, which uvicorn sends.
"""

import asyncio
import contextlib
import logging
import math
import time
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from app.api import fields
from app.api.auth import Credential
from app.api.origins import socket_origin_allowed
from app.api.services import Services
from app.config import Limits
from app.errors import Busy, ChargeError, TokenExpired, TooManyConnections
from app.live.addresses import counted_address
from app.live.hub import Push, Subscription
from app.live.messages import Heartbeat, Subscribe, decode_subscribe, encode, public_entry, text_frame
from app.live.sockets import Socket, begin
from app.rules.times import rfc3339
from app.rules.wallet import Wallet
from app.store import reads
from app.store.ids import now_ms
from app.store.settled import settled_wallet

log = logging.getLogger("chargly.live")

PROTOCOL: Final = "chargly.v1"
BAD_MESSAGE: Final = 4400
BAD_TOKEN: Final = 4401
FOREIGN_ORIGIN: Final = 4403
NO_SUBSCRIBE: Final = 4408
TOO_MANY_SOCKETS: Final = 4429
TRY_AGAIN_LATER: Final = 1013


class _Close(Exception):
    """Ends the socket with a code that tells the client what to do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Listening(msgspec.Struct):
    subscription: Subscription[Socket]
    ends_at: float


class LiveEndpoint:
    """The websocket's door, as an ASGI app."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One socket from its handshake to its end."""
        if (await receive())["type"] != "websocket.connect":
            return
        client = scope.get("client")
        address = counted_address(client[0] if client else None)
        try:
            self._services.addresses.take_place(address)
        except TooManyConnections as error:
            await self._turn_away(error, scope, send)
            return
        try:
            await self._meet(scope, receive, send)
        finally:
            self._services.addresses.give_back_place(address)

    async def _turn_away(self, error: TooManyConnections, scope: Scope, send: Send) -> None:
        """Refuses a socket of an address that has as many as it may, before it has taken a place at the door.

        A page cannot read the status of a handshake that failed, and would come back soon; it can read a close code, so
        the socket is accepted and closed. A client that does not answer the goodbye keeps that connection for ten
        seconds (uvicorn's wait), so beyond some in a second the handshake is refused, which ends it at once.
        """
        services = self._services
        services.metrics.refusals.labels(error.code).inc()
        if not services.addresses.may_say_goodbye():
            await _refuse(send, error)
            return
        with contextlib.suppress(OSError):  # it has gone meanwhile
            await _accept(scope, send)
            why = "this address has as many sockets as it may"
            await _close(send, TOO_MANY_SOCKETS, why, services.config.limits.live_close_seconds_max)

    async def _meet(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One socket from the door to its end."""
        try:
            if not await self._is_let_in(receive):
                return
        except Busy as error:
            self._services.metrics.refusals.labels(error.code).inc()
            await _refuse(send, error)
            return
        with contextlib.suppress(OSError):  # it has gone meanwhile
            await _accept(scope, send)
            if socket_origin_allowed(dict(scope["headers"]), self._services.config):
                await _Connection(self._services, receive, send).run()
            else:
                why = "This page's origin may not listen; add it to CHARGLY_ALLOWED_ORIGINS."
                await _close(send, FOREIGN_ORIGIN, why, self._services.config.limits.live_close_seconds_max)

    async def _is_let_in(self, receive: Receive) -> bool:
        """Waits at the door; False where the client leaves meanwhile, and its place is given to another.

        Raises:
            Busy: too many wait.

        """
        sockets = self._services.sockets
        wait = sockets.take_place()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await receive()  # before it is accepted, a client can do nothing but leave
                sockets.give_back_place()
                return False
        return True


class _Connection:
    """One open socket. What is sent goes out one message at a time; what comes meanwhile waits, and is merged."""

    __slots__ = (
        "_ended",
        "_ending",
        "_ends_at",
        "_first",
        "_listening",
        "_receive",
        "_send",
        "_sending",
        "_sent_at",
        "_services",
        "_task",
    )

    def __init__(self, services: Services, receive: Receive, send: Send) -> None:
        self._services = services
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = time.monotonic()
        self._listening: dict[str, _Listening] = {}
        self._first: Push | None = None
        self._ends_at = math.inf
        self._ended = False
        self._ending: _Close | None = None

    async def run(self) -> None:
        """Takes subscribe messages until one side ends it."""
        self._task = asyncio.current_task()
        self._services.sockets.add(self)
        try:
            await self._receive_all()
        except _Close as close:
            self._ending = close
        except asyncio.CancelledError:
            if not self._ended or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._ended = True
            self._services.sockets.discard(self)
            for listening in self._listening.values():
                self._services.hub.unsubscribe(listening.subscription)
            if self._sending is not None:
                self._sending.cancel()
        if self._ending is not None:
            await _close(self._send, self._ending.code, self._ending.reason, self._limits.live_close_seconds_max)

    def deliver(self, subscription: Subscription[Socket]) -> bool:
        """Sends what a subscription has, unless something is being sent: then all goes on once that is through."""
        if self._sending is not None or self._ended:
            return False
        push = subscription.take()
        return push is not None and self._start(push.frame)

    def look(self, now: float) -> None:
        """Ends it where its token has ended or its reader has stopped, and breaks a silence."""
        silence = now - self._sent_at
        if self._sending is not None:
            if silence > self._limits.live_send_seconds_max:
                self._end(None)
        elif self._ends_at <= time.time():
            self._end(_Close(BAD_TOKEN, TokenExpired.sentence))
        elif silence >= self._limits.live_heartbeat_seconds and not self._ended:
            self._start(text_frame(Heartbeat(self._services.hub.generation, rfc3339(now_ms()))))

    @property
    def _limits(self) -> Limits:
        return self._services.config.limits

    def _flush(self) -> None:
        """Sends what waits, as far as that is possible without waiting."""
        if self._sending is None and self._first is not None:
            first, self._first = self._first, None
            self._services.metrics.pushes.inc(self._start(first.frame))
        for listening in self._listening.values():
            self._services.sockets.queue(listening.subscription)

    def _start(self, frame: dict[str, str]) -> bool:
        """Sends a frame, or begins to. Says whether it did."""
        if self._ends_at <= time.time():
            self._end(_Close(BAD_TOKEN, TokenExpired.sentence))
            return False
        self._sent_at = time.monotonic()
        try:
            self._sending = begin(self._send(frame))
        except (OSError, RuntimeError):  # it is gone, or uvicorn has closed it: what is received says so
            self._end(None)
            return False
        if self._sending is not None:
            self._sending.add_done_callback(self._sent)
        return True

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending = None
        if sending.cancelled():
            return
        error = sending.exception()
        if error is None:
            self._flush()
            return
        if not isinstance(error, OSError | RuntimeError):
            log.error("a websocket could not be sent to", exc_info=error)
        self._end(None)

    def _end(self, ending: _Close | None) -> None:
        """Ends it, with a code, or without one where it is not going to be read."""
        if not self._ended and self._task is not None:
            self._ended, self._ending = True, ending
            if asyncio.current_task() is not self._task:  # which looks for itself
                self._task.cancel()

    async def _receive_all(self) -> None:
        try:
            async with asyncio.timeout(self._limits.live_subscribe_seconds_max):
                message = await self._next_message()
        except TimeoutError:
            raise _Close(NO_SUBSCRIBE, "no subscribe message came") from None
        while message is not None:
            await self._subscribe(message)
            # No further message before the answer is sent, or a client that does not read could pile answers up.
            while self._sending is not None:
                await asyncio.wait((self._sending,))
            message = None if self._ended else await self._next_message()

    async def _next_message(self) -> Subscribe | None:
        """What the client says next, None where it has gone."""
        received = await self._receive()
        if received["type"] == "websocket.disconnect":
            return None
        text = received.get("text")
        if text is None or len(text) > self._limits.live_message_bytes_max:
            raise _Close(BAD_MESSAGE, "only subscribe messages of text are taken")
        try:
            return decode_subscribe(text)  # type: ignore[no-any-return]
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise _Close(BAD_MESSAGE, "this is not a subscribe message") from None

    async def _subscribe(self, message: Subscribe) -> None:
        credential = self._credential(message.token)
        customer_id = credential.customer_id or ""
        known = self._listening.get(customer_id)
        if known is None:
            subscription = self._listen(customer_id, credential.expires_at)
            try:
                first = subscription.begin(await self._state(customer_id, message))
            except ChargeError as error:
                log.warning("a wallet cannot be shown: %r", error)
                raise _Close(TRY_AGAIN_LATER, error.code) from None
        else:  # a renewal is answered like a first subscribe, or a client could not tell that it was taken
            known.ends_at = credential.expires_at
            try:
                first = known.subscription.renew(await self._state(customer_id, message))
            except ChargeError:  # the database is away, but the token is good, and the last state is known
                first = known.subscription.repeat()
        self._ends_at = min(listening.ends_at for listening in self._listening.values())
        self._first = first
        self._flush()

    def _listen(self, customer_id: str, ends_at: float) -> Subscription[Socket]:
        if len(self._listening) >= self._limits.live_wallets_per_socket_max:
            raise _Close(TOO_MANY_SOCKETS, "this socket shows as many wallets as it may")
        subscription = self._services.hub.subscribe(self, customer_id, self._services.sockets.queue)
        if subscription is None:
            raise _Close(TOO_MANY_SOCKETS, "this wallet has as many sockets as it may")
        self._listening[customer_id] = _Listening(subscription, ends_at)
        return subscription

    def _credential(self, token: str) -> Credential:
        try:
            credential = self._services.auth.by_token(token)
            fields.customer(credential.customer_id or "")
        except ChargeError as error:
            raise _Close(BAD_TOKEN, error.message) from None
        if "read" not in credential.token_scopes:
            raise _Close(BAD_TOKEN, "This widget token lacks the scope 'read'.")
        return credential

    async def _state(self, customer_id: str, message: Subscribe) -> Push:
        """The wallet as committed now, with the entries since the version that the client resumes from."""
        db, hub = self._services.db, self._services.hub
        wallet = await settled_wallet(db, self._services.writer, customer_id)
        if wallet is None:
            welcome = self._services.config.welcome_credits
            return hub.message(Wallet(customer_id=customer_id, balance=welcome), [], at=now_ms())
        if message.since is None or message.epoch != hub.epoch or message.since >= wallet.version:
            return hub.message(wallet, [], at=wallet.last_entry_at)
        found, more = await reads.moves_since(db, customer_id, message.since, self._limits.live_entries_max)
        shown = [public_entry(entry, rfc3339(entry.created_at)) for entry in found if entry.version <= wallet.version]
        return hub.message(wallet, shown, at=wallet.last_entry_at, gap=more)


async def _accept(scope: Scope, send: Send) -> None:
    protocol = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": protocol, "headers": []})


async def _refuse(send: Send, error: ChargeError) -> None:
    """Answers a handshake as any request is refused: a page that comes back by itself waits a little longer."""
    retry_after = str(error.retry_after_seconds or 1).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", retry_after)]
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": encode(error.body())})


async def _close(send: Send, code: int, reason: str, seconds_max: float) -> None:
    # The other side may be gone, or not read: neither keeps us.
    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(seconds_max):
            await send({"type": "websocket.close", "code": code, "reason": reason})
