"""Public ids: their shape, their order, and what they say of their wallet."""

import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store import ids
from app.store.ids import new_id

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def number_of(id: str) -> int:
    """The number that the 26 characters behind the prefix stand for."""
    number = 0
    for character in id.partition("_")[2]:
        number = number << 5 | ALPHABET.index(character)
    return number


@given(customer_id=st.text(min_size=1, max_size=40))
def test_an_id_says_when_it_was_made_and_for_which_wallet(customer_id: str) -> None:
    """26 characters hold 48 bits of milliseconds, 20 of the wallet's hash and 62 of chance."""
    before = time.time_ns() // 1_000_000
    id = new_id("evt", customer_id)
    after = time.time_ns() // 1_000_000
    assert id.startswith("evt_")
    assert len(id) == len("evt_") + 26
    number = number_of(id)
    assert before <= number >> 82 <= after
    assert number >> 62 & 0xFFFFF == zlib.crc32(customer_id.encode()) & 0xFFFFF


def test_every_bit_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole number is written, from the time's first bit to the last of chance."""
    monkeypatch.setattr(ids, "now_ms", lambda: 0xFEDCBA987654)
    monkeypatch.setattr(ids._chance, "take", lambda size: b"\x9a\xbc\xde\xf0\x12\x34\x56\x78"[:size])
    wallet, chance = zlib.crc32(b"user_1") & 0xFFFFF, 0x9ABCDEF012345678 >> 2
    assert number_of(new_id("evt", "user_1")) == (0xFEDCBA987654 << 20 | wallet) << 62 | chance


def test_ids_are_told_apart_and_sort_by_time() -> None:
    """Ten thousand of them in one process: no two alike, and those of a later millisecond come later."""
    made = [new_id("evt", "user_1") for _ in range(10_000)]
    assert len(set(made)) == len(made)
    times = [number_of(id) >> 82 for id in sorted(made)]
    assert times == [number_of(id) >> 82 for id in made]
