"""What the host's backend is told of a wallet: the types, and one notice."""

from typing import Any, Final, Literal, get_args

import msgspec

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
