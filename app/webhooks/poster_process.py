"""The process that posts for a server: what posting takes of a processor, metering does not wait for.

It ends when the server does, or closes its pipe.
"""

import asyncio
import os
import sys
from typing import BinaryIO, Final

import uvloop

from app.logs import set_up_logging
from app.webhooks.frames import Answered, Post, frame, next_frame, posts_in, setup_in
from app.webhooks.network import CheckedNetwork
from app.webhooks.posting import Poster

_NICE: Final = 10
"""Where processors are short, the server's own requests come first."""


def main() -> None:
    """Posts what comes by standard input; answers go by standard output, where nothing else is written from here on."""
    os.nice(_NICE)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    set_up_logging()
    uvloop.run(_serve(sys.stdin.buffer, answers))


async def _serve(posts: BinaryIO, answers: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), posts)
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, answers)
    first = await next_frame(reader)
    if first is None:
        return
    setup = setup_in(first)
    poster = Poster(setup.limits, CheckedNetwork(private_targets=setup.private_targets))
    answered: list[Answered] = []
    posting: set[asyncio.Task[None]] = set()

    def tell() -> None:
        known = answered[:]
        answered.clear()
        if not writer.is_closing():  # else the server has ended, and sends them again
            writer.write(frame(known))

    async def post(one: Post, begins_in_seconds: float) -> None:
        await asyncio.sleep(begins_in_seconds)
        answer = await poster.post(one)
        if not answered:  # others are answered in a moment, and the server is woken once for all of them
            loop.call_later(setup.limits.delivery_frame_gather_seconds, tell)
        answered.append(Answered(one.number, answer))

    while (content := await next_frame(reader)) is not None:
        together = posts_in(content)
        # All at once, they would keep processors from the server for as long as all of them take.
        pause = setup.limits.deliveries_spread_seconds / len(together)
        for number, one in enumerate(together):
            task = asyncio.create_task(post(one, number * pause))
            posting.add(task)
            task.add_done_callback(posting.discard)
    under_way = list(posting)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    await poster.close()
