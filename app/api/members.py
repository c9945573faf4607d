"""Members of a team's wallet: what each has spent, and may spend."""

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import SpendLimit, Strict
from app.api.http import Answer, Call, Route
from app.errors import NotFound, OutcomeUnknown, Unavailable
from app.rules.limits import limit_of, spent_in
from app.rules.operations import LimitMember
from app.rules.wallet import Member, Wallet
from app.store import reads
from app.store.ids import new_id, now_ms
from app.store.settled import existing_wallet


class MemberRequest(Strict, frozen=True, kw_only=True):
    """A member's limit; null takes it away."""

    spend_limit: SpendLimit | None


class SpentAnswer(msgspec.Struct, frozen=True):
    """Credits spent in this day, this week and this month, in UTC."""

    day: int
    week: int
    month: int


class MemberAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody inside a wallet."""

    customer_id: str
    member: str
    spend_limit: SpendLimit | None
    spent: SpentAnswer
    held: int


class MembersAnswer(msgspec.Struct, frozen=True):
    """A page of members, by name."""

    members: list[MemberAnswer]
    next_cursor: str | None


async def read_member(call: Call) -> Answer:
    """A member of a wallet."""
    customer_id, name = fields.path_customer(call), _name(call)
    await existing_wallet(call.services.db, call.services.writer, customer_id)
    member = await reads.read_member(call.services.db, customer_id, name)
    if member is None:
        raise NotFound("There is no such member of this wallet.", customer_id=customer_id, member=name)
    return Answer(_answer(customer_id, member))


async def change_member(call: Call) -> Answer:
    """Sets a member's limit."""
    body: MemberRequest = call.body
    customer_id, name = fields.path_customer(call), _name(call)
    limit = body.spend_limit
    await call.services.writer.submit(
        LimitMember(
            customer_id=customer_id,
            id=new_id("set", customer_id),
            actor=call.actor,
            member=name,
            limit_credits=limit.credits if limit else None,
            limit_per=limit.per if limit else None,
        )
    )
    try:
        member = await reads.read_member(call.services.db, customer_id, name)
    except Unavailable as error:  # the limit is written, and what is shown beside it cannot be read
        raise OutcomeUnknown from error
    assert member is not None
    return Answer(_answer(customer_id, member))


async def list_members(call: Call) -> Answer:
    """A page of a wallet's members."""
    customer_id = fields.path_customer(call)
    await existing_wallet(call.services.db, call.services.writer, customer_id)
    found, after = await reads.members(
        call.services.db, customer_id, limit=fields.limit(call), after=fields.cursor(call)
    )
    return Answer(MembersAnswer([_answer(customer_id, one) for one in found], fields.make_cursor(after)))


def _name(call: Call) -> str:
    return fields.customer(call.params["member"], "member")


def _answer(customer_id: str, member: Member) -> MemberAnswer:
    return MemberAnswer(
        customer_id=customer_id,
        member=member.member,
        spend_limit=spend_limit(member),
        spent=spent(member),
        held=member.held,
    )


def spend_limit(spender: Wallet | Member) -> SpendLimit | None:
    """A limit as the contract shows it."""
    limit = limit_of(spender.limit_credits, spender.limit_per)
    return None if limit is None else msgspec.convert(limit, SpendLimit)


def spent(spender: Wallet | Member) -> SpentAnswer:
    """What has been spent in the windows of this moment."""
    return SpentAnswer(*spent_in(spender, max(now_ms(), spender.spent_at)))


ROUTES = (
    Route(
        method="GET",
        path="/v1/wallets/{customer_id}/members",
        access=Access("meter"),
        handler=list_members,
        summary="List a wallet's members",
        query=("limit", "cursor"),
        answers={200: MembersAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{customer_id}/members/{member}",
        access=Access("meter"),
        handler=read_member,
        summary="Read a member",
        answers={200: MemberAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="PATCH",
        path="/v1/wallets/{customer_id}/members/{member}",
        access=Access("admin"),
        handler=change_member,
        summary="Set a member's limit",
        request=MemberRequest,
        answers={200: MemberAnswer},
    ),
)
