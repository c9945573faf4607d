"""Public ids: a type's prefix, the time, a hash of the wallet, and chance."""

import os
import time
import zlib
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_WALLET_BITS: Final = 20
_WALLET_MASK: Final = (1 << _WALLET_BITS) - 1
_RANDOM_BITS: Final = 62
_SIXTY_MASK: Final = (1 << 60) - 1
_CHANCE_PAGE_BYTES: Final = 4096
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)


def new_id(prefix: str, customer_id: str, at: int | None = None) -> str:
    """A new id such as `evt_0684…`: 26 characters that sort by time, carry the wallet's hash, and cannot be guessed.

    Crockford's base 32 of 48 bits of milliseconds, 20 bits of the wallet's hash (where a sharded database would look)
    and 62 bits of chance.

    Args:
        prefix: the type's.
        customer_id: whose wallet it belongs to.
        at: the time that it carries, in milliseconds since 1970; now by default.

    """
    wallet = zlib.crc32(customer_id.encode()) & _WALLET_MASK
    chance = int.from_bytes(_chance.take(8)) >> (64 - _RANDOM_BITS)
    # In three parts, each of a machine word: made with every event, this counts.
    time_and_wallet = (now_ms() if at is None else at) << 12 | wallet >> 8
    middle = (wallet & 255) << 2 | chance >> 60
    return f"{prefix}_{_sixty_bits(time_and_wallet)}{_PAIRS[middle]}{_sixty_bits(chance & _SIXTY_MASK)}"


def _sixty_bits(number: int) -> str:
    return (
        f"{_PAIRS[number >> 50]}{_PAIRS[number >> 40 & 1023]}{_PAIRS[number >> 30 & 1023]}"
        f"{_PAIRS[number >> 20 & 1023]}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"
    )


class _Chance:
    """The system's randomness, fetched a page at a time: one system call for hundreds of ids."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begins a new page: a child that forks must not make its parent's ids."""
        self._page = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next bytes, never given again."""
        if self._at + size > len(self._page):
            self._page, self._at = os.urandom(_CHANCE_PAGE_BYTES), 0
        self._at += size
        return self._page[self._at - size : self._at]


_chance: Final = _Chance()
os.register_at_fork(after_in_child=_chance.forget)


def now_ms() -> int:
    """The clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
