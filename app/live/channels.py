"""Which channel the processes that share a ledger are joined by."""

import asyncio

from app.config import Config
from app.live.bus import Channel, Notice, encode_notice
from app.store.dialect import dialect_of


def open_channel(config: Config, epoch: str) -> Channel | None:
    """How the processes that share a ledger hear of each other; None where there is one.

    Args:
        config: names the database, and the bus where it is not the database.
        epoch: the ledger's, which keeps ledgers apart.

    """
    name = f"chargly:{epoch}"
    if config.bus_url is not None:
        from app.live.redis_channel import RedisChannel  # noqa: PLC0415 - redis is there only with its extra

        return RedisChannel(config.bus_url, name, config.limits)
    if dialect_of(config.database_url).is_sqlite:
        return None
    from app.store.postgres_channel import PostgresChannel  # noqa: PLC0415 - asyncpg is there only with its extra

    return PostgresChannel(config, name)


async def tell_once(channel: Channel, notice: Notice, seconds_max: float) -> bool:
    """Tells the servers something from outside of them, such as from a command.

    Args:
        channel: to them.
        notice: what they are told.
        seconds_max: how long it may take.

    Returns:
        Whether it was sent; who hears it is not known.

    """
    try:
        async with asyncio.timeout(seconds_max), channel.connected(lambda _text: None) as publish:
            await publish([encode_notice(notice)])
    except channel.failures:
        return False
    return True
