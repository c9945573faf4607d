"""Whether a ledger gets slower as it gets longer: events a second after ten thousand entries, and after ten million."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from app.config import Config
from app.store.migrate import migrate
from bench import programs
from bench.bare import PRICE_CREDITS
from bench.contest import Contender, Options, Row, Say, hold
from bench.machine import Machine, this_machine
from bench.totals import CREDITS_EACH, granted
from bench.wrk import check_installed, write_script

WALLETS: Final = 1_000
SIZES: Final = (10_000, 1_000_000, 10_000_000)
_ENTRIES_AT_ONCE: Final = 1_000_000
_BEGAN_MS: Final = 1_700_000_000_000


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what. `bytes_per_entry` is the longest ledger's file by its entries."""

    machine: Machine
    options: Options
    entries: list[int]
    rows: list[Row]
    bytes_per_entry: float


def measure(options: Options, sizes: Sequence[int], say: Say) -> Sizes:
    """Measures on ledgers of its own, each of a thousand wallets.

    Args:
        options: how long.
        sizes: how many entries each has at the start; the first is what the others are compared with.
        say: told a line now and then.

    Raises:
        BenchFailed: a request was refused or lost, or a program is missing.

    """
    check_installed()
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = write_script(directory / "many.lua", WALLETS)
        contenders, size = [], 0
        for entries in sizes:
            say(f"writing a ledger of {entries:,} entries …")
            folder = directory / str(entries)
            folder.mkdir()
            size = _write_ledger(folder / "x.db", entries)
            server = stack.enter_context(programs.chargly(folder / "server", f"sqlite:///{folder / 'x.db'}"))
            server = msgspec.structs.replace(server, directory=folder)  # where its database is
            ledger = stack.enter_context(granted(server, 0))
            contenders.append(Contender(f"after {entries:,} entries", server, script, ledger))
        rows = hold(contenders, options, say)
        return Sizes(
            machine=this_machine(directory),
            options=options,
            entries=list(sizes),
            rows=rows,
            bytes_per_entry=round(size / sizes[-1], 1),
        )


def _write_ledger(path: Path, entries: int) -> int:
    """Writes a ledger that `chargly verify` finds whole: a grant to each wallet, then events in turn. Gives its bytes.

    In SQL, with the index of ids made afterwards: through the server it would take a quarter of an hour.
    """
    migrate(Config(database_url=f"sqlite:///{path}"))
    each = entries // WALLETS
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection):
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF", "cache_size = -500000"):
            connection.execute(f"PRAGMA {pragma}")
        [(index,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'entries_by_id'")
        connection.execute("DROP INDEX entries_by_id")
        what = {"wallets": WALLETS, "each": each, "granted": CREDITS_EACH, "price": PRICE_CREDITS, "at": _BEGAN_MS}
        connection.execute(_WALLETS, what)
        connection.execute(_GRANTS, what)
        wallets_at_once = max(1, _ENTRIES_AT_ONCE // each)
        for first in range(1, WALLETS + 1, wallets_at_once):
            last = min(WALLETS, first + wallets_at_once - 1)
            connection.execute(_ENTRIES, what | {"low": programs.customer(first), "high": programs.customer(last)})
        connection.execute(index)
        connection.execute("PRAGMA journal_mode = WAL")
    return path.stat().st_size


_NUMBERS: Final = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {most})"
_SPENT: Final = ":price * (:each - 1)"
_WALLETS: Final = (
    _NUMBERS.format(most=":wallets")
    + " INSERT INTO wallets (customer_id, balance, held, version, overdraft_limit, frozen, created_at, last_entry_at,"
    f" spent_day, spent_week, spent_month, spent_at) SELECT printf('user_%04d', n), :granted - {_SPENT}, 0, :each, 0,"
    f" 0, :at + 1, :at + :each, {_SPENT}, {_SPENT}, {_SPENT}, :at + :each FROM numbers"
)
_GRANTS: Final = (
    "INSERT INTO grants (customer_id, id, version, category, credits, remaining, priority, source, created_at,"
    " effective_at) SELECT customer_id, 'grant_' || customer_id, 1, 'promotional', :granted,"
    f" :granted - {_SPENT}, 50, 'grant', :at + 1, :at + 1 FROM wallets"
)
_GRANT: Final = (
    "json_object('grant', json_object('amount', NULL, 'anchor_at', NULL, 'category', 'promotional', 'created_at',"
    " :at + 1, 'credits', :granted, 'currency', NULL, 'debt_paid', 0, 'effective_at', :at + 1, 'ends_at', NULL,"
    " 'every', NULL, 'expires_at', NULL, 'id', 'grant_' || customer_id, 'next_at', NULL, 'period', 0, 'priority', 50,"
    " 'remaining', :granted, 'rollover', NULL, 'source', 'grant', 'state', 'active', 'version', 1))"
)
_ENTRIES: Final = (
    _NUMBERS.format(most=":each")
    + " INSERT INTO entries (customer_id, version, id, kind, description, credits, balance, held, available,"
    " created_at, event, quantity, unit_credits, price_version, draws, actor, detail) SELECT customer_id, n,"
    " iif(n = 1, 'grant_' || customer_id, printf('evt_05%010x%014x', n, substr(customer_id, 6))),"
    " iif(n = 1, 'grant', 'event'), iif(n = 1, 'Promotional credits', 'chat.reply'), iif(n = 1, :granted, -:price),"
    " :granted - :price * (n - 1), 0, :granted - :price * (n - 1), :at + n, iif(n = 1, NULL, 'chat.reply'),"
    " iif(n = 1, NULL, 1), iif(n = 1, NULL, :price), iif(n = 1, NULL, 1),"
    " iif(n = 1, NULL, json_array(json_array('grant_' || customer_id, :price))), 'CHARGLY_API_KEY',"
    f" iif(n = 1, {_GRANT}, NULL) FROM wallets, numbers WHERE customer_id BETWEEN :low AND :high"
)
