"""What the host's backend is told of a wallet: the types, and one notice."""

from typing import Any, Final, Literal, get_args

import msgspec

from app.rules.times import rfc3339

NoticeType = Literal[
    "wallet.low",
    "wallet.depleted",
    "wallet.recovered",
    "top_up.succeeded",
    "top_up.failed",
    "top_up.refunded",
    "hold.expired",
    "grant.expiring",
    "price.changed",
    "endpoint.disabled",
]
NOTICE_TYPES: Final[tuple[NoticeType, ...]] = get_args(NoticeType)


def top_up_failed(
    *,
    pack: str,
    reason: str,
    checkout_id: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
    pay_url: str | None = None,
    failures: int = 0,
    stopped: bool = False,
    retry_at: int | None = None,
) -> dict[str, Any]:
    """The facts of a top-up that failed, whichever way.

    Args:
        pack: what was to be bought.
        reason: a code.
        checkout_id: of the purchase, where one was begun.
        amount: in minor units of `currency`.
        currency: of the amount.
        pay_url: where the customer may pay instead.
        failures: how many automatic ones have failed in a row.
        stopped: whether the wallet tries no more.
        retry_at: when it tries again, in milliseconds.

    """
    return {
        "pack": pack,
        "reason": reason,
        "checkout_id": checkout_id,
        "amount": amount,
        "currency": currency,
        "pay_url": pay_url,
        "failures": failures,
        "stopped": stopped,
        "retry_at": None if retry_at is None else rfc3339(retry_at),
    }


class Notice(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to a wallet, for whoever listens.

    Args:
        type: what.
        version: the wallet's, as of its entry.
        data: the facts, as the contract shows them.

    """

    type: NoticeType
    version: int
    data: dict[str, Any]
