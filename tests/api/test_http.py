"""What every answer has in common: its shape, its id, its limits, and who may read it in a browser."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
import websockets
from serving import ADMIN_KEY, ALLOWED_ORIGIN, ServerProcess, StartServer, charge, error_of

from app.api.http import Answer, send_stream

HEAD = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"


def raw_answer(server: ServerProcess, *parts: bytes) -> tuple[str, float]:
    """What a raw socket reads after sending some bytes, and the seconds until its first byte."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        begun = time.monotonic()
        for part in parts:
            connection.sendall(part)
        answer = connection.recv(4096)
        seconds = time.monotonic() - begun
        while (missing := _missing_bytes(answer)) and (more := connection.recv(missing)):
            answer += more
        return answer.decode(), seconds


def _missing_bytes(answer: bytes) -> int:
    """How much of an answer is still to come, by its Content-Length."""
    head, _, body = answer.partition(b"\r\n\r\n")
    declared = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(declared[0]) - len(body) if declared else 0


def test_a_body_said_to_be_huge_is_refused_before_it_is_sent(server: ServerProcess) -> None:
    answer, seconds = raw_answer(server, f"{HEAD}Content-Length: 300000000\r\n\r\n".encode(), b'{"custo')
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"code":"body_too_large"' in answer
    assert seconds < 1


def test_a_huge_body_in_chunks_is_refused_before_its_end(server: ServerProcess) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer, _ = raw_answer(server, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 17)
    assert answer.startswith("HTTP/1.1 413 ")


def test_a_body_in_chunks_over_the_limit_is_refused(api: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    answer = api.post("/v1/events", content=body(), headers={"Content-Type": "application/json"})
    assert error_of(answer, 413, "body_too_large")["limit_bytes"] == 1 << 20


def test_a_body_in_chunks_is_read_like_any_other(api: httpx.Client, customer: str) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"customer_id": "%s", ' % customer.encode()
        yield b'"event": "chat.reply"}'

    answer = api.post("/v1/events", content=body(), headers={"Content-Type": "application/json"})
    assert answer.json()["balance"] == 92


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(api: httpx.Client, customer: str) -> None:
    json_type = {"Content-Type": "application/json"}
    body = b'{"customer_id": "%s", "event": "chat.reply"}' % customer.encode()
    assert api.post("/v1/events", content=body.ljust(1 << 20), headers=json_type).status_code == 201
    error_of(api.post("/v1/events", content=body.ljust((1 << 20) + 1), headers=json_type), 413, "body_too_large")


def test_a_body_that_never_ends_holds_nobody_else(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(f'{HEAD}Content-Length: 1000\r\n\r\n{{"customer_id"'.encode())
        assert charge(api, customer).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_body_that_is_not_called_json_is_refused(api: httpx.Client, customer: str, kind: str) -> None:
    body = b'{"customer_id": "%s", "event": "chat.reply"}' % customer.encode()
    answer = api.post("/v1/events", content=body, headers={"Content-Type": kind})
    error_of(answer, 415, "unsupported_media_type")


def test_a_charset_beside_json_is_fine(api: httpx.Client, customer: str) -> None:
    body = b'{"customer_id": "%s", "event": "chat.reply"}' % customer.encode()
    answer = api.post("/v1/events", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/events", "POST"),
        ("PUT", "/v1/wallets", "GET, HEAD, POST"),
        ("DELETE", "/v1/wallets/u", "GET, HEAD, PATCH"),
        ("POST", "/healthz", "GET, HEAD"),
        ("TRACE", "/v1/prices/chat.reply", "DELETE, GET, HEAD, PUT"),
    ],
)
def test_another_method_is_refused_with_those_that_are_taken(
    api: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = api.request(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/top-up/return", "/static/widget.js"])
def test_another_method_on_a_page_is_refused_in_the_same_shape(api: httpx.Client, path: str) -> None:
    error_of(api.post(path, json={}), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/",
        "/v1",
        "/v1/events/",
        "/v1/live",
        "/static/nothing.js",
        "/static/../app/cli.py",
        "/two%0alines",
        "/static/two%0alines.js",
    ],
)
def test_where_nothing_is_the_answer_has_the_same_shape(api: httpx.Client, path: str) -> None:
    error_of(api.get(path), 404, "not_found")


def test_a_file_outside_of_static_is_not_served(server: ServerProcess) -> None:
    for path in ("/static/..%2fpyproject.toml", "/static/%2e%2e/pyproject.toml", "/static//etc/passwd"):
        answer, _ = raw_answer(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith("HTTP/1.1 404 "), path


async def test_a_websocket_elsewhere_is_refused_and_is_no_fault_of_ours(server: ServerProcess) -> None:
    logged = len(server.log.read_text())
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/v1/nothing"):
            pass
    assert refused.value.response.status_code in (403, 404)
    assert "Traceback" not in server.log.read_text()[logged:]


def test_headers_beyond_any_use_are_refused(server: ServerProcess) -> None:
    huge = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Huge: {'h' * 2_000_000}\r\n\r\n".encode()
    answer, _ = raw_answer(server, huge)
    assert answer.startswith(("HTTP/1.1 431 ", "HTTP/1.1 400 "))


def test_head_answers_as_get_without_its_body(api: httpx.Client, customer: str) -> None:
    head, get = (api.request(method, f"/v1/wallets/{customer}") for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_a_sane_request_id_comes_back_and_another_is_replaced(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"X-Request-Id": "trace-1.a:b_c"}).headers["x-request-id"] == "trace-1.a:b_c"
    for wrong in ("", "a b", "x" * 129, "<script>", "é".encode()):
        given = api.get("/healthz", headers={"X-Request-Id": wrong}).headers.get_list("x-request-id")
        assert len(given) == 1
        assert re.fullmatch(r"req_[0-9a-f]{16,32}", given[0])


def test_no_answer_says_what_serves_it_or_may_be_sniffed(api: httpx.Client) -> None:
    answer = api.get("/healthz")
    assert "server" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/v1/events", "/v1/nothing"])
def test_a_refusal_can_be_read_by_a_page_of_an_allowed_origin(api: httpx.Client, customer: str, path: str) -> None:
    body = {"customer_id": customer, "event": "image.generate", "quantity": 3}
    answer = api.post(path, json=body, headers={"Origin": ALLOWED_ORIGIN})
    assert answer.status_code in (402, 404)
    assert answer.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_of_an_allowed_origin_lets_the_browser_ask(api: httpx.Client) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    answer = api.options("/v1/events", headers={"Origin": ALLOWED_ORIGIN, **asked})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "https://app.example.com.evil.com", "http://app.example.com"]
)
def test_a_foreign_origin_is_told_nothing(api: httpx.Client, customer: str, origin: str) -> None:
    answer = api.get(f"/v1/wallets/{customer}", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers
    preflight = api.options("/v1/events", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


def test_without_settings_no_other_origin_is_told_anything(new_server: StartServer) -> None:
    with new_server(CHARGLY_ALLOWED_ORIGINS="").client() as api:
        answer = api.get("/v1/prices", headers={"Origin": ALLOWED_ORIGIN})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def test_the_server_says_that_it_is_up_and_ready(server: ServerProcess) -> None:
    with server.client(None) as anybody:
        assert anybody.get("/healthz").json() == {"status": "ok"}
        ready = anybody.get("/readyz").json()
    assert ready == {"status": "ok", "database": True, "writer": True, "migrations": True}


def test_static_files_can_be_loaded_by_any_page_and_are_not_sent_twice(server: ServerProcess) -> None:
    with server.client(None, Origin="https://anywhere.example.com") as page:
        first = page.get("/static/widget.js")
        assert first.status_code == 200
        assert first.headers["access-control-allow-origin"] == "*"
        assert "javascript" in first.headers["content-type"]
        again = page.get("/static/widget.js", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304


def test_a_key_is_taken_from_either_header_and_nothing_else(server: ServerProcess) -> None:
    with server.client(None) as anybody:
        for headers in ({"Authorization": f"bearer {ADMIN_KEY}"}, {"X-API-Key": ADMIN_KEY}):
            assert anybody.get("/v1/wallets", headers=headers).status_code == 200
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic x"},
            {"X-API-Key": ""},
        ):
            error_of(anybody.get("/v1/wallets", headers=headers), 401, "missing_key")
        for wrong in ("sk_wrong", "sk_" + "x" * 10_000, "nonsense", ADMIN_KEY + "x", "é"):
            error_of(
                anybody.get("/v1/wallets", headers={b"Authorization": f"Bearer {wrong}".encode()}), 401, "invalid_key"
            )
        error_of(anybody.get("/v1/wallets", headers={"X-API-Key": "a.b.c"}), 401, "invalid_token")
        error_of(anybody.get("/v1/wallets", params={"api_key": ADMIN_KEY}), 401, "missing_key")


class Download:
    """An ASGI reader of a stream that leaves after its first part."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.parts = 0

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.parts += 1
            self.left.set()
            await asyncio.sleep(0)


async def test_a_stream_is_read_no_further_when_its_reader_has_left() -> None:
    closed: list[bool] = []

    async def rows() -> AsyncGenerator[bytes]:
        try:
            for _ in range(1000):
                yield b"row\n"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    reader = Download()
    await send_stream(Answer(None), rows(), {"type": "http", "method": "GET"}, reader.receive, reader.send)
    assert reader.parts < 5
    assert closed == [True]
