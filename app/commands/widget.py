"""`chargly widget`: the script tag that pins this version of the widget."""

import html
from typing import Annotated

import typer

from app import __version__
from app.api.widget import PINNED, integrity
from app.commands.console import AsJSON, note, show
from app.config import Config, load, url_host, web_address
from app.errors import StartRefused


def widget_command(
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where browsers reach the server; CHARGLY_PUBLIC_URL where it is left out."),
    ] = None,
    *,
    as_json: AsJSON = False,
) -> None:
    """Print the script tag that loads this version of the widget and no other, checked by the browser."""
    config = load()
    src = f"{_listening(config) if server is None else _named(server)}/static/{PINNED}"
    checked = integrity()
    tag = f'<script type="module" src="{html.escape(src)}" integrity="{checked}" crossorigin="anonymous"></script>'
    show({"version": __version__, "src": src, "integrity": checked}, tag, as_json=as_json)
    if server is None and config.public_url is None:
        note("That is where the server listens. Where browsers reach it is said by --server or CHARGLY_PUBLIC_URL.")


def _named(server: str) -> str:
    address = web_address(server.strip())
    if address is None or any(character in address for character in "?# "):
        raise StartRefused(f"--server must be an address such as https://credits.example.com, and it is {server!r}.")
    return address


def _listening(config: Config) -> str:
    return config.public_url or f"http://{url_host(config.host)}:{config.port}"
