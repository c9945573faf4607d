"""Breaks the ledger's rules, and the live door's, one at a time, and asks the tests whether they notice.

Run as `python tests/mutations`, with part of a mutation's name for some of them. Each mutation is made to a copy of
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

import of_live
import of_payments
import of_rules
import of_transactions
from mutation import Mutation

ROOT = Path(__file__).resolve().parent.parent.parent
AT_ONCE = 2
SECONDS_MAX = 120.0
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)

MUTATIONS = (*of_rules.MUTATIONS, *of_transactions.MUTATIONS, *of_payments.MUTATIONS, *of_live.MUTATIONS)


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
