"""Wallets: made, read, listed, set; tokens for browsers."""

from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from app.api import fields
from app.api.auth import TOKEN_SCOPES, Access, TokenScope
from app.api.auto_top_ups import (
    AutoTopUpAnswer,
    AutoTopUpRequest,
    auto_top_up_answer,
    checked_settings,
    for_browsers,
)
from app.api.fields import Name, OverdraftLimit, SpendLimit, Strict, Threshold, TokenSeconds
from app.api.grants import GrantAnswer, grant_answer
from app.api.http import REPLAYED, Answer, Call, Route
from app.api.members import SpentAnswer, spend_limit, spent
from app.config import LIMITS
from app.errors import (
    ForbiddenScope,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from app.rules.operations import ChangeSettings, OpenWallet
from app.rules.times import rfc3339
from app.rules.wallet import Entry, Grant, Wallet, burn_down_order
from app.store.ids import new_id
from app.store.reads import WalletState
from app.store.settled import settled_state, settled_wallets


class WalletAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet as it stands, with its grants that are not used up, in burn-down order."""

    customer_id: str
    name: str | None
    balance: int
    held: int
    available: int
    version: int
    low_balance_threshold: int | None
    low: bool
    frozen: bool
    overdraft_limit: int
    spend_limit: SpendLimit | None
    spent: SpentAnswer
    alert: str | None
    alert_at: str | None
    auto_top_up: AutoTopUpAnswer | None
    grants: list[GrantAnswer]
    created_at: str


class WalletSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet in a list, without its grants."""

    customer_id: str
    name: str | None
    balance: int
    held: int
    available: int
    version: int
    low_balance_threshold: int | None
    low: bool
    frozen: bool
    created_at: str


class WalletsAnswer(msgspec.Struct, frozen=True):
    """A page of wallets."""

    wallets: list[WalletSummary]
    next_cursor: str | None


class OpenRequest(Strict, frozen=True, kw_only=True):
    """A wallet to make."""

    customer_id: str
    name: Name | None = None
    low_balance_threshold: Threshold | None = None
    idempotency_key: str | None = None


class SettingsRequest(Strict, frozen=True, kw_only=True):
    """Settings to change; those not named stay, null takes one away where there may be none."""

    name: Name | None | msgspec.UnsetType = msgspec.UNSET
    low_balance_threshold: Threshold | None | msgspec.UnsetType = msgspec.UNSET
    overdraft_limit: OverdraftLimit | msgspec.UnsetType = msgspec.UNSET
    spend_limit: SpendLimit | None | msgspec.UnsetType = msgspec.UNSET
    frozen: bool | msgspec.UnsetType = msgspec.UNSET
    auto_top_up: AutoTopUpRequest | None | msgspec.UnsetType = msgspec.UNSET


class TokenRequest(Strict, frozen=True, kw_only=True):
    """A token to make: seconds until it ends, and what it may do."""

    expires_in: TokenSeconds = LIMITS.token_seconds_default
    scopes: tuple[TokenScope, ...] = TOKEN_SCOPES


class TokenAnswer(msgspec.Struct, frozen=True):
    """A widget token, for a browser."""

    token: str
    expires_at: str


async def list_wallets(call: Call) -> Answer:
    """A page of wallets."""
    query = call.query.get("query")
    most = call.services.config.limits.query_characters_max
    if query is not None and len(query) > most:
        raise InvalidRequest(f"query: {most} characters at most.", field="query")
    low = call.query.get("low", "false")
    if low not in ("true", "false"):
        raise InvalidRequest("low: true or false.", field="low")
    state = call.query.get("state", "low" if low == "true" else None)
    known: tuple[WalletState, ...] = get_args(WalletState)
    if state is not None and state not in known:
        raise InvalidRequest(f"state: one of {', '.join(known)}.", field="state")
    found, after = await settled_wallets(
        call.services.db,
        call.services.writer,
        query=query,
        state=next((one for one in known if one == state), None),
        limit=fields.limit(call),
        after=fields.cursor(call),
    )
    return Answer(WalletsAnswer([wallet_summary(wallet) for wallet in found], fields.make_cursor(after)))


async def open_wallet(call: Call) -> Answer:
    """Makes a wallet, or tells the one that is there."""
    body: OpenRequest = call.body
    customer_id = fields.customer(body.customer_id)
    key, request_hash = call.idempotency()
    outcome = await call.services.writer.submit(
        OpenWallet(
            customer_id=customer_id,
            id=new_id("set", customer_id),
            actor=call.actor,
            key=key,
            request_hash=request_hash,
            name=fields.printable(body.name, "name"),
            low_balance_threshold=body.low_balance_threshold,
        )
    )
    if outcome.entry is None:
        return Answer(await _as_it_stands(call, outcome.wallet.customer_id))
    return Answer(_as_opened(outcome.entry), 201, REPLAYED if outcome.replayed else ())


def _as_opened(entry: Entry) -> WalletAnswer:
    """The wallet as its opening entry tells it, so that a replay is the first answer again."""
    detail = entry.detail or {}
    wallet = msgspec.convert(detail["wallet"], Wallet)
    return wallet_answer(wallet, msgspec.convert(detail["grants"], list[Grant]))


async def _as_it_stands(call: Call, customer_id: str) -> WalletAnswer:
    found = await settled_state(call.services.db, call.services.writer, customer_id)
    if found is None:
        raise NotFound("There is no wallet for this customer yet.", customer_id=customer_id)
    state, _ = found
    waiting = sorted((grant for grant in state.others.values() if grant.remaining), key=burn_down_order)
    answer = wallet_answer(state.wallet, [*state.grants, *waiting])
    if call.credential.customer_id is not None and answer.auto_top_up is not None:
        return replace(answer, auto_top_up=for_browsers(answer.auto_top_up))
    return answer


async def _as_written(call: Call, customer_id: str) -> WalletAnswer:
    try:
        return await _as_it_stands(call, customer_id)
    except Unavailable as error:  # it is written, and what it led to cannot be read
        raise OutcomeUnknown from error


async def read_wallet(call: Call) -> Answer:
    """A wallet as it stands."""
    return Answer(await _as_it_stands(call, fields.path_customer(call)))


async def change_settings(call: Call) -> Answer:
    """Changes a wallet's settings."""
    body: SettingsRequest = call.body
    customer_id = fields.path_customer(call)
    if body.name is not msgspec.UNSET:
        fields.printable(body.name, "name")
    changes = _changes(body)
    if isinstance(body.auto_top_up, AutoTopUpRequest):
        changes["auto_top_up"] = await checked_settings(call, customer_id, body.auto_top_up)
    outcome = await call.services.writer.submit(
        ChangeSettings(
            customer_id=customer_id,
            id=new_id("set", customer_id),
            actor=call.actor,
            changes=changes,
        )
    )
    return Answer(await _as_written(call, outcome.wallet.customer_id))


def _changes(body: SettingsRequest) -> dict[str, Any]:
    """The fields of a wallet that a request sets."""
    named = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not msgspec.UNSET}
    if "spend_limit" in named:
        limit: SpendLimit | None = named.pop("spend_limit")
        named |= {"limit_credits": limit.credits if limit else None, "limit_per": limit.per if limit else None}
    return named


async def create_token(call: Call) -> Answer:
    """Makes a widget token for a customer, seen before or not."""
    body: TokenRequest = call.body
    customer_id = fields.path_customer(call)
    token, expires_at = call.services.auth.mint(
        customer_id, [scope for scope in TOKEN_SCOPES if scope in body.scopes], body.expires_in
    )
    return Answer(TokenAnswer(token, rfc3339(expires_at * 1000)), 201)


def wallet_answer(wallet: Wallet, grants: list[Grant]) -> WalletAnswer:
    """A wallet as the contract shows it."""
    return WalletAnswer(
        customer_id=wallet.customer_id,
        name=wallet.name,
        balance=wallet.balance,
        held=wallet.held,
        available=wallet.available,
        version=wallet.version,
        low_balance_threshold=wallet.low_balance_threshold,
        low=wallet.low,
        frozen=wallet.frozen,
        overdraft_limit=wallet.overdraft_limit,
        spend_limit=spend_limit(wallet),
        spent=spent(wallet),
        alert=wallet.alert,
        alert_at=None if wallet.alert_at is None else rfc3339(wallet.alert_at),
        auto_top_up=auto_top_up_answer(wallet.auto_top_up),
        grants=[grant_answer(grant) for grant in grants],
        created_at=rfc3339(wallet.created_at),
    )


def wallet_summary(wallet: Wallet) -> WalletSummary:
    """A wallet as a list shows it."""
    return WalletSummary(
        customer_id=wallet.customer_id,
        name=wallet.name,
        balance=wallet.balance,
        held=wallet.held,
        available=wallet.available,
        version=wallet.version,
        low_balance_threshold=wallet.low_balance_threshold,
        low=wallet.low,
        frozen=wallet.frozen,
        created_at=rfc3339(wallet.created_at),
    )


_ADMIN = Access("admin")
_READ = Access("meter", "read")

ROUTES = (
    Route(
        method="GET",
        path="/v1/wallets",
        access=Access("meter"),
        handler=list_wallets,
        summary="List wallets",
        query=("query", "low", "state", "limit", "cursor"),
        answers={200: WalletsAnswer},
    ),
    Route(
        method="POST",
        path="/v1/wallets",
        access=_ADMIN,
        handler=open_wallet,
        summary="Make a wallet",
        request=OpenRequest,
        answers={200: WalletAnswer, 201: WalletAnswer},
        errors=(IdempotencyConflict,),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{customer_id}",
        access=_READ,
        handler=read_wallet,
        summary="Read a wallet",
        answers={200: WalletAnswer},
        errors=(NotFound, ForbiddenScope),
    ),
    Route(
        method="PATCH",
        path="/v1/wallets/{customer_id}",
        access=_ADMIN,
        handler=change_settings,
        summary="Change a wallet's settings",
        request=SettingsRequest,
        answers={200: WalletAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/wallets/{customer_id}/tokens",
        access=Access("meter"),
        handler=create_token,
        summary="Make a widget token",
        request=TokenRequest,
        optional_body=True,
        answers={201: TokenAnswer},
    ),
)
