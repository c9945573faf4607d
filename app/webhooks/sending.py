"""Sending: a message is signed, and posted by a process that this one starts when it first has something to send."""

import asyncio
import itertools
import json
import logging
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
_PROGRAM: Final = (
    # It imports what this process would, whatever folder it is started in.
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from app.webhooks.poster_process import main; main()"
)


class Sender:
    """Sends messages. Where its process ends, what was under way failed, and the next message starts another one.

    `close` ends the process.

    Args:
        config: `webhook_private_targets`, and the limits of deliveries.

    """

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._setup = Setup(config.webhook_private_targets, config.limits)
        self._process: _PosterProcess | None = None
        self._starting = asyncio.Lock()
        self._started_at = -self._limits.delivery_process_seconds_between
        self._numbers: Iterator[int] = itertools.count()

    async def send(self, due: Due) -> Answer:
        """Posts a message once. Whatever goes wrong is an answer too."""
        try:
            process = await self._running()
        except OSError:
            log.exception("webhooks cannot be sent: no process can be started for it")
            return Answer(status=None, error="It could not be sent; the server's log says why.")
        seconds = self._limits.delivery_seconds_max
        try:
            async with asyncio.timeout(seconds + self._limits.delivery_process_grace_seconds):
                return await process.post(self._post_of(due))
        except TimeoutError:  # it keeps time by itself, unless it hangs
            process.kill()
            return Answer(status=None, error=f"No answer within {seconds:g} seconds.")

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
            if self._process is None or self._process.has_ended:
                again_at = self._started_at + self._limits.delivery_process_seconds_between
                await asyncio.sleep(again_at - time.monotonic())
                self._started_at = time.monotonic()
                self._process = await _PosterProcess.start(self._setup)
            return self._process


class _PosterProcess:
    """A process that posts, seen from the server."""

    def __init__(self, process: asyncio.subprocess.Process, posts: asyncio.StreamWriter) -> None:
        self._process = process
        self._posts = posts
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
        )
        assert process.stdin is not None
        assert process.stdout is not None
        started = cls(process, process.stdin)
        process.stdin.write(frame(setup))
        started._reading = asyncio.create_task(started._read(process.stdout), name="webhook-answers")
        return started

    async def post(self, post: Post) -> Answer:
        """Has something posted."""
        if self.has_ended:
            return _ENDED
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[post.number] = answer
        self._waiting.append(post)
        if len(self._waiting) == 1:  # all of one turn of the loop go as one
            asyncio.get_running_loop().call_soon(self._hand_over)
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
        self._posts.write(frame(self._waiting))
        self._waiting.clear()

    async def _read(self, answers: asyncio.StreamReader) -> None:
        while (content := await next_frame(answers)) is not None:
            for answered in answers_in(content):
                answer = self._answers.get(answered.number)
                if answer is not None and not answer.done():
                    answer.set_result(answered.answer)
        self.has_ended = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(_ENDED)
        status = await self._process.wait()
        if status:
            log.error("the process that sends webhooks ended with %d; what was under way is sent again", status)


_ENDED: Final = Answer(status=None, error="The process that sends ended meanwhile; it may have arrived.")
