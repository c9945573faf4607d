"""API keys: made, listed and revoked, as `chargly keys` does beside the server."""

from typing import Final

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Name, Strict
from app.api.http import Answer, Call, Route
from app.errors import NotFound
from app.rules.times import rfc3339
from app.store import keys
from app.store.keys import ApiKey, Scope


class KeyRequest(Strict, frozen=True, kw_only=True):
    """A key to make: who or what uses it, and what it may do."""

    name: Name
    scope: Scope


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret; `revoked_at` is null while it is open."""

    id: str
    name: str
    scope: Scope
    created_at: str
    revoked_at: str | None


class NewKeyAnswer(KeyAnswer, frozen=True, kw_only=True):
    """A key with its secret, `key`, which is shown this once."""

    key: str


class KeysAnswer(msgspec.Struct, frozen=True):
    """A page of keys, revoked or not, newest first."""

    keys: list[KeyAnswer]
    next_cursor: str | None


def _answer(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        name=key.name,
        scope=key.scope,
        created_at=rfc3339(key.created_at),
        revoked_at=None if key.revoked_at is None else rfc3339(key.revoked_at),
    )


async def create_key(call: Call) -> Answer:
    """Makes a key. Its secret is shown this once."""
    body: KeyRequest = call.body
    made, secret = await keys.create_key(call.services.db, body.name, body.scope)
    shown = NewKeyAnswer(**msgspec.structs.asdict(_answer(made)), key=secret)
    return Answer(shown, 201, headers=((b"cache-control", b"no-store"),))


async def list_keys(call: Call) -> Answer:
    """A page of keys."""
    found, before = await keys.page_of_keys(call.services.db, limit=fields.limit(call), before=fields.cursor(call))
    return Answer(KeysAnswer([_answer(key) for key in found], fields.make_cursor(before)))


async def revoke_key(call: Call) -> Answer:
    """Ends a key: here at once, on other servers as soon as they hear of it."""
    services = call.services
    await keys.revoke_key(services.db, call.params["key_id"], by_name=False)
    services.auth.forget_keys()
    services.relay.bus.tell_keys()
    return Answer(b"", 204)


_ADMIN: Final = Access("admin")

ROUTES = (
    Route(
        method="GET",
        path="/v1/keys",
        access=_ADMIN,
        handler=list_keys,
        summary="List API keys",
        query=("limit", "cursor"),
        answers={200: KeysAnswer},
    ),
    Route(
        method="POST",
        path="/v1/keys",
        access=_ADMIN,
        handler=create_key,
        summary="Make an API key",
        request=KeyRequest,
        answers={201: NewKeyAnswer},
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{key_id}",
        access=_ADMIN,
        handler=revoke_key,
        summary="Revoke an API key",
        answers={204: None},
        errors=(NotFound,),
    ),
)
