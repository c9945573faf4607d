"""The command `chargly`.

What only a server needs is imported where one is started, so that the other commands answer at once.
"""

import errno
import logging
import socket
import sys
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from starlette.types import ASGIApp

from app import __version__
from app.commands.backing_up import backup_command
from app.commands.console import AsJSON, note, say, show, with_database, with_open
from app.commands.ledger import export_command, import_command
from app.commands.verifying import verify_command
from app.config import Config, load, url_host
from app.errors import ChargeError, StartRefused
from app.rules.times import rfc3339
from app.store.keys import ApiKey, create_key, list_keys, revoke_key
from app.store.migrate import ledger_name, migrate
from app.store.server_lock import ServerLock

cli = typer.Typer(
    name="chargly",
    help="The open, self-hosted credit wallet for AI products.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys: made, listed, revoked.", no_args_is_help=True)
cli.add_typer(keys, name="keys")
cli.command("backup")(backup_command)
cli.command("export")(export_command)
cli.command("import")(import_command)
cli.command("verify")(verify_command)


class KeyScope(StrEnum):
    """What a key may do; `admin` may do everything."""

    METER = "meter"
    PRICES = "prices"
    ADMIN = "admin"


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        say(f"chargly {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """The options of `chargly` itself. Its help is the app's."""


@cli.command("serve")
def serve_command() -> None:
    """Run the server."""
    from app.main import create_app

    config = load()
    with _listen(config) as listening, ServerLock(config.database_url):
        migrate(config)
        say(f"Chargly {__version__} listens on {_address(listening)} and keeps its ledger in {ledger_name(config)}.")
        if config.api_key is None and not with_open(config, list_keys):
            say("There are no keys yet: chargly keys create --name ops --scope admin")
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
            say(demo.welcome(config, _address(listening), key_is_ours=loaded.api_key is None))
            _run(create_demo_app(config), config, listening)


@cli.command("migrate")
def migrate_command(*, as_json: AsJSON = False) -> None:
    """Bring the database to this version's schema."""
    config = load()
    revision = migrate(config)
    show({"revision": revision}, f"The database is at revision {revision}.", as_json=as_json)


@cli.command("version")
def version_command(*, as_json: AsJSON = False) -> None:
    """Print the version."""
    show({"version": __version__}, f"chargly {__version__}", as_json=as_json)


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Who or what uses it.", min=1)],
    scope: Annotated[KeyScope, typer.Option(help="What it may do.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Make a key. It is shown now and never again: on standard output, alone."""
    key, secret = with_database(lambda db: create_key(db, name, scope.value), only_existing=False)
    ledger = ledger_name(load())
    show(_key_fields(key) | {"key": secret, "ledger": ledger}, secret, as_json=as_json)
    if not as_json:
        note(f"It opens the ledger {ledger}. Keep it: it is not shown again.")


@keys.command("list")
def keys_list(*, as_json: AsJSON = False) -> None:
    """List keys, without their secrets."""
    found = with_database(list_keys)
    ledger = ledger_name(load())
    if found or as_json:
        fields = {"keys": [_key_fields(key) for key in found], "ledger": ledger}
        show(fields, "\n".join(_line(key) for key in found), as_json=as_json)
    if not as_json:
        note(f"Keys of the ledger {ledger}." if found else f"The ledger {ledger} has no keys yet.")


@keys.command("revoke")
def keys_revoke(key: Annotated[str, typer.Argument(help="Its id or name.")], *, as_json: AsJSON = False) -> None:
    """Revoke a key; running servers feel it within five seconds."""
    revoked = with_database(lambda db: revoke_key(db, key))
    ledger = ledger_name(load())
    text = f"Revoked {revoked.name} ({revoked.id}) of the ledger {ledger}."
    show({"keys": [_key_fields(revoked)], "ledger": ledger}, text, as_json=as_json)


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
        raise StartRefused(_why_not_listening(config, error)) from error
    return listening


def _why_not_listening(config: Config, error: OSError) -> str:
    said = error.strerror or error
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"HOST must be an address or name of this machine, and it is {config.host!r} ({said})."
    where = f"{url_host(config.host)}:{config.port}"
    return f"{where} cannot be listened on ({said}): stop what uses it, or set PORT to another one."


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


def _line(key: ApiKey) -> str:
    until = "open" if key.revoked_at is None else f"revoked {rfc3339(key.revoked_at)}"
    return f"{key.id}  {key.scope:<6}  made {rfc3339(key.created_at)}  {until:<32}  {key.name}"


def _key_fields(key: ApiKey) -> dict[str, Any]:
    times = {
        "created_at": rfc3339(key.created_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }
    return msgspec.structs.asdict(key) | times
