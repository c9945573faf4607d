"""Sending: a message is signed, and posted by a process that this one starts when it first has something to send."""

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Final

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


class Sender:
    """Sends messages by a process, which the first message starts. Where it ends, the next message starts another one.

    `close` ends it.

    Args:
        config: `webhook_private_targets`, and the limits of deliveries.

    """

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._setup = Setup(config.webhook_private_targets, config.limits)
        self._process: _PosterProcess | None = None
        self._starting = asyncio.Lock()
        self._next_start_at = 0.0
        self._numbers: Iterator[int] = itertools.count()

    async def send(self, due: Due) -> Answer:
        """Posts a message once. Whatever goes wrong at its endpoint, or on the way there, is an answer too.

        Raises:
            NotSent: the process could not be started, or ended meanwhile.

        """
        process = await self._running()
        try:
            async with asyncio.timeout(
                self._limits.delivery_seconds_max
                + self._limits.delivery_answer_seconds_max
                + self._limits.delivery_process_grace_seconds
            ):
                return await process.post(self._post_of(due))
        except TimeoutError as error:  # it keeps time by itself, unless it hangs
            process.kill()
            raise NotSent("the process that posts did not answer") from error

    async def close(self) -> None:
        """Ends the process; what is under way there is sent again later."""
        if self._process is not None:
            await self._process.close(self._limits)

    def _post_of(self, due: Due) -> Post:
        body = due.delivery.payload
        headers = {
            "user-agent": _USER_AGENT,
            "content-type": "application/json",
            **signed_headers(due.endpoint, due.delivery.message_id, body, int(time.time())),
        }
        return Post(next(self._numbers), due.endpoint.url, headers, body)

    async def _running(self) -> "_PosterProcess":
        async with self._starting:
            if self._process is not None and not self._process.has_ended:
                return self._process
            now = time.monotonic()
            if now < self._next_start_at:
                raise NotSent("the process that posts was started a moment ago")
            self._next_start_at = now + self._limits.delivery_process_seconds_between
            try:
                self._process = await _PosterProcess.start(self._setup)
            except OSError as error:
                raise NotSent(f"no process can be started: {error}") from error
            return self._process


class _PosterProcess:
    """A process that posts, seen from the server."""

    def __init__(self, process: asyncio.subprocess.Process, posts: asyncio.StreamWriter, gather_seconds: float) -> None:
        self._process = process
        self._posts = posts
        self._gather_seconds = gather_seconds
        self._waiting: list[Post] = []
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._reading: asyncio.Task[None] | None = None
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

    async def post(self, post: Post) -> Answer:
        """Has something posted.

        Raises:
            NotSent: it has ended, or does meanwhile.

        """
        if self.has_ended:
            raise NotSent(_ENDED)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[post.number] = answer
        self._waiting.append(post)
        if len(self._waiting) == 1:  # others follow in a moment, and the process is woken once for all of them
            asyncio.get_running_loop().call_later(self._gather_seconds, self._hand_over)
        try:
            return await answer
        finally:
            self._answers.pop(post.number, None)

    def kill(self) -> None:
        """Ends it at once."""
        self.has_ended = True
        if self._process.returncode is None:
            self._process.kill()

    async def close(self, limits: Limits) -> None:
        """Ends it, in good order if it can."""
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

    async def _read(self, answers: asyncio.StreamReader) -> None:
        try:
            while (content := await next_frame(answers)) is not None:
                for answered in answers_in(content):
                    answer = self._answers.get(answered.number)
                    if answer is not None and not answer.done():
                        answer.set_result(answered.answer)
                        await asyncio.sleep(0)  # one in each turn of the loop, as they went
        except Exception:
            log.exception("what the process that posts webhooks said is not understood")
            self.kill()
        finally:
            self.has_ended = True
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(NotSent(_ENDED))


_ENDED: Final = "the process that posts ended"
