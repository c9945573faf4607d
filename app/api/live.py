"""`/v1/live`: a wallet's state over a websocket, pushed at every change.

A server that goes down closes each socket with 1012, which uvicorn sends.
"""

import asyncio
import contextlib
import time
from typing import Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api import fields
from app.api.auth import Credential
from app.api.origins import socket_origin_allowed
from app.api.services import Services
from app.errors import ChargeError
from app.live.hub import Push, Subscription
from app.live.messages import Heartbeat, Subscribe, decode_subscribe, encode, public_entry
from app.rules.times import rfc3339
from app.rules.wallet import Wallet
from app.store import reads
from app.store.ids import now_ms
from app.store.settled import settled_wallet

PROTOCOL: Final = "chargly.v1"
BAD_MESSAGE: Final = 4400
BAD_TOKEN: Final = 4401
FOREIGN_ORIGIN: Final = 4403
NO_SUBSCRIBE: Final = 4408
TOO_MANY_SOCKETS: Final = 4429


class _Close(Exception):
    """Ends the socket with a code that tells the client what to do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Listening(msgspec.Struct):
    subscription: Subscription
    ends_at: float


class LiveEndpoint:
    """The websocket's door."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def serve(self, socket: WebSocket) -> None:
        """One socket from its handshake to its end."""
        headers = dict(socket.scope["headers"])
        offered = socket.scope["subprotocols"]
        await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        if not socket_origin_allowed(headers, self._services.config):
            why = "this origin may not listen; CHARGLY_ALLOWED_ORIGINS names those that may"
            await _close(socket, FOREIGN_ORIGIN, why, self._services.config.limits.live_close_seconds_max)
            return
        await _Connection(self._services, socket).run()


class _Connection:
    """One open socket: a task that receives, always, and one that sends."""

    def __init__(self, services: Services, socket: WebSocket) -> None:
        self._services = services
        self._limits = services.config.limits
        self._hub = services.hub
        self._socket = socket
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._listening: dict[str, _Listening] = {}
        self._first: list[Push] = []

    async def run(self) -> None:
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._send())]
        self._services.metrics.sockets.inc()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for listening in self._listening.values():
                self._hub.unsubscribe(listening.subscription)
            self._services.metrics.sockets.dec()
        for task in done:
            error = task.exception()
            if isinstance(error, _Close):
                await _close(self._socket, error.code, error.reason, self._limits.live_close_seconds_max)
            elif error is not None and not isinstance(error, WebSocketDisconnect | TimeoutError):
                raise error

    async def _receive(self) -> None:
        try:
            async with asyncio.timeout(self._limits.live_subscribe_seconds_max):
                message = await self._next()
        except TimeoutError:
            raise _Close(NO_SUBSCRIBE, "no subscribe message came") from None
        while True:
            await self._subscribe(message)
            # No further message before the answer is sent, or a client that does not read could pile answers up.
            await self._answered.wait()
            message = await self._next()

    async def _next(self) -> Subscribe:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005))
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
            first = subscription.begin(await self._state(customer_id, message))
        else:  # a renewal is answered like a first subscribe, or a client could not tell that it was taken
            known.ends_at = credential.expires_at
            first = known.subscription.renew(await self._state(customer_id, message))
        self._answered.clear()
        self._first.append(first)
        self._wake.set()

    def _listen(self, customer_id: str, ends_at: float) -> Subscription:
        if len(self._listening) >= self._limits.live_wallets_per_socket_max:
            raise _Close(TOO_MANY_SOCKETS, "this socket shows as many wallets as it may")
        subscription = self._hub.subscribe(customer_id, self._wake.set)
        if subscription is None:
            raise _Close(TOO_MANY_SOCKETS, "this wallet has as many sockets as it may")
        self._listening[customer_id] = _Listening(subscription, ends_at)
        return subscription

    def _credential(self, token: str) -> Credential:
        try:
            credential = self._services.auth.by_token(token)
            fields.customer(credential.customer_id or "")
        except ChargeError as error:
            raise _Close(BAD_TOKEN, error.code) from None
        if "read" not in credential.token_scopes:
            raise _Close(BAD_TOKEN, "the token lacks the scope 'read'")
        return credential

    async def _state(self, customer_id: str, message: Subscribe) -> Push:
        """The wallet as committed now, with the entries since the version that the client resumes from."""
        db, hub = self._services.db, self._hub
        wallet = await settled_wallet(db, self._services.writer, customer_id)
        if wallet is None:
            welcome = self._services.config.welcome_credits
            return hub.message(Wallet(customer_id=customer_id, balance=welcome), [], at=now_ms())
        if message.since is None or message.epoch != hub.epoch or message.since >= wallet.version:
            return hub.message(wallet, [], at=wallet.last_entry_at)
        found, more = await reads.moves_since(db, customer_id, message.since, self._limits.live_entries_max)
        shown = [public_entry(entry, rfc3339(entry.created_at)) for entry in found if entry.version <= wallet.version]
        return hub.message(wallet, shown, at=wallet.last_entry_at, gap=more)

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            sent = False
            for push in self._due():
                await self._send_text(push.text)
                self._services.metrics.pushes.inc()
                sent = True
            if not self._first:
                self._answered.set()
            if sent:
                continue
            if not await self._woken():
                beat = Heartbeat(self._hub.generation, rfc3339(now_ms()))
                await self._send_text(encode(beat).decode())

    def _due(self) -> list[Push]:
        first = self._first.copy()
        self._first.clear()
        pushes = [listening.subscription.take() for listening in self._listening.values()]
        return [*first, *(push for push in pushes if push is not None)]

    async def _woken(self) -> bool:
        """Waits for something to send; False after a silence that wants a heartbeat."""
        silence = self._limits.live_heartbeat_seconds
        quiet_until = time.monotonic() + silence
        while (left := quiet_until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, self._until_a_token_ends())):
                    await self._wake.wait()
                    return True
            except TimeoutError:
                self._end_expired()
        return False

    def _until_a_token_ends(self) -> float:
        ends_at = min((listening.ends_at for listening in self._listening.values()), default=float("inf"))
        return max(0.0, ends_at - time.time())

    def _end_expired(self) -> None:
        if any(listening.ends_at <= time.time() for listening in self._listening.values()):
            raise _Close(BAD_TOKEN, "token_expired")

    async def _send_text(self, text: str) -> None:
        self._end_expired()
        async with asyncio.timeout(self._limits.live_send_seconds_max):
            await self._socket.send_text(text)


async def _close(socket: WebSocket, code: int, reason: str, seconds_max: float) -> None:
    # The other side may be gone, or not read: neither keeps us.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(seconds_max):
            await socket.close(code, reason)
