"""Which addresses deliveries go to: those of the internet, as resolved when the connection is made."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from webhooks.receiver import Receiver, Reply

from app.config import LIMITS
from app.webhooks.addresses import is_public
from app.webhooks.frames import Answer, Post
from app.webhooks.network import AddressRefused, CheckedNetwork
from app.webhooks.posting import Poster

NewPoster = Callable[[CheckedNetwork], Poster]

PUBLIC = ["93.184.215.14", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001:82a::200e"]
REFUSED = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.8",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:5db8:d70e::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "100::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "2130706433",
    "127.1",
    "",
]


MORE = ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24")
"""What we refuse beyond what Python calls private."""


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_passes(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", REFUSED)
def test_any_other_is_refused(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_what_python_calls_private_never_passes(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_loopback:
        assert not is_public(str(address))
    elif not any(address in ipaddress.ip_network(network) for network in MORE):
        assert is_public(str(address))


@given(st.ip_addresses(v=4))
def test_an_address_in_an_address_is_judged_by_itself(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::"):
        assert is_public(f"{prefix}{address}") == is_public(str(address))


@given(st.ip_addresses(v=4), st.integers(0, 2**80 - 1))
def test_tunnels_never_pass(address: ipaddress.IPv4Address, rest: int) -> None:
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | rest)
    teredo = ipaddress.IPv6Address((0x2001_0000 << 96) | (rest << 16 & (2**96 - 1)))
    assert not is_public(str(six_to_four))
    assert not is_public(str(teredo))


@given(st.ip_addresses(v=6))
def test_what_python_calls_private_never_passes_in_ipv6(address: ipaddress.IPv6Address) -> None:
    mapped = address.ipv4_mapped is not None or address in ipaddress.ip_network("64:ff9b::/96")
    if not mapped and (not address.is_global or address.is_multicast or address.is_reserved):
        assert not is_public(str(address))


@given(st.text(max_size=50))
def test_no_other_text_passes(text: str) -> None:
    if is_public(text):
        ipaddress.ip_address(text)


def resolved_to(*addresses: str) -> CheckedNetwork:
    return CheckedNetwork(private_targets=False, resolver=lambda _host, _port: addresses)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo"])
async def test_a_name_of_a_private_address_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="not one of the internet"):
        await resolved_to(address).resolve("rebound.example.com", 443)


async def test_a_name_that_has_one_private_address_is_refused() -> None:
    with pytest.raises(AddressRefused):
        await resolved_to("93.184.215.14", "10.0.0.1").resolve("both.example.com", 443)


async def test_what_was_checked_is_what_is_connected_to(receiver: Receiver, new_poster: NewPoster) -> None:
    """A name that changes between two questions is asked once, and a socket is for the address that it had."""
    answers = iter([["93.184.215.14", "2606:4700::1111"], ["127.0.0.1"]])
    network = CheckedNetwork(private_targets=False, resolver=lambda _host, _port: next(answers))
    found = await network.resolve("example.com", 443)
    assert [(one["hostname"], one["host"], one["port"]) for one in found] == [
        ("example.com", "93.184.215.14", 443),
        ("example.com", "2606:4700::1111", 443),
    ]
    answer = await new_poster(network).post(to(f"http://example.com:{receiver.port}/"))
    assert "not one of the internet" in (answer.error or "")
    assert receiver.is_quiet


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_no_socket_is_opened_to_a_private_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(AddressRefused):
        resolved_to().open_socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))


async def test_a_name_whose_first_address_refuses_is_reached_at_its_second(
    receiver: Receiver, new_poster: NewPoster
) -> None:
    network = CheckedNetwork(private_targets=True, resolver=lambda _host, _port: ["127.0.0.9", "127.0.0.1"])
    answer = await new_poster(network).post(to(f"http://two.example.com:{receiver.port}/"))
    assert answer == Answer(status=204)


async def test_a_name_server_that_hangs_takes_one_thread_and_holds_up_no_other_name() -> None:
    go, asked = threading.Event(), []

    def resolver(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        if host == "slow.example.com":
            go.wait(20)
        raise OSError("no such name")

    network = CheckedNetwork(private_targets=False, resolver=resolver)
    slow = [asyncio.create_task(network.resolve("slow.example.com", 443)) for _ in range(20)]
    with pytest.raises(OSError, match="no such name"):
        await network.resolve("quick.example.com", 443)
    assert sorted(asked) == ["quick.example.com", "slow.example.com"]
    go.set()
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)


@pytest.mark.parametrize("found", [OSError("no such name"), UnicodeError("label too long"), []])
async def test_a_name_without_addresses_is_no_connection(found: Exception | list[str], new_poster: NewPoster) -> None:
    def resolver(_host: str, _port: int) -> Sequence[str]:
        if isinstance(found, Exception):
            raise found
        return found

    network = CheckedNetwork(private_targets=False, resolver=resolver)
    answer = await new_poster(network).post(to("https://nowhere.example.com/"))
    assert (answer.status, (answer.error or "")[:49]) == (None, "No connection: nowhere.example.com has no address")


def to(url: str) -> Post:
    return Post(0, url, {"content-type": "application/json"}, "{}")


@pytest.fixture
async def new_poster() -> AsyncIterator[NewPoster]:
    """Makes posters; all end with the test."""
    made: list[Poster] = []

    def make(network: CheckedNetwork) -> Poster:
        made.append(Poster(LIMITS, network))
        return made[-1]

    yield make
    for poster in made:
        await poster.close()


@pytest.fixture
def poster(new_poster: NewPoster) -> Poster:
    return new_poster(CheckedNetwork(private_targets=True, resolver=lambda _host, _port: ["127.0.0.1"]))


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("127.0.0.1", "127.0.0.1 has the address 127.0.0.1, which is not one of the internet."),
        ("localhost", "which is not one of the internet."),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1, which is not one of the internet."),
        ("127.1", "is not a canonical IPv4 address"),
        ("2130706433", "is not a canonical IPv4 address"),
        ("0x7f.1", "which is not one of the internet."),
    ],
)
async def test_an_address_of_ours_is_never_posted_to(
    host: str, error: str, receiver: Receiver, new_poster: NewPoster
) -> None:
    answer = await new_poster(CheckedNetwork(private_targets=False)).post(to(f"http://{host}:{receiver.port}/"))
    assert (answer.status, (answer.error or "")[-len(error) :]) == (None, error)
    assert receiver.is_quiet


async def test_silence_is_a_failure_after_a_while(receiver: Receiver) -> None:
    receiver.answer = receiver.hang
    poster = Poster(replace(LIMITS, delivery_seconds_max=0.1), CheckedNetwork(private_targets=True))
    answer = await poster.post(to(receiver.url))
    await poster.close()
    assert (answer.status, answer.error) == (None, "No answer within 0.1 seconds.")


async def test_an_answer_that_never_ends_is_read_so_far(poster: Poster, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(500, b"a" * 10_000_000)
    answer = await poster.post(to(receiver.url))
    assert (answer.status, len(answer.error or "")) == (500, 500)


async def answers_of(poster: Poster, said: bytes, count: int) -> tuple[list[Answer], int]:
    """The answers to posts one after another, from a server that says the same to each; and how many reached it."""
    reached = 0
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                reached += 1
                writer.write(said)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://example.com:{server.sockets[0].getsockname()[1]}/"
        answers = [await poster.post(to(url)) for _ in range(count)]
        await asyncio.gather(*(one for one in serving if one))
        return answers, reached


async def test_an_answer_that_nobody_asked_for_is_taken_for_no_other(poster: Poster) -> None:
    twice = b"HTTP/1.1 204 No Content\r\n\r\n" * 2
    assert await answers_of(poster, twice, 3) == ([Answer(status=204)] * 3, 3)


async def test_a_success_does_not_wait_for_its_body(poster: Poster) -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
    assert await answers_of(poster, endless, 1) == ([Answer(status=200)], 1)


async def test_a_refusal_whose_body_does_not_come_keeps_its_status() -> None:
    network = CheckedNetwork(private_targets=True, resolver=lambda _host, _port: ["127.0.0.1"])
    poster = Poster(replace(LIMITS, delivery_answer_seconds_max=0.1), network)
    cut = b"HTTP/1.1 503 Later\r\ncontent-length: 10\r\nretry-after: 7\r\n\r\nnot"
    answers, _ = await answers_of(poster, cut, 1)
    await poster.close()
    assert answers == [Answer(status=503, error="not", retry_after="7")]


@pytest.mark.parametrize("said", [b"220 smtp.example.com\r\n", b"HTTP/1.1 204 No\r\nx: " + b"a" * 20_000 + b"\r\n\r\n"])
async def test_what_is_no_http_is_a_failure(poster: Poster, said: bytes) -> None:
    [answer], _ = await answers_of(poster, said, 1)
    assert (answer.status, (answer.error or "")[:8]) == (None, "Not HTTP")


async def test_a_thread_that_cannot_be_started_fails_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    network = resolved_to("93.184.215.14")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            await network.resolve("example.com", 443)
    assert [one["host"] for one in await network.resolve("example.com", 443)] == ["93.184.215.14"]


async def test_an_address_that_is_none_is_a_failure(poster: Poster) -> None:
    answer = await poster.post(to("https://example.com\\@127.0.0.1/"))
    assert (answer.status, (answer.error or "")[:17]) == (None, "Nothing can be po")


async def test_tls_verifies_the_name(poster: Poster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to an address, and the certificate must be the name's all the same."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    name = ["-subj", "/CN=good.example.com", "-addext", "subjectAltName=DNS:good.example.com"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *name]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr("app.webhooks.posting.trusted", lambda: trusting)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await poster.post(to(f"https://good.example.com:{port}/"))).status == 204
        answer = await poster.post(to(f"https://bad.example.com:{port}/"))
    assert answer.status is None
    assert "certificate" in (answer.error or "").lower()
