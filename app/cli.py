"""The command `chargly`.

What only a server needs is imported where one is started, so that the other commands answer at once.
"""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from starlette.types import ASGIApp

from app import __version__
from app.config import Config, load, url_host
from app.errors import ChargeError, StartRefused
from app.rules.times import rfc3339
from app.store.db import Database, sqlite_path
from app.store.keys import ApiKey, create_key, list_keys, revoke_key
from app.store.migrate import migrate
from app.store.server_lock import ServerLock

T = TypeVar("T")

cli = typer.Typer(
    name="chargly",
    help="The open, self-hosted credit wallet for AI products.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys: made, listed, revoked.", no_args_is_help=True)
cli.add_typer(keys, name="keys")

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class KeyScope(StrEnum):
    """What a key may do; `admin` may do everything."""

    METER = "meter"
    PRICES = "prices"
    ADMIN = "admin"


@cli.command("serve")
def serve_command() -> None:
    """Run the server."""
    from app.main import create_app

    config = load()
    with _listen(config) as listening, ServerLock(config.database_url):
        migrate(config)
        _say(
            f"Chargly {__version__} listens on {_address(listening)} and keeps its ledger in {_database_name(config)}."
        )
        _run(create_app(config), config, listening)


@cli.command("demo")
def demo_command() -> None:
    """Run the server with a demo wallet, an autoplay of AI actions, and a Stripe sandbox where no key is set."""
    from app import demo
    from app.main import create_demo_app

    loaded = load()
    config = demo.configured(loaded)
    with _listen(config) as listening:
        config = demo.with_sandbox(config, port=listening.getsockname()[1])
        with ServerLock(config.database_url):
            demo.check_ledger(config)
            migrate(config)
            _say(demo.welcome(config, _address(listening), key_is_ours=loaded.api_key is None))
            _run(create_demo_app(config), config, listening)


@cli.command("migrate")
def migrate_command(*, as_json: AsJSON = False) -> None:
    """Bring the database to this version's schema."""
    config = load()
    revision = migrate(config)
    _show({"revision": revision}, f"The database is at revision {revision}.", as_json=as_json)


@cli.command("version")
def version_command(*, as_json: AsJSON = False) -> None:
    """Print the version."""
    _show({"version": __version__}, f"chargly {__version__}", as_json=as_json)


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Who or what uses it.", min=1)],
    scope: Annotated[KeyScope, typer.Option(help="What it may do.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Make a key. It is shown now and never again."""
    key, secret = _with_database(lambda db: create_key(db, name, scope.value))
    path = sqlite_path(load().database_url).resolve()
    ledger = f"It opens the ledger {path}. Keep it: it is not shown again."
    _show(_key_fields(key) | {"key": secret}, f"{secret}\n\n{ledger}", as_json=as_json)


@keys.command("list")
def keys_list(*, as_json: AsJSON = False) -> None:
    """List keys, without their secrets."""
    found = _with_database(list_keys)
    lines = [f"{key.id}  {key.scope:<6}  {'revoked' if key.revoked_at else 'open':<7}  {key.name}" for key in found]
    _show({"keys": [_key_fields(key) for key in found]}, "\n".join(lines) or "There are no keys yet.", as_json=as_json)


@keys.command("revoke")
def keys_revoke(key: Annotated[str, typer.Argument(help="Its id or name.")], *, as_json: AsJSON = False) -> None:
    """Revoke a key; running servers feel it within five seconds."""
    revoked = _with_database(lambda db: revoke_key(db, key))
    text = "\n".join(f"Revoked {one.name} ({one.id})." for one in revoked)
    _show({"keys": [_key_fields(one) for one in revoked]}, text, as_json=as_json)


def main() -> None:
    """Runs the command; what refuses to start says why in one sentence and exits with 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for quiet in ("httpx", "stripe", "alembic", "databases"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    try:
        cli()
    except StartRefused as refused:
        sys.exit(f"chargly: {refused}")
    except ChargeError as error:
        sys.exit(f"chargly: {error.message}")


def _with_database(act: Callable[[Database], Awaitable[T]]) -> T:
    """Runs one act on the database, brought to this version's schema, beside a running server or not."""
    config = load()
    migrate(config)

    async def run() -> T:
        db = Database(config)
        await db.open()
        try:
            return await act(db)
        finally:
            await db.close()

    return asyncio.run(run())


def _listen(config: Config) -> socket.socket:
    """The listening socket, taken before anything else so that a port in use is a sentence.

    Raises:
        StartRefused: the address cannot be listened on.

    """
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a peer that stops reading is let go, whatever the library waits for
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, config.limits.tcp_user_timeout_ms)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise StartRefused(
            f"{config.host}:{config.port} cannot be listened on ({error.strerror or error}): "
            "stop what uses it, or set PORT to another one."
        ) from error
    return listening


def _run(app: ASGIApp, config: Config, listening: socket.socket) -> None:
    import uvicorn

    from app.api.connection import Connection

    limits = config.limits
    # SQLite's thread needs the GIL back after each statement, and a busy loop would keep it for the default 5 ms.
    sys.setswitchinterval(limits.gil_switch_seconds)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=Connection,
            ws="websockets-sansio",
            ws_max_size=limits.live_message_bytes_max,
            ws_per_message_deflate=False,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=limits.shutdown_seconds_max,
        )
    )
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(1)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{url_host(host)}:{port}"


def _database_name(config: Config) -> str:
    return config.database_url.removeprefix("sqlite:///")


def _key_fields(key: ApiKey) -> dict[str, Any]:
    times = {
        "created_at": rfc3339(key.created_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }
    return msgspec.structs.asdict(key) | times


def _show(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    _say(json.dumps(data, ensure_ascii=False) if as_json else text)


def _say(text: str) -> None:
    typer.echo(text)
    sys.stdout.flush()
