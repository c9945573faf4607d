"""A host's backend that receives webhooks: over real HTTP, in threads, and it answers as a test tells it to."""

import json
import queue
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from msgspec import Struct
from standardwebhooks import Webhook

SECONDS_MAX = 20


class Received(Struct, frozen=True):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return self.message["type"]

    @property
    def data(self) -> dict[str, Any]:
        return self.message["data"]

    def verify(self, secret: str) -> dict[str, Any]:
        """The message, after its signature was checked as a host would."""
        return Webhook(secret).verify(self.body, self.headers)


class Reply(Struct, frozen=True):
    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = {}


class Receiver:
    """Listens at `url`. `answer` decides what each request is told; it may block."""

    def __init__(self) -> None:
        self.answer: Callable[[Received], Reply] = lambda _: Reply()
        self._received: queue.Queue[Received] = queue.Queue()
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._handle(self)

            do_GET = do_POST  # noqa: N815 - the library's own name

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 200

            def handle_error(self, *_: Any) -> None:
                """The other side may leave when it likes."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        received = Received(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
        self._received.put(received)
        reply = self.answer(received)
        handler.send_response(reply.status)
        length = {} if reply.status == 204 else {"content-length": str(len(reply.body))}
        for name, value in (length | reply.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)

    def next(self, seconds_max: float = SECONDS_MAX) -> Received:
        """The next request, in the order in which they came."""
        return self._received.get(timeout=seconds_max)

    def take(self, count: int) -> list[Received]:
        return [self.next() for _ in range(count)]

    @property
    def is_quiet(self) -> bool:
        """Whether all that came was taken."""
        return self._received.empty()

    def hang(self, _: Received) -> Reply:
        """Answers nothing for as long as the test lasts."""
        self._ended.wait()
        return Reply()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


class Hooks:
    """An operator who makes endpoints, and takes them away at the end."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        self.made: list[str] = []

    def add(self, url: str, *events: str) -> dict[str, Any]:
        answer = self._api.post("/v1/webhook-endpoints", json={"url": url, "events": list(events or ("*",))})
        assert answer.status_code == 201, answer.text
        self.made.append(answer.json()["id"])
        return answer.json()

    def read(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        answer = self._api.get(f"/v1/webhook-endpoints/{endpoint['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def test(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        """Has a test message sent; the delivery."""
        answer = self._api.post(f"/v1/webhook-endpoints/{endpoint['id']}/test")
        assert answer.status_code == 202, answer.text
        return answer.json()

    def deliveries(self, endpoint: dict[str, Any], **query: str) -> list[dict[str, Any]]:
        answer = self._api.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["deliveries"]

    def ended(self, endpoint: dict[str, Any], **query: str) -> list[dict[str, Any]]:
        """Its deliveries, once none is pending any more."""
        return self.once(lambda: self.deliveries(endpoint, **query), lambda found: found[0]["status"] != "pending")

    def once(self, read: Callable[[], Any], reached: Callable[[Any], bool]) -> Any:
        """What is read, as soon as it is so: what a receiver was sent is written a moment later."""
        for _ in range(2_000):
            found = read()
            if reached(found):
                return found
            threading.Event().wait(0.01)
        raise AssertionError(f"it did not come to pass: {found}")

    def remove(self) -> None:
        for endpoint_id in self.made:
            self._api.delete(f"/v1/webhook-endpoints/{endpoint_id}")


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
