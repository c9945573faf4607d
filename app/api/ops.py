"""Is it up, and can it work."""

import msgspec

from app.api.auth import Access
from app.api.http import Answer, Call, Route
from app.errors import Unavailable
from app.metrics import CONTENT_TYPE
from app.store.instance import read_revision


class HealthAnswer(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class ReadyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether each part works."""

    status: str
    database: bool
    writer: bool
    migrations: bool


async def health(_call: Call) -> Answer:
    """The process is up."""
    return Answer(HealthAnswer("ok"))


async def ready(call: Call) -> Answer:
    """The database answers, the writer writes, the schema is this version's; 503 otherwise."""
    writer = call.services.writer
    try:
        revision = await read_revision(call.services.db)
    except Unavailable:
        revision = None
    answer = ReadyAnswer(
        status="ok",
        database=revision is not None,
        writer=writer.alive and not writer.failing,
        migrations=revision == call.services.schema_revision,
    )
    if answer.database and answer.writer and answer.migrations:
        return Answer(answer)
    return Answer(msgspec.structs.replace(answer, status="not ready"), 503)


async def metrics(call: Call) -> Answer:
    """What the server counts, for Prometheus."""
    return Answer(call.services.metrics.text(), headers=((b"content-type", CONTENT_TYPE),))


ROUTES = (
    Route(
        method="GET",
        path="/metrics",
        access=Access(),
        handler=metrics,
        summary="What the server counts",
        answers={200: bytes},
    ),
    Route(
        method="GET",
        path="/healthz",
        access=Access(),
        handler=health,
        summary="The process is up",
        answers={200: HealthAnswer},
    ),
    Route(
        method="GET",
        path="/readyz",
        access=Access(),
        handler=ready,
        summary="The server can work",
        answers={200: ReadyAnswer, 503: ReadyAnswer},
    ),
)
