"""Public ids: a type's prefix, the time, a hash of the wallet, and chance."""

import secrets
import time
import zlib
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_WALLET_BITS: Final = 20
_RANDOM_BITS: Final = 62
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)


def new_id(prefix: str, customer_id: str) -> str:
    """A new id such as `evt_0684…`: 26 characters that sort by time, carry the wallet's hash, and cannot be guessed.

    Crockford's base 32 of 48 bits of milliseconds, 20 bits of the wallet's hash (where a sharded database would look)
    and 62 bits of chance.
    """
    wallet = zlib.crc32(customer_id.encode()) & ((1 << _WALLET_BITS) - 1)
    number = (now_ms() << _WALLET_BITS | wallet) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def now_ms() -> int:
    """The clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
