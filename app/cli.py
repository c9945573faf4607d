"""The command `chargly`.

What only a server needs is imported where one is started, so that the other commands answer at once.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import typer

from app import __version__
from app.commands.backing_up import backup_command
from app.commands.console import AsJSON, say, show, with_open
from app.commands.keys import keys
from app.commands.ledger import export_command, import_command
from app.commands.prices import prices
from app.commands.verifying import verify_command
from app.commands.widget import widget_command
from app.config import WORKERS_MAX, Config, load, url_host
from app.errors import ChargeError, StartRefused
from app.logs import set_up_logging
from app.store.dialect import dialect_of
from app.store.keys import list_keys
from app.store.migrate import ledger_name, migrate
from app.store.server_lock import ServerLock

cli = typer.Typer(
    name="chargly",
    help="The open, self-hosted credit wallet for AI products.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(keys, name="keys")
cli.add_typer(prices, name="prices")
cli.command("backup")(backup_command)
cli.command("export")(export_command)
cli.command("import")(import_command)
cli.command("verify")(verify_command)
cli.command("widget")(widget_command)


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
def serve_command(
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that share the port; more than one needs PostgreSQL.")
    ] = 1,
) -> None:
    """Run the server."""
    from app.main import create_app
    from app.serving import serve, serve_with_workers

    config = load()
    if workers > 1 and dialect_of(config.database_url).is_sqlite:
        raise StartRefused(
            "--workers above 1 needs a PostgreSQL database, and DATABASE_URL names a file, which one process serves."
        )
    with _listen(config) as listening, ServerLock(config.database_url):
        migrate(config)
        say(f"Chargly {__version__} listens on {_address(listening)} and keeps its ledger in {ledger_name(config)}.")
        if config.api_key is None and not with_open(config, list_keys):
            say("There are no keys yet: chargly keys create --name ops --scope admin")
        if workers > 1:
            serve_with_workers(config, listening, workers)
        else:
            serve(create_app(config), config, listening)


@cli.command("demo")
def demo_command(
    *,
    history: Annotated[
        bool, typer.Option("--history", help="Begin with a year of history, for the dashboard.")
    ] = False,
) -> None:
    """Run the server with a demo wallet, an autoplay of AI actions, and a Stripe sandbox where no key is set."""
    from app import demo
    from app.main import create_demo_app
    from app.serving import serve

    loaded = load()
    if history:
        demo.check_history(loaded)
    config = demo.configured(loaded)
    with _listen(config) as listening:
        config = demo.with_sandbox(config, port=listening.getsockname()[1])
        with ServerLock(config.database_url):
            demo.check_ledger(config)
            migrate(config)
            if history:
                _begin_with_history(config)
            say(demo.welcome(config, _address(listening), key_is_ours=loaded.api_key is None))
            serve(create_demo_app(config), config, listening)


def _begin_with_history(config: Config) -> None:
    from app.demo.history import STEPS, begin_with_history, patient

    @contextlib.contextmanager
    def showing() -> Iterator[Callable[[], None]]:
        """A bar on a terminal, by the days that are over."""
        is_seen = sys.stderr.isatty()
        with typer.progressbar(length=STEPS, label="A year of history", file=sys.stderr, hidden=not is_seen) as bar:
            yield partial(bar.update, 1)

    say(with_open(patient(config), lambda db: begin_with_history(db, config, showing)))


@cli.command("migrate")
def migrate_command(*, as_json: AsJSON = False) -> None:
    """Bring the database to this version's schema."""
    config = load()
    revision = migrate(config)
    show({"revision": revision}, f"The ledger {ledger_name(config)} is at revision {revision}.", as_json=as_json)


@cli.command("version")
def version_command(*, as_json: AsJSON = False) -> None:
    """Print the version."""
    show({"version": __version__}, f"chargly {__version__}", as_json=as_json)


def main() -> None:
    """Runs the command; what refuses to start says why in one sentence and exits with 1."""
    set_up_logging()
    # What another program's processes share is not ours: prometheus-client would count into it.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
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


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{url_host(host)}:{port}"
