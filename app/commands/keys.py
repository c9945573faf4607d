"""`chargly keys`: API keys made, listed, revoked."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from app.commands.console import AsJSON, note, show, with_database
from app.config import Config, load
from app.live.bus import Notice
from app.live.channels import open_channel, tell_once
from app.rules.times import rfc3339
from app.store.db import Database
from app.store.instance import read_instance
from app.store.keys import ApiKey, check_name, create_key, list_keys, revoke_key
from app.store.migrate import ledger_name

keys = typer.Typer(help="API keys: made, listed, revoked.", no_args_is_help=True)


class KeyScope(StrEnum):
    """What a key may do; `admin` may do everything."""

    METER = "meter"
    PRICES = "prices"
    ADMIN = "admin"


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Who or what uses it.")],
    scope: Annotated[KeyScope, typer.Option(help="What it may do.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Make a key. It is shown now and never again: on standard output, alone."""
    check_name(name)  # before a ledger is made for it
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
    """Revoke a key; running servers are told, and feel it within five seconds at the latest."""
    config = load()
    revoked = with_database(lambda db: _revoke(db, key, config))
    ledger = ledger_name(config)
    text = f"Revoked {revoked.name} ({revoked.id}) of the ledger {ledger}."
    show({"keys": [_key_fields(revoked)], "ledger": ledger}, text, as_json=as_json)


async def _revoke(db: Database, id_or_name: str, config: Config) -> ApiKey:
    revoked = await revoke_key(db, id_or_name)
    channel = open_channel(config, (await read_instance(db)).epoch)
    if channel is not None:  # where nobody can be told, servers look the key up again by themselves
        await tell_once(channel, Notice(sender="keys revoke", keys=True), config.limits.bus_send_seconds_max)
    return revoked


def _line(key: ApiKey) -> str:
    until = "open" if key.revoked_at is None else f"revoked {rfc3339(key.revoked_at)}"
    return f"{key.id}  {key.scope:<6}  made {rfc3339(key.created_at)}  {until:<32}  {key.name}"


def _key_fields(key: ApiKey) -> dict[str, Any]:
    times = {
        "created_at": rfc3339(key.created_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }
    return msgspec.structs.asdict(key) | times
