"""The ledger without HTTP: the rules alone, the writer alone, wallets with a long history, and the audit."""

import asyncio
import contextlib
import gc
import itertools
import os
import random
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import uvloop

from app.config import LIMITS, Config
from app.rules import ledger
from app.rules.operations import AddGrant, Event
from app.rules.pricing import Catalogue, Price
from app.rules.wallet import State, Wallet
from app.store import reads
from app.store.catalogue import CatalogueStore
from app.store.db import Database
from app.store.ids import new_id
from app.store.migrate import migrate
from app.store.writer import Writer
from bench.failure import BenchFailed
from bench.machine import Machine, this_machine

CALLERS: Final = 100
WALLETS: Final = 1_000
HISTORY_GRANTS: Final = 10_000
CREDITS_EACH: Final = 10**12
_APPLIED_EACH_ROUND: Final = 50_000
_AT_ONCE: Final = 500
_WEIGHED: Final = 200_000
_EVENT: Final = "chat.reply"
_LOOK_SECONDS: Final = 0.01
Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much: `seconds` is the length of each load, `entries` the length of the long wallet's ledger."""

    rounds: int = 5
    seconds: float = 2.0
    entries: int = 1_000_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement's rounds and their median, a second; `ratio` compares it with the row named by `against`."""

    name: str
    per_second: float
    ratio: float | None = None
    against: str | None = None
    rounds: list[float]


class Ledgers(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what.

    `verify_mib` is how much more memory an audit of the long ledger took; the bytes are of SQLite's file, by the events
    in it, where each event came with no key and where each had an idempotency key of 32 characters.
    """

    machine: Machine
    options: Options
    rows: list[Row]
    verify_mib: float
    bytes_per_event: float
    bytes_per_keyed_event: float


def measure(options: Options, say: Say) -> Ledgers:
    """Measures everything, on databases of its own in a temporary directory.

    Raises:
        BenchFailed: a balance is not what it should be, or the audit found something.

    """
    sys.setswitchinterval(LIMITS.gil_switch_seconds)  # as a server does
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name:
        directory = Path(name)
        machine = this_machine(directory)
        rounds = uvloop.run(_measure_writers(options, directory, say))
        rounds["apply alone"] = [_apply_alone() for _ in range(options.rounds)]
        verified, mib = _verify(directory, options, say)
        rounds["verify, entries"] = verified
        say("bytes of an event …")
        plain, keyed = (uvloop.run(_bytes_per_event(directory, with_keys=keys)) for keys in (False, True))
    medians = {name: median(each) for name, each in rounds.items()}
    rows = [_row(name, each, medians) for name, each in rounds.items()]
    return Ledgers(
        machine=machine,
        options=options,
        rows=rows,
        verify_mib=mib,
        bytes_per_event=plain,
        bytes_per_keyed_event=keyed,
    )


_AGAINST: Final = {
    f"writer, one wallet, {HISTORY_GRANTS:,} grants spent": f"writer, {CALLERS} wallets",
    "writer, one long wallet": "writer, one new wallet",
}


def _row(name: str, rounds: list[float], medians: dict[str, float]) -> Row:
    against = _AGAINST.get(name)
    ratio = None if against is None else round(medians[name] / medians[against], 2)
    return Row(name=name, per_second=medians[name], ratio=ratio, against=against, rounds=rounds)


def _apply_alone() -> float:
    catalogue = Catalogue(1, {_EVENT: Price(_EVENT, 1, 8, "Chat reply", {})})
    state = State(Wallet(customer_id="u"))
    grant = AddGrant(customer_id="u", id="grant_1", credits=CREDITS_EACH, category="paid")
    state = ledger.apply(state, grant, catalogue, 1).state
    events = [
        Event(customer_id="u", id=f"evt_{number}", event=_EVENT, metadata={}) for number in range(_APPLIED_EACH_ROUND)
    ]
    began = time.perf_counter()
    for number, event in enumerate(events):
        state = ledger.apply(state, event, catalogue, number).state
    return len(events) / (time.perf_counter() - began)


class _Book:
    """A database of its own with a writer, loaded by callers that each wait for their answer."""

    def __init__(self, db: Database, writer: Writer, customers: Sequence[str]) -> None:
        self._db, self._writer, self._customers = db, writer, customers
        self._spent = 0

    async def fund(self, history_grants: int = 0, entries: int = 0) -> None:
        """Gives each wallet its credits, and a past: grants that are spent, and entries."""
        await self.submit([_grant(id, CREDITS_EACH, priority=100) for id in self._customers])
        customer_id = self._customers[0]
        for _ in range(0, history_grants, _AT_ONCE):
            await self.submit([_grant(customer_id, 1, priority=0) for _ in range(_AT_ONCE)])
            await self.submit([_event(customer_id, credits=_AT_ONCE)])
        for _ in range(0, entries, _AT_ONCE):
            await self.submit([_event(customer_id, credits=1) for _ in range(_AT_ONCE)])
            self._spent += _AT_ONCE

    async def submit(self, operations: Sequence[AddGrant | Event]) -> None:
        """Writes them."""
        for result in await self._writer.submit_all(operations):
            if isinstance(result, Exception):
                raise BenchFailed(f"the ledger refused: {result!r}")

    async def load(self, seconds: float) -> float:
        """Events a second over so many seconds."""
        customers = itertools.cycle(self._customers)
        until = time.perf_counter() + seconds
        done = 0

        async def call() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await self._writer.submit(_event(next(customers), credits=1))
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        took = time.perf_counter() - began
        self._spent += done
        await self._check()
        return done / took

    async def _check(self) -> None:
        left = 0
        for customer_id in self._customers:
            wallet = await reads.wallet(self._db, customer_id)
            left += wallet.balance if wallet else 0
        expected = len(self._customers) * CREDITS_EACH - self._spent
        if left != expected:
            raise BenchFailed(f"the wallets hold {left} credits, and {expected} would be right.")


def _grant(customer_id: str, credits: int, priority: int) -> AddGrant:
    id = new_id("grant", customer_id)
    return AddGrant(customer_id=customer_id, id=id, credits=credits, category="promotional", priority=priority)


def _event(customer_id: str, credits: int) -> Event:
    return Event(customer_id=customer_id, id=new_id("evt", customer_id), event=_EVENT, credits=credits, metadata={})


def _keyed_event(customer_id: str) -> Event:
    key, request_hash = secrets.token_hex(16), secrets.token_hex(16)
    return msgspec.structs.replace(_event(customer_id, 1), key=key, request_hash=request_hash)


@asynccontextmanager
async def _book(path: Path, customers: Sequence[str]) -> AsyncIterator[_Book]:
    config = Config(database_url=f"sqlite:///{path}")
    await asyncio.to_thread(migrate, config)
    db = Database(config)
    await db.open()
    catalogue = CatalogueStore(db, config.limits)
    await catalogue.fresh()
    writer = Writer(db, catalogue, config, lambda _changes, _generation: None)
    yield _Book(db, writer, customers)
    await writer.close()
    await db.close()


async def _measure_writers(options: Options, directory: Path, say: Say) -> dict[str, list[float]]:
    many = [f"user_{number}" for number in range(WALLETS)]
    async with (
        _book(directory / "few.db", many[:CALLERS]) as few,
        _book(directory / "many.db", many) as spread,
        _book(directory / "hot.db", ["hot"]) as hot,
    ):
        await few.fund()
        await spread.fund()
        await hot.fund(history_grants=HISTORY_GRANTS)
        books = {
            f"writer, {CALLERS} wallets": few,
            f"writer, {WALLETS:,} wallets": spread,
            f"writer, one wallet, {HISTORY_GRANTS:,} grants spent": hot,
        }
        rounds = await _alternate(books, options, say)
    # The long ledger comes after them: the system goes on writing it to the disk while the next rounds run.
    async with _book(directory / "new.db", ["new"]) as new, _book(directory / "long.db", ["long"]) as long:
        await new.fund()
        say(f"writing a ledger of {options.entries:,} entries …")
        await long.fund(entries=options.entries)
        books = {"writer, one new wallet": new, "writer, one long wallet": long}
        return rounds | await _alternate(books, options, say)


async def _alternate(books: dict[str, _Book], options: Options, say: Say) -> dict[str, list[float]]:
    gc.collect()
    gc.freeze()  # as a server does
    rounds: dict[str, list[float]] = {name: [] for name in books}
    for book in books.values():
        await book.load(options.seconds / 4)  # warm-up
    for number in range(1, options.rounds + 1):
        for name, book in books.items():
            rounds[name].append(await book.load(options.seconds))
            say(f"round {number}/{options.rounds}  {name:<40}{rounds[name][-1]:>9,.0f} /s")
    return rounds


async def _bytes_per_event(directory: Path, *, with_keys: bool) -> float:
    path = directory / f"bytes_{with_keys}.db"
    customers = [f"user_{number}" for number in range(WALLETS)]
    events = [random.choice(customers) for _ in range(_WEIGHED)]
    async with _book(path, customers) as book:
        await book.fund()
        for first in range(0, len(events), _AT_ONCE):
            await book.submit(
                [_keyed_event(id) if with_keys else _event(id, 1) for id in events[first : first + _AT_ONCE]]
            )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return round(path.stat().st_size / len(events), 1)


def _verify(directory: Path, options: Options, say: Say) -> tuple[list[float], float]:
    """Entries a second of the command on the long ledger, start-up included, and its memory beyond a short one's."""
    short, long = directory / "new_start.db", directory / "long.db"
    migrate(Config(database_url=f"sqlite:///{short}"))
    base = _audit(short)[1]
    rates, peak = [], 0
    for number in range(1, min(options.rounds, 3) + 1):
        took, peak = _audit(long)
        rates.append(_count(long) / took)
        say(f"round {number}/{min(options.rounds, 3)}  verify {rates[-1]:>9,.0f} entries/s")
    return rates, (peak - base) / 1024


def _audit(database: Path) -> tuple[float, int]:
    """How many seconds it took, and its memory at the most, in KiB; 0 where there is no `/proc`."""
    command = shutil.which("chargly", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if command is None:
        raise BenchFailed("the command chargly is not installed.")
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": f"sqlite:///{database}"}
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [command, "verify"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, _peak_kib(process.pid))
            time.sleep(_LOOK_SECONDS)
        took = time.perf_counter() - began
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise BenchFailed(f"the audit found something: {said}")
    return took, peak


def _peak_kib(pid: int) -> int:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _count(database: Path) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
    finally:
        connection.close()
