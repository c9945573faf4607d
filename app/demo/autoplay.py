"""Agent traffic for the demo: AI actions at a speed, while somebody watches."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Final, Literal

from app.api.services import Services
from app.demo.seed import CUSTOMER, action
from app.errors import ChargeError

log = logging.getLogger("chargly.demo")

Speed = Literal["slow", "normal", "fast"]
_SECONDS_BETWEEN: Final[dict[Speed, float]] = {"slow": 3.0, "normal": 1.0, "fast": 0.2}
_WEIGHTS: Final = {"chat.reply": 12, "doc.summarize": 4, "agent.run": 3, "image.generate": 1}


class Autoplay:
    """Runs actions one after another. One that the wallet cannot pay is refused, and it goes on after a top-up."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.on = True
        self.speed: Speed = "normal"

    def set(self, *, on: bool, speed: Speed) -> None:
        """Starts, stops, or changes the pace."""
        self.on, self.speed = on, speed
        self._changed.set()

    @contextlib.asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Runs for as long as the server does."""
        task = asyncio.create_task(self._run(services), name="autoplay")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, services: Services) -> None:
        while True:
            await self._pause()
            if self.on and services.hub.listening(CUSTOMER):
                await self._act(services)

    async def _pause(self) -> None:
        around = _SECONDS_BETWEEN[self.speed] * random.uniform(0.6, 1.4)  # noqa: S311 - a rhythm, not a secret
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(around):
                await self._changed.wait()
                self._changed.clear()

    async def _act(self, services: Services) -> None:
        [event] = random.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))  # noqa: S311
        try:
            await services.writer.submit(action(event))
        except ChargeError as refusal:
            log.debug("autoplay: %s", refusal.message)
