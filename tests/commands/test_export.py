"""`chargly export`: the whole ledger as of one moment, as CSV and as JSON."""

import csv
import io
import json
import pty
import subprocess
from typing import Any

import pytest
from serving import ServerProcess, StartServer, charge, chargly, grant, whole_ledger

COLUMNS = [
    *("customer_id", "version", "id", "kind", "description", "credits", "balance", "held", "available", "created_at"),
    *("event", "model", "member", "quantity", "unit_credits", "price_version", "cost_usd"),
    *("draws", "metadata", "reason", "actor", "detail", "idempotency_key"),
]


def exported(command: ServerProcess, *words: str) -> list[dict[str, Any]]:
    done = command.run("export", *words)
    assert (done.returncode, done.stderr) == (0, "")
    if "jsonl" in words:
        return [json.loads(line) for line in done.stdout.splitlines()]
    return list(csv.DictReader(io.StringIO(done.stdout, newline="")))


def import_lines(command: ServerProcess, count: int) -> None:
    file = command.folder / "balances.csv"
    file.write_text("customer_id,credits\n" + "".join(f"user_{number:05d},1\n" for number in range(count)))
    assert command.run("import", str(file)).returncode == 0


@pytest.fixture
def ledger(new_server: StartServer) -> ServerProcess:
    """A server with two wallets that have seen some things."""
    server = new_server()
    with server.client() as api:
        for customer_id in ("zoë", "ann"):
            grant(api, customer_id, 100)
        fields = {"cost_usd": "0.0042", "metadata": {"a": [1, "=2"]}, "member": "=m", "idempotency_key": "k-1"}
        assert charge(api, "ann", **fields).status_code == 201
        hold = api.post("/v1/holds", json={"customer_id": "ann", "credits": 5}).json()
        assert api.post(f"/v1/holds/{hold['id']}/capture", json={"credits": 3}).status_code == 201
        body = {"credits": -2, "reason": "=HYPERLINK(1)"}
        assert api.post("/v1/wallets/zoë/adjustments", json=body).status_code == 201
    return server


def test_every_entry_of_every_wallet_is_there_oldest_first(ledger: ServerProcess) -> None:
    found = exported(ledger, "--all", "--format", "jsonl")
    assert [(one["customer_id"], one["version"]) for one in found] == [
        *(("ann", version) for version in (1, 2, 3, 4)),
        *(("zoë", version) for version in (1, 2)),
    ]
    assert all(list(one) == COLUMNS for one in found)
    with ledger.client() as api:
        answers = {one["version"]: one for one in whole_ledger(api, "ann")}
    for one in found[:4]:
        if (answer := answers.get(one["version"])) is not None:  # a hold is listed only where it is asked for
            assert answer.pop("hold_id") == (one["detail"] or {}).get("hold_id")
            draws = [{"grant_id": id, "credits": credits} for id, credits in one["draws"] or ()]
            assert one | {"draws": draws or None} == one | answer
    event, capture = found[1], found[3]
    assert (event["cost_usd"], event["metadata"]) == ("0.0042", {"a": [1, "=2"]})
    assert event["draws"] == [[found[0]["id"], 8]]
    assert capture["detail"]["held"] == 5


def test_csv_says_the_same_and_runs_nothing(ledger: ServerProcess) -> None:
    lines = exported(ledger, "--all", "--format", "jsonl")
    cells = exported(ledger, "--all")
    assert exported(ledger, "--all", "--format", "csv") == cells
    assert list(cells[0]) == COLUMNS
    for line, row in zip(lines, cells, strict=True):
        for name, value in line.items():
            if name in ("draws", "metadata", "detail"):
                assert json.loads(row[name] or "null") == value
            elif name in ("member", "reason") and value is not None:
                assert row[name] == "'" + value
            else:
                assert row[name] == ("" if value is None else str(value))


def test_one_wallet_is_exported_alone(ledger: ServerProcess) -> None:
    whole = exported(ledger, "--all", "--format", "jsonl")
    assert exported(ledger, "--wallet", "zoë", "--format", "jsonl") == whole[4:]


@pytest.mark.sqlite
def test_an_id_that_is_none_is_one_sentence(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    done = command.run("export", "--wallet", "a/b")
    assert done.returncode == 1
    assert done.stderr.startswith("chargly: --wallet: ")


def test_a_wallet_that_is_not_there_is_one_sentence(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    done = command.run("export", "--wallet", "nobody", "--out", "nobody.csv")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "chargly: There is no wallet for 'nobody'.\n")
    assert not list(command.folder.glob("nobody*"))


@pytest.mark.sqlite
@pytest.mark.parametrize("words", [[], ["--all", "--wallet", "u"], ["--all", "--format", "xml"]])
def test_what_is_to_be_exported_must_be_said(command: ServerProcess, words: list[str]) -> None:
    done = command.run("export", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_empty_ledger_has_its_header(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    assert command.run("export", "--all").stdout == ",".join(COLUMNS) + "\n"
    assert command.run("export", "--all", "--format", "jsonl").stdout == ""


def test_a_file_appears_when_it_is_whole_and_is_never_overwritten(ledger: ServerProcess) -> None:
    out = ledger.folder / "ledger.csv"
    assert exported(ledger, "--all", "--out", str(out)) == []
    assert out.read_text() == ledger.run("export", "--all").stdout
    assert sorted(ledger.folder.glob("ledger.csv*")) == [out]
    done = ledger.run("export", "--all", "--out", str(out))
    assert done.returncode == 1
    assert done.stderr.startswith(f"chargly: {out} is there already, and is not overwritten: ")
    done = ledger.run("export", "--all", "--out", "no/such/folder.csv")
    assert done.returncode == 1
    assert done.stderr == "chargly: no/such/folder.csv cannot be made: its folder does not exist.\n"


def test_a_reader_that_has_enough_ends_it_quietly(command: ServerProcess) -> None:
    import_lines(command, 3_000)
    for format in ("csv", "jsonl"):
        words = [chargly(), "export", "--all", "--format", format]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, env=command.env, cwd=command.folder, stdout=pipe, stderr=pipe) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            assert running.stdout.readline()
            running.stdout.close()
            assert running.stderr.read() == b""


@pytest.mark.sqlite
def test_a_full_disk_is_one_sentence(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    words = [chargly(), "export", "--all"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words, env=command.env, cwd=command.folder, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"chargly: The ledger could not be written out: No space left on device.\n"


def test_it_is_of_one_moment_beside_a_running_server(new_server: StartServer) -> None:
    server = new_server()
    import_lines(server, 6_000)
    with server.client() as api:
        words = [chargly(), "export", "--all", "--format", "jsonl"]
        with subprocess.Popen(words, env=server.env, cwd=server.folder, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            first = running.stdout.readline()  # the rest waits: the pipe is full
            for customer_id in ("user_05999", "user_99999"):
                grant(api, customer_id, 7)
            rest = running.stdout.readlines()
        assert running.returncode == 0
    found = [json.loads(line) for line in (first, *rest)]
    assert [(one["customer_id"], one["balance"]) for one in found] == [(f"user_{n:05d}", 1) for n in range(6_000)]
    assert len(exported(server, "--all", "--format", "jsonl")) == 6_002


@pytest.mark.sqlite
def test_a_terminal_sees_how_far_it_is_unless_it_is_shown_the_ledger(command: ServerProcess) -> None:
    import_lines(command, 10)
    for options, bar in ((["--out", "ledger.csv"], True), ([], False)):
        ours, terminal = pty.openpty()
        with open(terminal, "wb") as screen:
            words = [chargly(), "export", "--all", *options]
            subprocess.run(
                words, env=command.env, cwd=command.folder, stdout=screen, stderr=screen, check=True, timeout=60
            )
        with open(ours, "rb", buffering=0) as shown:
            assert (b"Exporting" in shown.read(100_000)) is bar
