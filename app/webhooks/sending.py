"""Sending: a message is signed, and posted by a process that this one starts when it first has something to send."""

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from app import __version__
from app.config import Config, Limits
from app.store.deliveries import Due
from app.webhooks.frames import Answer, Post, Setup, answers_in, frame, next_frame
from app.webhooks.signing import signed_headers

log = logging.getLogger("chargly.webhooks")

_USER_AGENT: Final = f"Chargly/{__version__}"
_PROGRAM: Final = """
import json, os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group of processes: the server says when to end
    signal.signal(number, signal.SIG_IGN)
os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # a worker's own, such as the listening socket
sys.path[:] = json.loads(sys.argv[1])  # it imports what the server would, whatever folder that is in
from app.webhooks.poster_process import main
main()
"""
_SECRETS: Final = ("CHARGLY_", "STRIPE_", "DATABASE_", "REDIS_")
"""How our own settings begin: what reads strangers' answers has no use for them."""


class NotSent(Exception):
    """A fault of ours and of no endpoint's: it is not known whether anything was sent, and no attempt is counted."""


Ended = Callable[[Due, Answer | NotSent], None]
"""Told what became of a message. Nothing is told of those that were under way when their sender was closed."""


class Sender:
    """Sends messages by a process. Where it ends, `start` starts another one; `close` ends it.

    No task waits for an answer: of thousands in a minute, metering would feel each.

    Args:
        config: `webhook_private_targets`, and the limits of deliveries.

    """

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._setup = Setup(config.webhook_private_targets, config.limits)
        self._process: _PosterProcess | None = None
        self._next_start_at = 0.0
        self._numbers: Iterator[int] = itertools.count()

    async def start(self) -> None:
        """Starts the process, where there is none that runs.

        Raises:
            NotSent: it could not be started.

        """
        if self._process is not None and not self._process.has_ended:
            return
        now = time.monotonic()
        if now < self._next_start_at:
            raise NotSent("the process that posts was started a moment ago")
        self._next_start_at = now + self._limits.delivery_process_seconds_between
        try:
            self._process = await _PosterProcess.start(self._setup)
        except OSError as error:
            raise NotSent(f"no process can be started: {error}") from error

    def send(self, due: Due, ended: Ended) -> None:
        """Has a message posted once.

        Args:
            due: which, and where to.
            ended: told of it, once: an answer, whatever went wrong at its endpoint or on the way there; `NotSent` where
                the process ended meanwhile.

        Raises:
            NotSent: no process runs.

        """
        if self._process is None or self._process.has_ended:
            raise NotSent(_ENDED)
        self._process.post(self._post_of(due), _UnderWay(due, ended, time.monotonic() + self._answer_seconds))

    async def close(self) -> None:
        """Ends the process; what is under way there is sent again later."""
        if self._process is not None:
            await self._process.close(self._limits)

    @property
    def _answer_seconds(self) -> float:
        """How long an answer may take: the process keeps time by itself, unless it hangs."""
        limits = self._limits
        return (
            limits.deliveries_spread_seconds
            + limits.delivery_seconds_max
            + limits.delivery_answer_seconds_max
            + limits.delivery_process_grace_seconds
        )

    def _post_of(self, due: Due) -> Post:
        body = due.delivery.payload
        headers = {
            "user-agent": _USER_AGENT,
            "content-type": "application/json",
            **signed_headers(due.endpoint, due.delivery.message_id, body, int(time.time())),
        }
        return Post(next(self._numbers), due.endpoint.url, headers, body)


class _UnderWay(NamedTuple):
    """A message that the process has; `give_up_at` is when it hangs, by the monotonic clock."""

    due: Due
    ended: Ended
    give_up_at: float


class _PosterProcess:
    """A process that posts, seen from the server."""

    def __init__(self, process: asyncio.subprocess.Process, posts: asyncio.StreamWriter, gather_seconds: float) -> None:
        self._process = process
        self._posts = posts
        self._gather_seconds = gather_seconds
        self._waiting: list[Post] = []
        self._under_way: dict[int, _UnderWay] = {}
        """By number, the oldest first."""
        self._watching: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self._why_ended = _ENDED
        self.has_ended = False

    @classmethod
    async def start(cls, setup: Setup) -> "_PosterProcess":
        """Starts one.

        Raises:
            OSError: there is no room for another process.

        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            _PROGRAM,
            json.dumps(sys.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        started = cls(process, process.stdin, setup.limits.delivery_frame_gather_seconds)
        process.stdin.write(frame(setup))
        started._reading = asyncio.create_task(started._read(process.stdout), name="webhook-answers")
        return started

    def post(self, post: Post, under_way: _UnderWay) -> None:
        """Has something posted."""
        loop = asyncio.get_running_loop()
        self._under_way[post.number] = under_way
        if self._watching is None:
            self._watching = loop.call_later(under_way.give_up_at - time.monotonic(), self._watch)
        self._waiting.append(post)
        if len(self._waiting) == 1:  # others follow in a moment, and the process is woken once for all of them
            loop.call_later(self._gather_seconds, self._hand_over)

    def kill(self) -> None:
        """Ends it at once."""
        self.has_ended = True
        if self._process.returncode is None:
            self._process.kill()

    async def close(self, limits: Limits) -> None:
        """Ends it, in good order if it can. Nothing is told of what is under way."""
        self._under_way.clear()
        if self._watching is not None:
            self._watching.cancel()
        self._posts.close()
        try:
            await asyncio.wait_for(self._process.wait(), limits.delivery_process_stop_seconds_max)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    def _hand_over(self) -> None:
        posts = self._waiting[:]
        self._waiting.clear()
        if not self._posts.is_closing():  # else it has ended, and those who wait are told
            self._posts.write(frame(posts))

    def _watch(self) -> None:
        """Kills a process that has kept the oldest message for too long; one timer is enough for all."""
        self._watching = None
        oldest = next(iter(self._under_way.values()), None)
        if oldest is None or self.has_ended:
            return
        left = oldest.give_up_at - time.monotonic()
        if left > 0:
            self._watching = asyncio.get_running_loop().call_later(left, self._watch)
            return
        self._why_ended = "the process that posts did not answer"
        self.kill()

    async def _read(self, answers: asyncio.StreamReader) -> None:
        try:
            while (content := await next_frame(answers)) is not None:
                for answered in answers_in(content):
                    if (one := self._under_way.pop(answered.number, None)) is not None:
                        one.ended(one.due, answered.answer)
                        await asyncio.sleep(0)  # one in each turn of the loop, as they went
        except Exception:
            log.exception("what the process that posts webhooks said is not understood")
            self.kill()
        finally:
            self.has_ended = True
            while self._under_way:
                _, one = self._under_way.popitem()
                one.ended(one.due, NotSent(self._why_ended))


_ENDED: Final = "the process that posts ended"
