"""Breaks the ledger's rules one at a time, and asks the tests whether they notice.

Run as `python tests/mutations.py`, with part of a mutation's name for some of them. Each mutation is made to a copy of
the package in a temporary folder, and the tests that should notice run against the copy. It fails where one survives,
and where the code that it would change is no longer there.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
SECONDS_MAX = 120.0
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
SQLITE = ("-k", "sqlite and not postgresql")


class Mutation(NamedTuple):
    """What is broken in words, the file and its text before and after, and pytest's arguments for who should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


WALLET, CHANGE, LEDGER = "app/rules/wallet.py", "app/rules/change.py", "app/rules/ledger.py"
SETTLING, LIMITS, PERIODS = "app/rules/settling.py", "app/rules/limits.py", "app/rules/periods.py"
BATCH = "app/store/batch.py"

T_GRANTS = "tests/rules/test_grants.py"
T_HISTORIES = "tests/rules/test_ledger_histories.py"
T_HOLDS = "tests/rules/test_holds.py"
T_LEDGER = "tests/rules/test_ledger.py"
T_LIMITS = "tests/rules/test_limits.py"
T_OFFERS = "tests/rules/test_offers.py"
T_PERIODS = "tests/rules/test_periods.py"
T_RECURRING = "tests/rules/test_recurring.py"
T_REVERSALS = "tests/rules/test_reversals.py"
T_SETTLING = "tests/rules/test_settling.py"
T_WRITER = ("tests/store/test_writer.py", *SQLITE)
T_CACHE = ("tests/store/test_wallet_cache.py",)
T_FAILURES = ("tests/store/test_writer_failures.py", *SQLITE)

MUTATIONS = (
    # The order in which credits are spent
    Mutation(
        "paid credits burn before promotional ones",
        WALLET,
        'grant.category == "paid",',
        'grant.category != "paid",',
        (T_GRANTS,),
    ),
    Mutation("the priority of a grant is ignored", WALLET, "        grant.priority,\n", "        0,\n", (T_GRANTS,)),
    Mutation(
        "the youngest grant burns first",
        WALLET,
        "        grant.version,\n    )",
        "        -grant.version,\n    )",
        (T_GRANTS,),
    ),
    Mutation(
        "a grant that lasts for ever burns before one that expires",
        WALLET,
        "_NEVER if grant.expires_at is None",
        "0 if grant.expires_at is None",
        (T_GRANTS,),
    ),
    # Funds and debts
    Mutation(
        "an event is not checked against the funds",
        LEDGER,
        "    change.check_funds(quote.credits)\n    _charge(",
        "    _charge(",
        (T_LEDGER,),
    ),
    Mutation(
        "a hold is not checked against the funds",
        LEDGER,
        "    change.check_funds(credits)\n    hold = Hold(",
        "    hold = Hold(",
        (T_HOLDS,),
    ),
    Mutation(
        "a correction down is not checked against the funds",
        LEDGER,
        "        change.check_funds(-op.credits)\n",
        "",
        (T_LEDGER,),
    ),
    Mutation(
        "one credit more than is available may be spent",
        CHANGE,
        "required > available:",
        "required > available + 1:",
        (T_LEDGER,),
    ),
    Mutation(
        "the overdraft is ignored",
        CHANGE,
        "return self.balance - self.held + self.overdraft_limit",
        "return self.balance - self.held",
        (T_LEDGER,),
    ),
    Mutation(
        "what is held may be spent",
        CHANGE,
        "return self.balance - self.held + self.overdraft_limit",
        "return self.balance + self.overdraft_limit",
        (T_HOLDS,),
    ),
    Mutation("a debt is forgotten", CHANGE, "        self.debt += left\n", "", (T_LEDGER,)),
    Mutation(
        "what comes in does not pay the debt",
        CHANGE,
        "        paid = min(grant.remaining, self.debt)\n",
        "        paid = 0\n",
        (T_LEDGER,),
    ),
    Mutation(
        "a wallet holds more than a browser can",
        CHANGE,
        "if self.balance + credits > BALANCE_MAX:",
        "if self.balance + credits > BALANCE_MAX + 1:",
        (T_GRANTS,),
    ),
    # Entries and time
    Mutation("an entry keeps the version before it", CHANGE, "        self.version += 1\n", "", (T_LEDGER,)),
    Mutation(
        "a clock that goes back takes the ledger with it",
        LEDGER,
        "change = Change(state, operation, max(now, wallet.last_entry_at))",
        "change = Change(state, operation, now)",
        (T_LEDGER,),
    ),
    Mutation(
        "what is due comes a moment late",
        CHANGE,
        "self.due_at <= self.now",
        "self.due_at < self.now",
        (T_GRANTS,),
    ),
    Mutation(
        "credits that expired are spent while a wallet is only half settled",
        LEDGER,
        "        if change.is_due and not isinstance(operation, Settle):",
        "        if False:",
        (T_SETTLING,),
    ),
    Mutation(
        "adjustments make any number of grants",
        LEDGER,
        "        change.check_number_of_grants()\n        made",
        "        made",
        (T_GRANTS,),
    ),
    Mutation(
        "a replay gives an answer to another request",
        LEDGER,
        "        raise IdempotencyConflict\n",
        "        return entry\n",
        (T_LEDGER,),
    ),
    Mutation(
        "a second capture gets the answer of another one",
        LEDGER,
        "    if isinstance(operation, Capture):\n        raise _not_open",
        "    if False:\n        raise _not_open",
        (T_HOLDS,),
    ),
    Mutation(
        "welcome credits are given twice",
        LEDGER,
        "if wallet.version == 0:\n        if not",
        "if wallet.version <= 2:\n        if not",
        (T_LEDGER,),
    ),
    Mutation("a frozen wallet spends", LEDGER, "    if change.wallet.frozen:\n", "    if False:\n", (T_LEDGER,)),
    # Holds
    Mutation(
        "a capture forgets what was held and asks for the whole again",
        LEDGER,
        "change.check_funds(quote.credits, held_before=hold.credits)",
        "change.check_funds(quote.credits)",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture up to what was held is refused in a frozen wallet",
        LEDGER,
        "    if quote.credits > hold.credits:\n",
        "    if quote.credits:\n",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture leaves its credits held",
        CHANGE,
        "        self.count_held(-hold.credits, hold.member)\n",
        "",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture is priced by today's price",
        LEDGER,
        "total_of(hold.unit_credits, quantity), hold.unit_credits,",
        "catalogue.quote(event, hold.model, quantity).credits, hold.unit_credits,",
        (T_HOLDS,),
    ),
    Mutation(
        "a closed hold is captured again", LEDGER, '    if hold.status != "open":\n', "    if False:\n", (T_HOLDS,)
    ),
    Mutation(
        "a wallet has one open hold more than it may",
        LEDGER,
        "change.open_holds >= HOLDS_OPEN_MAX",
        "change.open_holds > HOLDS_OPEN_MAX",
        (T_HOLDS,),
    ),
    Mutation(
        "nobody looks for a hold that runs out",
        CHANGE,
        '        if hold.status == "open":\n            self.due(hold.expires_at)\n',
        "",
        (T_SETTLING,),
    ),
    # What ends
    Mutation(
        "an expiry ignores the holds",
        SETTLING,
        "    taken = min(grant.remaining, max(0, change.available), ",
        "    taken = min(grant.remaining, ",
        (T_GRANTS,),
    ),
    Mutation(
        "what a lapsed grant keeps and no hold needs passes for money",
        LEDGER,
        "        take_needless(change)\n",
        "        pass\n",
        (T_SETTLING,),
    ),
    Mutation(
        "a void ignores the holds",
        LEDGER,
        "min(grant.remaining, max(0, change.available))",
        "grant.remaining",
        (T_GRANTS,),
    ),
    Mutation(
        "an event draws on what expired and was kept for a hold",
        CHANGE,
        "if lapsed_first and self.others:",
        "if self.others:",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture does not draw on what was kept for it",
        CHANGE,
        "if lapsed_first and self.others:",
        "if False:",
        (T_HOLDS,),
    ),
    Mutation(
        "what was kept for a hold stays when it is released",
        LEDGER,
        "    )\n    take_lapsed(change)\n\n\ndef _open_hold(",
        "    )\n\n\ndef _open_hold(",
        (T_HOLDS,),
    ),
    Mutation(
        "a grant expires before the hold that ran out at the same time",
        SETTLING,
        "_HOLD, _EXPIRY, _START, _AGAIN = range(4)",
        "_EXPIRY, _HOLD, _START, _AGAIN = range(4)",
        (T_SETTLING,),
    ),
    Mutation(
        "a future grant is in the balance at once",
        LEDGER,
        'state="pending" if starts > change.now else "active"',
        'state="active"',
        (T_GRANTS,),
    ),
    Mutation(
        "every period that passed unseen is given, though it is over",
        SETTLING,
        'if grant.rollover == "none":',
        "if False:",
        (T_RECURRING,),
    ),
    Mutation(
        "a recurring grant comes once more at its end",
        SETTLING,
        "following >= grant.ends_at",
        "following > grant.ends_at",
        (T_RECURRING,),
    ),
    # Reversals
    Mutation(
        "a reversal restores what ended",
        CHANGE,
        "if grant is None or grant.ended(self.now):",
        "if grant is None:",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal restores a grant that was used up before it ended",
        CHANGE,
        "if grant is None or grant.ended(self.now):",
        "if grant is None or grant.lapsed:",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal forgets the debt",
        CHANGE,
        "        paid = min(credits, self.debt)\n",
        "        paid = 0\n",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal restores the first drawn first",
        CHANGE,
        "in reversed(draws):",
        "in draws:",
        (T_REVERSALS,),
    ),
    Mutation(
        "what paid an overdraft does not come back to who paid",
        CHANGE,
        "for payer in self._payers_of_debt(since):",
        "for payer in ():",
        (T_REVERSALS,),
    ),
    Mutation(
        "what lapsed grants paid of a debt comes back for ever",
        CHANGE,
        "            if ended:\n                lapsed += returned",
        "            if ended:\n                left += returned",
        (T_REVERSALS,),
    ),
    # Limits and windows
    Mutation(
        "a limit forgets the open holds",
        LIMITS,
        "if within + held + required > limit:",
        "if within + required > limit:",
        (T_LIMITS,),
    ),
    Mutation(
        "a limit is reached a credit early",
        LIMITS,
        "if within + held + required > limit:",
        "if within + held + required >= limit:",
        (T_LIMITS,),
    ),
    Mutation(
        "an event is not held to the limits",
        LEDGER,
        "    change.check_limits(quote.credits, op.member)\n",
        "",
        (T_LIMITS,),
    ),
    Mutation(
        "a member's limit is ignored", CHANGE, "if member is not None and (known", "if False and (known", (T_LIMITS,)
    ),
    Mutation(
        "what was spent yesterday counts today",
        LIMITS,
        "    return (\n        0,\n",
        "    return (\n        spender.spent_day,\n",
        (T_LIMITS,),
    ),
    Mutation(
        "a late reversal makes room in today's window",
        LIMITS,
        'if window_start("day", at) == window_start("day", now):\n        day',
        "if True:\n        day",
        (T_LIMITS,),
    ),
    Mutation("a week begins on Sunday", PERIODS, "Final = -3\n", "Final = -4\n", (T_PERIODS,)),
    Mutation(
        "what began on the 31st comes on the 28th for ever",
        PERIODS,
        "day=min(date.day, monthrange(year, month)[1])",
        "day=min(date.day, 28)",
        (T_PERIODS,),
    ),
    Mutation(
        "an offer does not see the limit",
        LEDGER,
        "left_of_limit(wallet, now, held=wallet.held)",
        "None",
        (T_OFFERS,),
    ),
    Mutation(
        "nobody looks for a grant that expires",
        CHANGE,
        "        elif spendable and grant.expires_at is not None:\n            self.due(grant.expires_at)\n",
        "",
        (T_GRANTS,),
    ),
    Mutation(
        "a member's hold counts for the member after it closed",
        CHANGE,
        "self.put_member(replace(known, held=known.held + credits))",
        "self.put_member(replace(known, held=max(known.held, known.held + credits)))",
        (T_LIMITS,),
    ),
    # Random histories notice by themselves
    Mutation(
        "what a reversal pays of a debt is not known of the grant that it came from",
        CHANGE,
        "debt_paid=grant.debt_paid + taken - returned",
        "debt_paid=grant.debt_paid",
        (T_HISTORIES, T_REVERSALS),
    ),
    Mutation(
        "what is left of a lapsed grant stays after a capture of less",
        LEDGER,
        "    take_lapsed(change)\n\n\ndef _price_of_capture(",
        "\n\ndef _price_of_capture(",
        (T_SETTLING,),
    ),
    # The transaction
    Mutation(
        "a key that was seen is not looked for",
        BATCH,
        "        if op.key is not None:\n            if (entry",
        "        if False:\n            if (entry",
        T_WRITER,
    ),
    Mutation(
        "a retried operation is not looked for by its id",
        BATCH,
        "if retried or isinstance(op, _WITH_DERIVED_ID)]",
        "if isinstance(op, _WITH_DERIVED_ID)]",
        T_FAILURES,
    ),
    Mutation(
        "an operation does not see the one before it in its batch",
        BATCH,
        "        self._states[customer_id] = applied.state\n",
        "        self._states.setdefault(customer_id, applied.state)\n",
        T_WRITER,
    ),
    Mutation(
        "a wallet that another connection has changed is taken from the cache",
        "app/store/wallet_cache.py",
        "if not same or not ground.last_is_there:",
        "if not ground.last_is_there:",
        T_CACHE,
    ),
    Mutation(
        "a batch that was not committed stays in the cache",
        "app/store/wallet_cache.py",
        "if not same or not ground.last_is_there:",
        "if not same:",
        T_CACHE,
    ),
    Mutation(
        "a wallet that is due is taken from the cache",
        "app/store/wallet_cache.py",
        "wallet.due_at > max(now, wallet.last_entry_at)",
        "True",
        T_CACHE,
    ),
    Mutation(
        "an id is answered with another wallet's entry",
        BATCH,
        "if entry is not None and entry.customer_id != op.customer_id:",
        "if False:",
        T_WRITER,
    ),
    Mutation(
        "a replay is told as new", BATCH, "replayed=first.id != op.id or not self._retried", "replayed=False", T_WRITER
    ),
    Mutation(
        "a wallet is believed for an entry that another process may have written",
        BATCH,
        "        else:  # another process can write",
        "        if True:  # another process can write",
        T_CACHE,
    ),
    Mutation(
        "a batch has two times, one for the wallets that it knows and one for those that it reads",
        BATCH,
        "yield sql.read_wallets, (unread, now)\n        read = _wallets_decoder.decode(text)\n",
        "yield sql.read_wallets, (unread, None)\n        read = _wallets_decoder.decode(text)\n"
        "        now = read.now or now\n",
        T_CACHE,
    ),
    Mutation(
        "what changed while a batch waited for its wallets is not looked for",
        BATCH,
        "if locked.waited_ms >= LOCK_WAIT_NOTICED_MS:",
        "if False:",
        T_CACHE,
    ),
    Mutation(
        "prices that were changed elsewhere are not read",
        BATCH,
        "    if read.generation != known.generation:\n",
        "    if False:\n",
        T_WRITER,
    ),
    Mutation(
        "a new wallet is not welcomed",
        BATCH,
        "ledger.apply(state, op, catalogue, now, welcome_credits)",
        "ledger.apply(state, op, catalogue, now)",
        T_WRITER,
    ),
    Mutation(
        "listeners are not told what a retry found",
        BATCH,
        "(*(self._found if self._retried else ()), *self._entries)",
        "self._entries",
        T_FAILURES,
    ),
)


def main() -> int:
    """Tries them all, and prints who noticed."""
    chosen = [one for one in MUTATIONS if not sys.argv[1:] or any(part in one.what for part in sys.argv[1:])]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        original = _copied(ROOT, Path(folder).resolve() / "original")
        broken = [found for found in pool.map(_unbroken, *zip(*_suites(original, chosen), strict=True)) if found]
        if broken:
            _say("\n".join(broken))
            return 1
        tries = [
            pool.submit(_tried, original, Path(folder).resolve() / str(number), one)
            for number, one in enumerate(chosen)
        ]
        width = max(len(one.what) for one in chosen)
        _say(f"{'mutation':{width}} | killed by")
        survivors = 0
        for one, tried in zip(chosen, tries, strict=True):
            killed_by, output = tried.result()
            _say(f"{one.what:{width}} | {killed_by or 'NOBODY'}")
            if killed_by is None:
                survivors += 1
                _say(f"    {one.file}: {output}")
    _say(f"{len(chosen) - survivors} of {len(chosen)} were noticed, in {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


def _suites(original: Path, chosen: Sequence[Mutation]) -> list[tuple[Path, tuple[str, ...]]]:
    """What has to pass without any mutation, in as few runs as may be."""
    tests = sorted({one.tests for one in chosen})
    with_options = [one for one in tests if "-k" in one]
    files = {file for one in tests if one not in with_options for file in one}
    return [(original, one) for one in (tuple(sorted(files)), *with_options) if one]


def _unbroken(copy: Path, tests: tuple[str, ...]) -> str | None:
    """What is wrong with the package as it is, None where its tests pass."""
    where = _run(copy, "-c", "import app; print(app.__file__)")
    if not Path(where.stdout.strip()).is_relative_to(copy):
        return f"The tests would not run against the copy: {where.stdout}{where.stderr}"
    ran = _pytest(copy, tests)
    return f"Without any mutation {' '.join(tests)} fails:\n{ran.stdout[-3000:]}" if ran.returncode else None


def _tried(original: Path, folder: Path, mutation: Mutation) -> tuple[str | None, str]:
    """Who noticed a mutation, None for nobody, and what was said."""
    copy = _copied(original, folder)
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        return None, f"its old text is there {text.count(mutation.old)} times: {mutation.old!r}"
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        ran = _pytest(copy, mutation.tests)
    except subprocess.TimeoutExpired:
        return "a test that never ended", ""
    if ran.returncode == 1 and (failed := FAILED.search(ran.stdout)):
        return failed[1].partition("::")[2], ""
    return None, f"pytest ended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-1000:]}"


def _copied(source: Path, copy: Path) -> Path:
    """A copy with what Python has compiled: it goes by the times and sizes of files, which stay."""
    for name in ("app", "tests"):
        shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("browser"))
    shutil.copy(source / "pyproject.toml", copy)
    return copy


def _pytest(copy: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return _run(copy, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q", "-n", "0", "--tb=line", *tests)


def _run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "CHARGLY_TESTS_HISTORIES": "300"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
