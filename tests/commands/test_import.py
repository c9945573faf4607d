"""`chargly import`: opening balances, line by line, once."""

import contextlib
import csv
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest
from serving import ServerProcess, StartServer, balance, charge, chargly, grant

LINES_MANY = 50_000
MEMORY_GROWTH_BYTES_MAX = 10 << 20


def write(command: ServerProcess, content: str | bytes, name: str = "balances.csv") -> str:
    path = command.folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def imported(command: ServerProcess, file: str, *options: str) -> dict[str, Any]:
    """The report of an import that was not refused as a whole."""
    done = command.run("import", file, "--json", *options)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["refused"] else 0), done.stderr
    return report


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["imported"], report["already_imported"], report["refused"]


def ledger(command: ServerProcess) -> list[dict[str, Any]]:
    done = command.run("export", "--all", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(command: ServerProcess, content: str | bytes) -> list[tuple[int, str, str]]:
    """Line, field and reason of each refused line of a file."""
    file = write(command, content)
    out = command.folder / "refused.csv"
    command.run("import", file, "--refused", str(out))
    with out.open(newline="") as text:
        found = [
            (int(row["refused_line"]), row["refused_field"], row["refused_reason"]) for row in csv.DictReader(text)
        ]
    out.unlink()
    return found


def many(count: int) -> str:
    return "customer_id,credits\n" + "".join(f"user_{number:07d},{number % 1000 + 1}\n" for number in range(count))


def test_every_column_reaches_the_wallet(new_server: StartServer) -> None:
    server = new_server()
    file = write(
        server,
        "expires_at,customer_id,credits,category,name,priority,reason\n"
        '2031-01-01T00:00:00Z,ann,500,promotional,"Ann, of ""A""",3,moved\n'
        ",bob,7,,,,\n",
    )
    report = imported(server, file)
    assert (counts(report), report["credits"], report["dry_run"]) == ((2, 0, 0), 507, False)
    with server.client() as api:
        ann, bob = (api.get(f"/v1/wallets/{id}").json() for id in ("ann", "bob"))
        entry = api.get("/v1/wallets/ann/entries").json()["entries"][0]
    assert (ann["name"], ann["balance"]) == ('Ann, of "A"', 500)
    [given] = ann["grants"]
    assert (given["category"], given["priority"], given["expires_at"]) == ("promotional", 3, "2031-01-01T00:00:00.000Z")
    assert (entry["reason"], entry["actor"], entry["idempotency_key"]) == ("moved", "chargly import", "opening-balance")
    assert (bob["name"], [(one["category"], one["remaining"]) for one in bob["grants"]]) == (None, [("paid", 7)])


@pytest.mark.sqlite
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_of_any_spreadsheet_is_read(command: ServerProcess, mark: bytes, end: bytes) -> None:
    lines = ['"customer_id","credits","name"', 'zoë,1,"Zoë"', "", '"b,c",2,']
    file = write(command, mark + end.join(line.encode() for line in lines))
    assert counts(imported(command, file)) == (2, 0, 0)
    assert {entry["customer_id"]: entry["balance"] for entry in ledger(command)} == {"zoë": 1, "b,c": 2}


def test_the_same_file_again_changes_nothing(command: ServerProcess) -> None:
    file = write(command, "customer_id,credits,name,expires_at\nann,5,Ann,2031-01-01T00:00:00Z\nbob,6,,\n")
    assert counts(imported(command, file)) == (2, 0, 0)
    before = ledger(command)
    assert counts(imported(command, file)) == (0, 2, 0)
    assert ledger(command) == before
    # The same moment in other words, and a column that says what is so without it, are the same line.
    other = "customer_id,credits,category,name,expires_at\nann,5,paid,Ann,2031-01-01T02:00:00+02:00\nbob,006,,,\n"
    assert counts(imported(command, write(command, other))) == (0, 2, 0)
    assert ledger(command) == before


def test_a_customer_twice_is_imported_once(command: ServerProcess) -> None:
    far = "".join(f"u{number},1\n" for number in range(600))  # more than a chunk between
    content = f"customer_id,credits\nann,5\nann,5\nann,6\n{far}ann,5\nann,7\n"
    reports = [imported(command, write(command, content), *options) for options in (("--dry-run",), ())]
    assert [counts(report) for report in reports] == [(601, 2, 2)] * 2
    assert [entry["credits"] for entry in ledger(command) if entry["customer_id"] == "ann"] == [5]
    found = refused(command, content)
    assert [(line, field) for line, field, _ in found] == [(4, "customer_id"), (606, "customer_id")]
    recorded = "this wallet's opening balance is recorded already (5 paid), and this line says otherwise"
    sentence = f"customer_id: {recorded}; correct what is recorded by an adjustment."
    assert [reason for _, _, reason in found] == [sentence] * 2


@pytest.mark.sqlite
def test_each_bad_line_is_refused_by_itself_and_good_ones_go_on(command: ServerProcess) -> None:
    lines: Sequence[tuple[bytes, str | None]] = [
        (b"good1,1,,,,,", None),
        (b" good2 , 2 , paid , , 3 , , ", None),
        (b"good3," + b"0" * 60 + b"3,,,,,", None),
        (b"a/b,1,,,,,", "customer_id: 1 to 255 printable characters"),
        (b" ,1,,,,,", "customer_id: it is empty, and a line says whose its credits are."),
        (b"c,,,,,,", "credits: a whole number such as 1160, and it is empty."),
        (b"c,5.0,,,,,", "credits: a whole number such as 1160, and it is '5.0'."),
        (b"c,1e3,,,,,", "credits: a whole number such as 1160, and it is '1e3'."),
        (b'c,"1,000",,,,,', "credits: a whole number such as 1160, and it is '1,000'."),
        (b"c,1,000,,,,,", "line: it has 8 fields, and the header names 7; one that has a comma in it stands in"),
        (
            b"c,-5,,,,,",
            "credits: -5 is a debt, and an opening balance is none: say 0, which makes the wallet, then give it an ",
        ),
        (b"c,1000000000001,,,,,", "credits: 1,000,000,000,000 at most, and it is '1000000000001'."),
        (b"c," + b"9" * 400 + b",,,,,", "credits: 1,000,000,000,000 at most"),
        (b"c,1,gift,,,,", "category: it must be one of paid, promotional."),
        (b"c,1,,a\x07b,,,", "name: "),
        (b"c,1,,,256,,", "priority: "),
        (b"c,1,,,first,,", "priority: a whole number from 0 to 255, and it is 'first'."),
        (b"c,1,,,,2001-01-01T00:00:00Z,", "expires_at: "),
        (b"c,1,,,,tomorrow,", "expires_at: a time such as 2026-01-31T12:00:00Z."),
        (b"c,1,,,,9999-12-31T23:59:59-14:00,", "expires_at: "),
        (b"c,1,,,,," + b"r" * 501, "reason: "),
        (b"c", "line: it has 1 field, and the header names 7."),
        (b"c,1,," + b"n" * 20_000 + b",,,", "line: it is longer than 16384 bytes."),
        (b"c\xff,1,,,,,", "customer_id: it is not UTF-8."),
        (b'c,1,,"a"b,,,', "line: it is not CSV: "),
        (b"good4,4,,,,,", None),
    ]
    header = b"customer_id,credits,category,name,priority,expires_at,reason\n"
    found = refused(command, header + b"\n".join(line for line, _ in lines) + b"\n")
    expected = [(number, sentence) for number, (_, sentence) in enumerate(lines, 2) if sentence is not None]
    assert [(line, field) for line, field, _ in found] == [(line, text.partition(":")[0]) for line, text in expected]
    for (_, _, reason), (_, sentence) in zip(found, expected, strict=True):
        assert reason.startswith(sentence)
    balances = {"good1": 1, "good2": 2, "good3": 3, "good4": 4}
    assert {entry["customer_id"]: entry["balance"] for entry in ledger(command)} == balances


def test_no_credits_make_the_wallet_alone_and_a_debt_is_an_adjustment(new_server: StartServer) -> None:
    server = new_server()
    content = "customer_id,credits,name\nnew,0,New\nold,0,Other\n"
    with server.client() as api:
        assert api.post("/v1/wallets", json={"customer_id": "old"}).status_code == 201
        reports = [imported(server, write(server, content), *options) for options in (("--dry-run",), (), ())]
        assert [(counts(report), report["credits"]) for report in reports] == [
            *[((1, 1, 0), 0)] * 2,
            ((0, 2, 0), 0),
        ]
        wallet = api.get("/v1/wallets/new").json()
        assert (wallet["name"], wallet["balance"], wallet["version"], wallet["grants"]) == ("New", 0, 1, [])
        [(_, _, reason)] = refused(server, "customer_id,credits\nnew,5\n")
        assert "is recorded already (0, 'Wallet opened')" in reason
        assert api.patch("/v1/wallets/new", json={"overdraft_limit": 5}).status_code == 200
        debt = api.post("/v1/wallets/new/adjustments", json={"credits": -5, "reason": "owed"})
        assert debt.status_code == 201
        assert api.patch("/v1/wallets/new", json={"overdraft_limit": 0}).status_code == 200
        assert balance(api, "new") == -5


@pytest.mark.sqlite
@pytest.mark.parametrize("filling", ["", "x" * 20_000])
def test_a_line_inside_of_a_quoted_field_is_no_line(command: ServerProcess, filling: str) -> None:
    content = (
        f'customer_id,credits,name\nann,1,"A{filling}\nmallory,1000000,\n"\nbob,2,\neve,3,"open\nmallory,1000000,\n'
    )
    found = refused(command, content)
    assert [line for line, _, _ in found] == [2, 6]
    assert {entry["customer_id"] for entry in ledger(command)} == {"bob"}


@pytest.mark.sqlite
def test_the_first_refused_lines_are_shown_and_all_are_written(command: ServerProcess) -> None:
    command.env["DATABASE_URL"] = "sqlite:///new.db"
    file = write(command, "customer_id,credits\n" + "=cmd,x\n" * 30)
    out = command.folder / "refused.csv"
    done = command.run("import", file, "--refused", str(out))
    assert done.returncode == 1
    into = f"into the new ledger {command.folder}/new.db"
    assert done.stdout == f"Imported 0 opening balances, 0 credits, {into}. Already there: 0. Refused: 30.\n"
    shown = done.stderr.splitlines()
    assert shown[0].startswith("line 2: credits: ")
    assert (len(shown), shown[-1]) == (21, "… and 10 more; --refused FILE writes all of them.")
    with out.open(newline="") as text:
        written = list(csv.reader(text))
    columns = ["customer_id", "credits", "refused_line", "refused_field", "refused_reason", "refused_text"]
    assert written[0] == columns
    reason = "credits: a whole number such as 1160, and it is 'x'."
    assert written[1:] == [["=cmd", "x", str(number), "credits", reason, ""] for number in range(2, 32)]


@pytest.mark.sqlite
def test_refused_lines_are_imported_once_they_are_mended(command: ServerProcess) -> None:
    file = write(command, 'reason,credits,customer_id\n"so, =so",x,=ann\n,1,bob\n=,2\n')
    out = command.folder / "refused.csv"
    (command.folder / "refused.csv.part").write_text("what a killed import left behind")
    assert counts(imported(command, file, "--refused", str(out))) == (1, 0, 2)
    assert sorted(command.folder.glob("refused*")) == [out]
    before = out.read_text()
    assert before.splitlines()[2] == ',,,4,line,"line: it has 2 fields, and the header names 3.","\'=,2"'
    again = command.run("import", file, "--refused", str(out))
    sentence = f"chargly: {out} is there already, and is not overwritten: move it away, or name another file.\n"
    assert (again.returncode, again.stderr, out.read_text()) == (1, sentence, before)
    mended = write(command, before.replace(",x,", ",3,").replace(",,,4", ",2,cy,4"), "mended.csv")
    assert counts(imported(command, mended, "--refused", "none.csv")) == (2, 0, 0)
    assert sorted(path.name for path in command.folder.glob("*.csv*")) == ["balances.csv", "mended.csv", "refused.csv"]
    found = {one["customer_id"]: (one["credits"], one["reason"]) for one in ledger(command)}
    assert found == {"bob": (1, None), "=ann": (3, "so, =so"), "cy": (2, None)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "The file is empty"),
        ("customer_id,balance\nann,1\n", "The column 'balance' is unknown"),
        ('"customer_id";"credits"\nann;1\n', "The first line separates the columns by ';'; separate the columns by"),
        ("customer_id\tcredits\nann\t1\n", "The first line separates the columns by a tab"),
        ("ann,1\nbob,2\n", "The first line must name the columns, such as customer_id,credits; it is 'ann,1'."),
        ("customer_id\nann\n", "The column 'credits' is missing"),
        ("customer_id,credits,credits\nann,1,1\n", "The column 'credits' is there twice"),
        ("customer_id,credits\n".encode("utf-16"), "The file is not UTF-8: save it as CSV in UTF-8."),
        ("x" * 20_000, "The first line names the columns"),
    ],
)
@pytest.mark.sqlite
def test_a_wrong_header_refuses_the_file(command: ServerProcess, content: str | bytes, sentence: str) -> None:
    command.env["DATABASE_URL"] = "sqlite:///new.db"
    done = command.run("import", write(command, content), "--refused", "refused.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"chargly: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert list(command.folder.glob("new.db*")) == []


def test_a_dry_run_writes_nothing_and_says_what_would_be(command: ServerProcess) -> None:
    write(command, "customer_id,credits\nann,5\n", "first.csv")
    imported(command, "first.csv")
    before = ledger(command)
    content = "customer_id,credits,expires_at\nann,5,\nann,6,\nbob,1,\nbob,1,\ncy,1,2001-01-01T00:00:00Z\ncy,x,\n"
    would_be = imported(command, write(command, content), "--dry-run")
    assert (counts(would_be), would_be["credits"], would_be["dry_run"]) == ((1, 2, 3), 1, True)
    assert ledger(command) == before
    assert imported(command, write(command, content)) == would_be | {"dry_run": False}


@pytest.mark.sqlite
def test_a_dry_run_makes_no_ledger(command: ServerProcess) -> None:
    command.env["DATABASE_URL"] = "sqlite:///new.db"
    file = write(command, "customer_id, credits\nann,1\nann,2\n")
    done = command.run("import", file, "--dry-run")
    into = f"into the new ledger {command.folder}/new.db"
    assert done.stdout == f"Would import 1 opening balance, 1 credit, {into}. Already there: 0. Refused: 1.\n"
    earlier = "an earlier line of this file gives this wallet another opening balance"
    assert done.stderr == f"line 3: customer_id: {earlier}; keep one of them.\n"
    assert list(command.folder.glob("new.db*")) == []


def test_customers_who_come_from_elsewhere_get_no_welcome_and_a_wallet_keeps_its_name(new_server: StartServer) -> None:
    server = new_server(CHARGLY_WELCOME_CREDITS="100")
    with server.client() as api:
        assert api.post("/v1/wallets", json={"customer_id": "old", "name": "Old"}).status_code == 201
        file = write(server, "customer_id,credits,name\nold,5,Other\nnew,5,New\n")
        assert counts(imported(server, file)) == (2, 0, 0)
        assert (balance(api, "old"), balance(api, "new")) == (105, 5)
        assert [api.get(f"/v1/wallets/{id}").json()["name"] for id in ("old", "new")] == ["Old", "New"]


def test_a_key_that_was_used_otherwise_is_a_refused_line(new_server: StartServer) -> None:
    server = new_server()
    with server.client(**{"Idempotency-Key": "opening-balance"}) as api:
        grant(api, "ann", 5)
    assert counts(imported(server, write(server, "customer_id,credits\nann,5\n"))) == (0, 0, 1)


def test_a_server_goes_on_beside_an_import(new_server: StartServer) -> None:
    server = new_server()
    file = write(server, many(3_000))
    with server.client() as api:
        grant(api, "busy", 10**6)
        running = subprocess.Popen(
            [chargly(), "import", file], env=server.env, cwd=server.folder, stdout=subprocess.PIPE
        )
        statuses = []
        while running.poll() is None:
            statuses.append(charge(api, "busy", credits=1).status_code)
        assert running.communicate()[0].startswith(b"Imported 3,000 ")
        assert set(statuses) == {201}
        assert balance(api, "busy") == 10**6 - len(statuses)
        assert balance(api, "user_0002999") == 1000


def test_an_import_that_was_killed_is_completed_by_the_next(new_server: StartServer) -> None:
    server = new_server()
    file = write(server, many(6_000))
    with server.client() as api:
        running = subprocess.Popen([chargly(), "import", file], env=server.env, cwd=server.folder)
        while api.get("/v1/wallets/user_0001000").status_code == 404:
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert api.get("/v1/wallets/user_0005999").status_code == 404
    done, already, bad = counts(imported(server, file))
    assert (done + already, bad) == (6_000, 0)
    assert already > 1_000
    assert [(entry["customer_id"], entry["version"], entry["balance"]) for entry in ledger(server)] == [
        (f"user_{number:07d}", 1, number % 1000 + 1) for number in range(6_000)
    ]


def memory_of(command: ServerProcess, *words: str) -> int:
    """The most memory that a command had, in bytes."""
    running = subprocess.Popen([chargly(), *words], env=command.env, cwd=command.folder)
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    return used.ru_maxrss * 1024


@pytest.mark.sqlite
def test_memory_does_not_grow_with_the_file_or_the_ledger(command: ServerProcess) -> None:
    one, all_of_them = write(command, many(1), "one.csv"), write(command, many(LINES_MANY), "many.csv")
    little = memory_of(command, "import", one)
    assert memory_of(command, "import", all_of_them) < little + MEMORY_GROWTH_BYTES_MAX
    for format in ("csv", "jsonl"):
        out = command.folder / f"ledger.{format}"
        words = ["export", "--all", "--format", format, "--out", str(out)]
        assert memory_of(command, *words) < little + MEMORY_GROWTH_BYTES_MAX
        with out.open("rb") as lines:
            assert sum(1 for _ in lines) == LINES_MANY + (format == "csv")


@pytest.mark.sqlite
def test_a_terminal_sees_how_far_it_is(command: ServerProcess) -> None:
    file = write(command, many(600))
    ours, terminal = pty.openpty()
    with open(terminal, "wb") as stderr:
        words = [chargly(), "import", file]
        subprocess.run(words, env=command.env, cwd=command.folder, stdout=stderr, stderr=stderr, check=True, timeout=60)
    with open(ours, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        shown = screen.read(100_000)
    assert b"Importing" in shown
    assert b"100%" in shown
    summary = b"Imported 600 opening balances, 180,300 credits, into "
    assert shown.splitlines()[-1].startswith(summary)
