"""From an ASGI request to a route's handler and back: credential, body, answer, and one shape for every error."""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import AsyncGeneratorType
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.auth import Access, Credential
from app.api.bodies import decode_json
from app.api.services import Services
from app.config import IDEMPOTENCY_KEY_CHARACTERS_MAX
from app.errors import (
    BodyTooLarge,
    ChargeError,
    ForbiddenScope,
    HeadersTooLarge,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OutcomeUnknown,
    ShuttingDown,
    UnsupportedMediaType,
)
from app.metrics import Metrics

log = logging.getLogger("chargly.api")

T = TypeVar("T")
_JSON_TYPE: Final = (b"content-type", b"application/json")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,128}\Z")
_encode: Final = msgspec.json.Encoder().encode
_encode_canonical: Final = msgspec.json.Encoder(order="deterministic").encode


Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
REPLAYED: Final[Headers] = ((b"idempotent-replayed", b"true"),)
"""The header of an answer that was given before."""


class Answer(msgspec.Struct, frozen=True):
    """What a handler gives back: a body to encode (bytes and generators of bytes as they are), a status, headers."""

    body: Any
    status: int = 200
    headers: Headers = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a handler sees it, after its credential has passed and its body has been read."""

    services: Services
    credential: Credential
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    raw: bytes
    body: Any
    scheme: str

    @property
    def origin(self) -> str:
        """The server's own origin as this request's sender sees it, e.g. `http://127.0.0.1:8000`."""
        return f"{self.scheme}://{self.headers.get(b'host', b'').decode('latin-1').lower()}"

    def owns(self, customer_id: str) -> None:
        """Lets a token go to its own wallet alone.

        Raises:
            ForbiddenScope: the wallet is somebody else's.

        """
        owner = self.credential.customer_id
        if owner is not None and owner != customer_id:
            raise ForbiddenScope("This widget token is for another customer's wallet.")

    @property
    def actor(self) -> str:
        """Who the ledger says did it."""
        return self.credential.name

    def idempotency(self) -> tuple[str | None, str | None]:
        """The caller's key, from the header or the body, and a hash of the request that it came with.

        The hash covers method, path and the request as understood, so neither the order of its fields nor the place
        of the key matters.

        Raises:
            InvalidRequest: the two differ, or the key is too long or not printable.

        """
        in_header = self.headers.get(b"idempotency-key")
        in_body: str | None = getattr(self.body, "idempotency_key", None)
        if in_header is None and in_body is None:
            return None, None
        key = in_body if in_header is None else _header_text(in_header)
        if in_body is not None and in_body != key:
            raise InvalidRequest(
                "The Idempotency-Key header and the body's idempotency_key differ.", field="idempotency_key"
            )
        check_key(key)
        return key, self.request_hash()

    def request_hash(self) -> str:
        """A hash of the request, whatever key it came with."""
        return request_hash(self.method, self.path, self.body)


def check_key(key: str | None) -> None:
    """Refuses what is no idempotency key.

    Raises:
        InvalidRequest: it is empty, too long or not printable.

    """
    if not key or len(key) > IDEMPOTENCY_KEY_CHARACTERS_MAX or not key.isprintable():
        raise InvalidRequest(
            f"An idempotency key has 1 to {IDEMPOTENCY_KEY_CHARACTERS_MAX} printable characters.",
            field="idempotency_key",
        )


def request_hash(method: str, path: str, body: Any) -> str:
    """A hash of method, path and body, without the key in it; the order of the body's fields does not matter."""
    fields = msgspec.to_builtins(body) if body is not None else {}
    fields.pop("idempotency_key", None)
    return hashlib.sha256(_encode_canonical([method, path, fields])).hexdigest()


def _header_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The Idempotency-Key header is not UTF-8.", field="idempotency_key") from error


Handler = Callable[[Call], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the contract: what it takes, who may call it, what it answers.

    `query` names the parameters that it takes. `request` is the body's struct (None: no body is read; bytes: taken as
    it came), and `optional_body` lets an empty one stand for `{}`. `answers` are the body's structs by status, `errors`
    what it may refuse with beside what all do; `body_limit` names the limit of its body's size.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    summary: str
    query: tuple[str, ...] = ()
    request: Any = None
    optional_body: bool = False
    answers: Mapping[int, Any] = {}
    errors: Sequence[type[ChargeError]] = ()
    body_limit: str = "body_bytes_max"


_ANYBODY: Final = Credential(name="anybody")


class Endpoint:
    """All routes of one path, as an ASGI app."""

    def __init__(self, routes: Sequence[Route], services: Services) -> None:
        self._services = services
        self._routes = {route.method: route for route in routes}
        if "GET" in self._routes:
            self._routes["HEAD"] = self._routes["GET"]
        self._decoders = {
            route.method: msgspec.json.Decoder(route.request)
            for route in routes
            if route.request is not None and route.request is not bytes
        }
        self._allow = ", ".join(sorted(self._routes)).encode()
        limits = services.config.limits
        self._body_bytes_max: dict[str, int] = {route.method: getattr(limits, route.body_limit) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Errors of the contract are answered here, others further out."""
        route = self._routes.get(scope["method"])
        if route is None:
            raise WrongMethod(self._allow)
        services = self._services
        headers = dict(scope["headers"])
        if route.access.public:
            credential = _ANYBODY
        else:
            credential = await services.auth.authenticate(headers)
            route.access.check(credential)
        raw, body = b"", None
        if route.request is not None:
            raw = await self._read(headers, receive, self._body_bytes_max[route.method])
            body = raw if route.request is bytes else self._decode(route, headers, raw)
        call = Call(
            services=services,
            credential=credential,
            method=route.method,
            path=scope["path"],
            params=scope["path_params"],
            headers=headers,
            query=_query(scope["query_string"], route),
            raw=raw,
            body=body,
            scheme=scope["scheme"],
        )
        answer = await route.handler(call)
        if isinstance(answer.body, AsyncGeneratorType):
            await send_stream(answer, answer.body, scope, receive, send)
        else:
            await send_answer(answer, scope, send)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            raise _too_large(most)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _unfinished()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body") and size <= most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _unfinished()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
            body = b"".join(parts)
        if len(body) > most:
            raise _too_large(most)
        return body

    def _decode(self, route: Route, headers: Mapping[bytes, bytes], raw: bytes) -> Any:
        if route.optional_body and not raw:
            raw = b"{}"
        elif headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise UnsupportedMediaType
        return decode_json(self._decoders[route.method], raw)


class WrongMethod(MethodNotAllowed):
    """A method that a path does not take; the answer's `Allow` names those that it does."""

    def __init__(self, methods: bytes) -> None:
        super().__init__(f"This path takes {methods.decode()}.")
        self.methods = methods


def _unfinished() -> InvalidRequest:
    return InvalidRequest("The request ended before its body did.", field="body")


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"A request body has {most} bytes at most.", limit_bytes=most)


def _query(raw: bytes, route: Route) -> Mapping[str, str]:
    """The query's parameters; a misspelt filter would otherwise be lost. Links to public pages may carry any."""
    if not raw:
        return {}
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        if not route.access.public:
            if name not in route.query:
                there = f"there are {', '.join(route.query)}" if route.query else "there are none"
                raise InvalidRequest(f"{name}: not a parameter here; {there}.", field=name)
            if name in query:
                raise InvalidRequest(f"{name}: it is given twice.", field=name)
        query[name] = value
    return query


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Sends an answer whose body is at hand: bytes go as they are, anything else as JSON."""
    if isinstance(answer.body, bytes):
        content, headers = answer.body, list(answer.headers)
    else:
        content, headers = _encode(answer.body), [_JSON_TYPE, *answer.headers]
    headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


async def send_stream(answer: Answer, parts: AsyncGenerator[bytes], scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a body as it comes, and stops reading it when its reader leaves, of which `send` itself says nothing."""
    left = asyncio.create_task(_disconnected(receive))
    try:
        async with contextlib.aclosing(parts):
            await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
            if scope["method"] != "HEAD":
                async for part in parts:
                    if left.done():
                        return
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    finally:
        left.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def error_answer(error: ChargeError) -> Answer:
    """A refusal as an answer."""
    headers = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", error.methods))
    return Answer(error.body(), error.status, headers)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Where no route is."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    raise NotFound(f"There is nothing at {scope['path'][:200]}.")


class RequestIds:
    """The outermost layer: an id for every request, the caller's own where it is sane."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Marks the answer of a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["answer_begun"] = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), _NOSNIFF]
            await send(message)

        await self._app(scope, receive, send_marked)


class Refusals:
    """Inside of CORS, so that a browser may read them: every error in one shape, a fault of ours with a log line."""

    def __init__(self, app: ASGIApp, headers_bytes_max: int, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._headers_bytes_max = headers_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; what it raises becomes an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > self._headers_bytes_max:
                raise HeadersTooLarge
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops and waits no longer. What was to be written may yet be, and its caller is told so.
            if scope.get("answer_begun"):
                raise
            reads = scope["method"] in ("GET", "HEAD")
            await self._refuse(ShuttingDown() if reads else OutcomeUnknown(), scope, send)
        except ChargeError as error:
            await self._refuse(error, scope, send)
        except Exception:
            log.exception("%s %s failed (request %s)", scope["method"], scope["path"], scope["request_id"].decode())
            # Where an answer had begun, the web server refuses a second one and ends the connection.
            await self._refuse(Internal(), scope, send)

    async def _refuse(self, error: ChargeError, scope: Scope, send: Send) -> None:
        self._metrics.refusals.labels(error.code).inc()
        await send_answer(error_answer(error), scope, send)


_process: Final = secrets.token_hex(6)
_numbers: Final = itertools.count(1)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return bytes(value)
    return f"req_{_process}{next(_numbers):08x}".encode()


class Cors(CORSMiddleware):
    """Starlette's, for what browsers send; a backend's call has no `Origin` and goes straight through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the headers that let a page of an allowed origin read the answer."""
        if scope["type"] == "http" and scope["method"] != "GET" and not _has_origin(scope):
            await self.app(scope, receive, send)
        else:  # a GET may be cached, so its answer says that it varies by origin
            await super().__call__(scope, receive, send)


def _has_origin(scope: Scope) -> bool:
    return any(name == b"origin" for name, _ in scope["headers"])
