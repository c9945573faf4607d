"""The process that posts for a server: it ends with the server, and the server outlives it."""

import asyncio
import os
import select
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from serving import ServerProcess
from webhooks.receiver import Hooks, Receiver, Reply

from app.config import LIMITS, Config
from app.store.deliveries import Delivery, Due
from app.store.webhooks import Endpoint
from app.webhooks.frames import Answer, Post, Setup
from app.webhooks.sending import NotSent, Sender, _PosterProcess, _UnderWay
from app.webhooks.signing import new_secret

SECRET = new_secret()
NewSender = Callable[..., Sender]


def due(url: str) -> Due:
    """A message on its way to an endpoint."""
    delivery = Delivery(
        id="del_1",
        endpoint_id="whe_1",
        message_id="msg_1",
        customer_id="",
        position=0,
        type="webhook.test",
        payload='{"type":"webhook.test"}',
        status="pending",
        attempts=0,
        next_at=0,
        created_at=0,
        ended_at=None,
        answer_status=None,
        error=None,
    )
    return Due(delivery, Endpoint(id="whe_1", url=url, events=("*",), secret=SECRET, created_at=0, updated_at=0))


@pytest.fixture
async def new_sender() -> AsyncIterator[NewSender]:
    """Makes senders that may post to this machine, with further limits; all end with the test."""
    made: list[Sender] = []

    def make(**limits: float) -> Sender:
        quick = replace(LIMITS, **{"delivery_process_seconds_between": 0.0} | limits)
        made.append(Sender(Config(webhook_private_targets=True, limits=quick)))
        return made[-1]

    yield make
    for sender in made:
        await sender.close()


async def its_process(sender: Sender) -> int:
    """The id of a sender's process, which it starts where it has none."""
    await sender.start()
    assert sender._process is not None
    return sender._process._process.pid


async def send(sender: Sender, url: str) -> Answer:
    """Sends a message and waits for what becomes of it."""
    [answer] = await all_sent(sender, [url])
    return answer


async def all_sent(sender: Sender, urls: Sequence[str]) -> list[Answer]:
    """Sends messages together and waits for what becomes of them."""
    await sender.start()
    return await asyncio.gather(*(sent(sender, url) for url in urls))


def sent(sender: Sender, url: str) -> asyncio.Future[Answer]:
    """What becomes of a message that is sent now."""
    outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def ended(_: Due, answer: Answer | NotSent) -> None:
        if isinstance(answer, NotSent):
            outcome.set_exception(answer)
        else:
            outcome.set_result(answer)

    sender.send(due(url), ended)
    return outcome


async def under_way(sender: Sender, receiver: Receiver) -> asyncio.Future[Answer]:
    """What becomes of a message that was received, and is not answered."""
    receiver.answer = receiver.hang
    await sender.start()
    outcome = sent(sender, receiver.url)
    await asyncio.to_thread(receiver.next)
    return outcome


async def test_messages_arrive_signed(new_sender: NewSender, receiver: Receiver) -> None:
    sender = new_sender()
    answers = await all_sent(sender, [receiver.url] * 20)
    assert answers == [Answer(status=204)] * 20
    for received in receiver.take(20):
        assert received.verify(SECRET) == {"type": "webhook.test"}
        assert received.headers["user-agent"].startswith("Chargly/")


async def test_those_sent_together_do_not_begin_together(new_sender: NewSender, receiver: Receiver) -> None:
    sender = new_sender(deliveries_spread_seconds=0.5)
    await send(sender, receiver.url)  # from here on its process runs, and takes what is sent together as one
    sent_at = time.monotonic()
    await all_sent(sender, [receiver.url] * 10)
    assert time.monotonic() - sent_at >= 0.45


async def test_each_answer_is_that_of_its_message(new_sender: NewSender, receiver: Receiver) -> None:
    receiver.answer = lambda received: Reply(int(received.path[-3:]), b"because")
    sender = new_sender()
    statuses = [500 + number for number in range(40)]
    answers = await all_sent(sender, [f"{receiver.url}/{status}" for status in statuses])
    assert answers == [Answer(status=status, error="because") for status in statuses]


async def test_a_process_that_ends_is_no_endpoints_fault_and_another_one_follows(
    new_sender: NewSender, receiver: Receiver
) -> None:
    sender = new_sender()
    sending = await under_way(sender, receiver)
    first = await its_process(sender)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(NotSent, match="ended"):
        await sending
    receiver.answer = lambda _: Reply()
    assert await send(sender, receiver.url) == Answer(status=204)
    assert await its_process(sender) != first


async def test_a_process_that_hangs_is_replaced(new_sender: NewSender, receiver: Receiver) -> None:
    patience = {"delivery_seconds_max": 0.1, "delivery_answer_seconds_max": 0.1, "delivery_process_grace_seconds": 0.1}
    sender = new_sender(**patience)
    hanging = await its_process(sender)
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(NotSent, match="did not answer"):
        await send(sender, receiver.url)
    assert await its_process(sender) != hanging


async def test_a_signal_to_the_whole_group_leaves_what_is_under_way(new_sender: NewSender, receiver: Receiver) -> None:
    sender = new_sender()
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(_: object) -> Reply:
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(20)
        return Reply()

    receiver.answer = answer
    sending = asyncio.create_task(send(sender, receiver.url))
    await asyncio.to_thread(receiver.next)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(await its_process(sender), number)
    go.set()
    assert await sending == Answer(status=204)


async def test_it_ends_when_it_is_told(new_sender: NewSender, receiver: Receiver) -> None:
    sender = new_sender(delivery_process_stop_seconds_max=20.0)
    sending = await under_way(sender, receiver)
    assert sender._process is not None
    process = sender._process._process
    await sender.close()
    assert process.returncode == 0
    assert not sending.done()  # nothing is known of it
    with pytest.raises(NotSent):
        sent(sender, receiver.url)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc, which Linux has")
async def test_it_says_nothing_where_its_server_ended_before_an_answer(
    receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = replace(LIMITS, delivery_frame_gather_seconds=0.05, deliveries_spread_seconds=1.0)
    process = await _PosterProcess.start(Setup(private_targets=True, limits=limits))
    for number in range(2):
        under_way = _UnderWay(due(receiver.url), lambda *_: None, time.monotonic() + 60)
        process.post(Post(number, receiver.url, {}, "{}"), under_way)
    answers = process._process._transport.get_pipe_transport(1)  # type: ignore[attr-defined] - asyncio gives no other way
    answers.close()
    await asyncio.to_thread(receiver.take, 2)  # the second one begins long after the first one's answer was to be told
    await process.close(limits)
    assert process._process.returncode == 0
    assert capfd.readouterr().err == ""


async def test_where_no_process_can_be_started_no_attempt_is_made(
    new_sender: NewSender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = new_sender()
    with monkeypatch.context() as missing:
        missing.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(NotSent, match="no process can be started"):
            await send(sender, receiver.url)
    assert await send(sender, receiver.url) == Answer(status=204)


async def test_processes_are_not_started_one_after_the_other(new_sender: NewSender, receiver: Receiver) -> None:
    sender = new_sender(delivery_process_seconds_between=60.0)
    os.kill(await its_process(sender), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(NotSent):
            await send(sender, receiver.url)


async def test_a_header_of_odd_bytes_disturbs_no_other_answer(new_sender: NewSender, receiver: Receiver) -> None:
    receiver.answer = lambda received: (
        Reply(503, headers={"retry-after": "\xff" * 2_000}) if received.path.endswith("odd") else Reply()
    )
    sender = new_sender()
    odd, *others = await all_sent(sender, [f"{receiver.url}/odd", *[receiver.url] * 5])
    assert (odd.status, odd.retry_after) == (503, None)
    assert others == [Answer(status=204)] * 5
    assert await send(sender, receiver.url) == Answer(status=204)


async def test_it_knows_none_of_the_servers_secrets_and_holds_none_of_its_files(
    new_sender: NewSender, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_of_nobody")
    with socket.socket() as listening:
        listening.set_inheritable(True)
        sender = new_sender()
        assert (await send(sender, receiver.url)).is_success
        process = Path(f"/proc/{await its_process(sender)}")
        if not process.exists():
            pytest.skip("looks into /proc, which Linux has")
        assert b"sk_live_of_nobody" not in (process / "environ").read_bytes()
        inode = f"socket:[{os.fstat(listening.fileno()).st_ino}]"
        assert inode not in {os.readlink(one) for one in (process / "fd").iterdir()}


async def test_it_imports_nothing_from_the_folder_that_it_is_started_in(
    new_sender: NewSender, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("app", "json", "aiohttp"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    assert await send(new_sender(), receiver.url) == Answer(status=204)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc, which Linux has")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_server(
    quick_server: Callable[..., ServerProcess], receiver: Receiver, number: signal.Signals
) -> None:
    server = quick_server()
    with server.client() as api:
        endpoint = Hooks(api).add(receiver.url)
        Hooks(api).test(endpoint)
        receiver.next()
    assert server.process is not None
    [child] = children(server.process.pid)
    ended = os.pidfd_open(child)
    server.stop(number)
    wait_readable(ended)


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_readable(fd: int) -> None:
    """Waits until the process behind a descriptor has ended."""
    try:
        assert select.select([fd], [], [], 20)[0]
    finally:
        os.close(fd)
