"""What the ledger must survive, line by line, through the real server; each test says the number of its line.

These lines are covered elsewhere:

1. the same key and body a hundred times at once: `test_events.py`
   (`test_a_hundred_equal_requests_at_once_make_one_entry_and_a_hundred_equal_answers`), for every other POST
   `test_idempotency.py` (`test_thirty_equal_requests_at_once_are_one`) and `test_races.py`
   (`test_a_hundred_equal_captures_are_one`).
2. the same key with another amount, event or wallet: `test_events.py`
   (`test_the_same_key_with_another_request_is_a_conflict`, `test_a_key_belongs_to_one_wallet`), `test_idempotency.py`
   (`test_a_key_with_another_request_is_a_conflict_and_changes_nothing`).
3. a crash between commit and answer, then a retry: `test_crash.py`
   (`test_a_server_that_goes_during_load_has_every_answered_event_and_the_rest_can_be_sent_again`), `test_kill.py`.
4. a caller that leaves while its commit runs: `test_crash.py`
   (`test_callers_that_leave_before_their_answer_take_effect_once`), `store/test_writer_failures.py`
   (`test_a_caller_that_leaves_does_not_disturb_the_batch_and_its_key_replays`).
5. a COMMIT that fails: `store/test_writer_failures.py` (`test_a_failing_commit_gives_its_connection_back`,
   `test_a_commit_that_fails_is_tried_again_on_a_new_connection`), `store/test_postgres.py`
   (`test_commits_that_fail_leave_no_connection_behind`).
6. `kill -9` in a batch: `test_kill.py`; the full disk is here too.
7. read, then write, while another connection commits: `store/test_writer.py`
   (`test_a_reader_in_between_and_another_writer_never_meet_a_stale_snapshot`); with whole processes here.
8. two servers on one file: `test_start.py` (`test_a_second_server_on_the_same_file_refuses_to_start`).
10. STRICT tables: `store/test_schema.py` (`test_every_table_is_strict`); what the API takes for a number is here.
15. a body too large: `test_http.py`; the batch's limit is here, with the memory that a refused body takes.
16. a customer's ids: `test_bad_requests.py`; those of everything else are here.
"""

import contextlib
import json
import resource
import secrets
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from api.timed import TimedServer
from ledgers import capture, check_ledger, every_hold, give, hold, quote, release, wallet_of
from serving import ADMIN_KEY, ServerProcess, StartServer, balance, charge, error_of, grant

from app.config import METADATA_DEPTH_MAX

JSON = {"Content-Type": "application/json"}


class Doors:
    """A customer with 100 credits and an open hold over 10, and every way in for a number or a body."""

    def __init__(self, api: httpx.Client, customer_id: str) -> None:
        self.api, self.customer_id = api, customer_id
        grant(api, customer_id, 100)
        held = hold(api, customer_id, 10)["id"]
        mine = {"customer_id": customer_id, "event": "chat.reply"}
        wallet = f"/v1/wallets/{customer_id}"
        promotional = {"credits": 5, "category": "promotional"}
        self.numbers: list[tuple[str, str, dict[str, Any], str]] = [
            ("POST", "/v1/events", mine, "credits"),
            ("POST", "/v1/events", mine, "quantity"),
            ("POST", "/v1/quote", mine, "quantity"),
            ("POST", "/v1/holds", mine, "credits"),
            ("POST", "/v1/holds", mine, "quantity"),
            ("POST", "/v1/holds", mine, "expires_in"),
            ("POST", f"/v1/holds/{held}/capture", {}, "credits"),
            ("POST", f"/v1/holds/{held}/capture", {}, "quantity"),
            ("POST", f"{wallet}/grants", promotional, "credits"),
            ("POST", f"{wallet}/grants", promotional, "priority"),
            ("POST", f"{wallet}/adjustments", {"reason": "r"}, "credits"),
            ("POST", f"{wallet}/tokens", {}, "expires_in"),
            ("PATCH", wallet, {}, "low_balance_threshold"),
            ("PATCH", wallet, {}, "overdraft_limit"),
        ]
        self.bodies = sorted({path for method, path, _, _ in self.numbers if method == "POST"})
        self.bodies += ["/v1/wallets", "/v1/events/batch", f"/v1/holds/{held}/release"]
        self._stood = wallet_of(api, customer_id)

    def refuse_number(self, written: str) -> None:
        """No door takes it for a number, and the wallet stays as it was."""
        for method, path, body, field in self.numbers:
            content = json.dumps(body | {field: "HERE"}).replace('"HERE"', written)
            answer = self.api.request(method, path, content=content, headers=JSON)
            assert answer.status_code == 400, (path, field, answer.text)
            error_of(answer, 400, answer.json()["error"]["code"])
        item = json.dumps({"customer_id": self.customer_id, "event": "chat.reply", "credits": "HERE"})
        batch = f'{{"events": [{item}]}}'.replace('"HERE"', written)
        answer = self.api.post("/v1/events/batch", content=batch, headers=JSON)
        assert answer.status_code == 400 or answer.json()["results"][0]["status"] == 400
        self.check_untouched()

    def refuse_body(self, content: bytes) -> None:
        """No door takes it for a body, and the wallet stays as it was."""
        for path in self.bodies:
            answer = self.api.post(path, content=content, headers=JSON)
            assert answer.status_code == 400, (path, answer.text)
            assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")
        self.check_untouched()

    def check_untouched(self) -> None:
        assert wallet_of(self.api, self.customer_id) == self._stood


@pytest.fixture
def doors(api: httpx.Client, customer_id: str) -> Doors:
    return Doors(api, customer_id)


# 6, 7: the disk, and others who write


@pytest.mark.sqlite
def test_a_full_disk_loses_nothing_that_was_answered_and_the_process_says_so(new_server: StartServer) -> None:
    """6: no file of the process may grow, nor be written, until there is room again."""
    server = new_server()
    with server.client() as api:
        grant(api, "u", 100)
        first = charge(api, "u", idempotency_key="before").json()
        assert server.process is not None
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
        error_of(charge(api, "u", idempotency_key="during"), 503, "busy")
        error_of(api.post("/v1/holds", json={"customer_id": "u", "credits": 5}), 503, "busy")
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["writer"]) == (503, False)
        assert balance(api, "u") == 92
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert charge(api, "u", idempotency_key="during").json()["balance"] == 84
        assert charge(api, "u", idempotency_key="before").json() == first
        assert api.get("/readyz").status_code == 200
        assert len(check_ledger(api, "u")) == 3


def test_another_process_that_commits_in_between_costs_no_event(new_server: StartServer) -> None:
    """7: commands that write to the same database, while events are metered without a pause."""
    server = new_server()
    done = threading.Event()
    codes: list[int] = []

    def meter() -> None:
        with server.client() as api:
            while not done.is_set():
                codes.append(charge(api, "u", credits=1).status_code)

    with server.client() as api:
        grant(api, "u", 10**6)
        metering = threading.Thread(target=meter)
        metering.start()
        commands = [
            server.run("keys", "create", "--name", f"k{number}", "--scope", "meter", "--json") for number in range(2)
        ]
        done.set()
        metering.join()
        assert [command.returncode for command in commands] == [0, 0]
        assert set(codes) == {201}
        check_ledger(api, "u")


# 9 to 14: numbers and bodies


@pytest.mark.parametrize("amount", ["-5", "-1", "-1000000000000", "-9223372036854775808"])
def test_a_negative_amount_mints_no_credit(doors: Doors, amount: str) -> None:
    """9: at every door; the one that takes negative amounts, the adjustment, takes no more than there is."""
    doors.numbers = [one for one in doors.numbers if not one[1].endswith("/adjustments")]
    doors.refuse_number(amount)
    path = f"/v1/wallets/{doors.customer_id}/adjustments"
    body = {"credits": -91, "reason": "r"}
    error_of(doors.api.post(path, json=body), 402, "insufficient_credits")
    doors.check_untouched()


@pytest.mark.parametrize("written", ["14.9", "8.0", "1e2", "1E0", "-0.0", '"8"', '"0x8"', '" 8"', "[8]", '{"n": 8}'])
def test_floats_and_numeric_strings_are_no_credits(doors: Doors, written: str) -> None:
    """10: not even a float without a fraction."""
    doors.refuse_number(written)


@pytest.mark.parametrize("written", ["true", "false", "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "nan"])
def test_true_nan_and_numbers_beyond_all_numbers_are_no_credits(doors: Doors, written: str) -> None:
    """11: `true` is an int in Python, and NaN and 1e400 parse there."""
    doors.refuse_number(written)


@pytest.mark.parametrize("written", ["NaN", "Infinity", "1e400", "[1e400]", '{"deep": [NaN]}'])
def test_metadata_that_could_not_be_answered_is_refused_before_the_commit(
    api: httpx.Client, customer: str, written: str
) -> None:
    """11: what cannot be written as JSON again would be a failure after the commit."""
    made = hold(api, customer, 10)
    body = {"metadata": {"n": "HERE"}}
    mine = body | {"customer_id": customer, "event": "chat.reply"}
    for path, one in (("/v1/events", mine), ("/v1/holds", mine), (f"/v1/holds/{made['id']}/capture", body)):
        content = json.dumps(one).replace('"HERE"', written)
        answer = api.post(path, content=content, headers=JSON)
        assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")
        error_of(answer, 400, answer.json()["error"]["code"])
    assert wallet_of(api, customer)["version"] == 2


@pytest.mark.parametrize("number", ["1e308", "-0.0", "0.1", "123456789012345678901234567890", "1.0"])
def test_numbers_of_metadata_come_back_in_every_answer(api: httpx.Client, customer: str, number: str) -> None:
    """11, 12: an answer, its replay, its reading and the ledger are one, or it is refused."""
    body = {"customer_id": customer, "event": "chat.reply", "metadata": {"n": "HERE"}, "idempotency_key": "k"}
    content = json.dumps(body).replace('"HERE"', number)
    first = api.post("/v1/events", content=content, headers=JSON)
    if first.status_code == 400:
        error_of(first, 400, first.json()["error"]["code"])
        return
    assert first.status_code == 201
    again = api.post("/v1/events", content=content, headers=JSON)
    read = api.get(f"/v1/events/{first.json()['id']}")
    assert first.text == again.text == read.text
    assert api.get(f"/v1/wallets/{customer}/entries").json()["entries"][0]["metadata"] == first.json()["metadata"]


@pytest.mark.parametrize(
    "number",
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**19, 10**100, 9 * 10**15 + 1],
    ids=lambda number: f"{number:.3e}",
)
def test_numbers_at_the_end_of_64_bits_are_refused(doors: Doors, number: int) -> None:
    """12: 2^63−1 plus 1 silently becomes a float in SQLite, and 2^63 no parameter at all."""
    doors.refuse_number(str(number))
    entries = f"/v1/wallets/{doors.customer_id}/entries"
    for query in ({"limit": str(number)}, {"cursor": str(number).encode().hex()}):
        answer = doors.api.get(entries, params=query)
        if answer.status_code != 200:
            error_of(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "content",
    [
        b'{"credits": ' + b"9" * 5000 + b"}",
        b'{"credits": 1' + b"0" * 5000 + b"e-4999}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"metadata": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        b'{"reason": "\\ud800"}',
        b'{"reason": "\xff"}',
        b'{"\\ud800": 1}',
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"true",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
    ids=range(18),
)
def test_a_body_that_is_no_object_of_this_world_is_a_400(doors: Doors, content: bytes) -> None:
    """13: at every door."""
    doors.refuse_body(content)


def test_of_doubled_keys_the_last_one_counts_as_the_docs_say(api: httpx.Client, customer: str) -> None:
    """14: the parser cannot tell, so it is documented."""
    content = f'{{"customer_id": "nobody", "credits": 90, "customer_id": "{customer}", "event": "x.y", "credits": 7}}'
    answer = api.post("/v1/events", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["credits"], answer.json()["customer_id"]) == (201, 7, customer)
    error_of(api.get("/v1/wallets/nobody"), 404, "not_found")
    documented = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    assert "the last one wins" in documented


def test_metadata_nested_as_deeply_as_it_is_taken_costs_no_hold_its_end(timed: TimedServer, customer_id: str) -> None:
    """13: what a hold keeps is read again when it is captured, listed, replayed, and when it runs out."""
    api = timed.api
    grant(api, customer_id, 100)
    for depth in (5, 10, 20, METADATA_DEPTH_MAX - 1, METADATA_DEPTH_MAX, 400, 950, 980, 1000, 1500):
        nested = "[" * depth + "]" * depth
        body = {"customer_id": customer_id, "credits": 1, "metadata": {"a": "HERE"}, "expires_in": 60}
        content = json.dumps(body | {"idempotency_key": f"d{depth}"}).replace('"HERE"', nested)
        first = api.post("/v1/holds", content=content, headers=JSON)
        assert first.status_code == (201 if depth < METADATA_DEPTH_MAX else 400), (depth, first.text[:200])
        if first.status_code == 400:
            continue
        assert api.post("/v1/holds", content=content, headers=JSON).text == first.text, depth
        hold_id = first.json()["id"]
        assert api.get(f"/v1/holds/{hold_id}").status_code == 200, depth
        if depth in (10, 20):
            assert capture(api, hold_id).status_code == 201, depth
    timed.move(minutes=2)
    check_ledger(api, customer_id)
    assert {one["status"] for one in every_hold(api, customer_id)} == {"captured", "expired"}


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "\u202e", "\ufeff", "\U0001f600", "'\"\\", "\x7f\x1f", "\u2028"], ids=ascii
)
def test_metadata_of_any_characters_comes_back_as_it_was(api: httpx.Client, customer: str, text: str) -> None:
    """16: in values and in names."""
    metadata = {"value": text, text: [text]}
    made = hold(api, customer, 10, metadata=metadata, idempotency_key="k")
    assert made["metadata"] == metadata
    assert hold(api, customer, 10, metadata=metadata, idempotency_key="k") == made
    assert api.get(f"/v1/holds/{made['id']}").json()["metadata"] == metadata
    event = capture(api, made["id"]).json()
    assert event["metadata"] == metadata
    assert capture(api, made["id"]).json() == event
    alone = [charge(api, customer, credits=1, metadata=metadata, idempotency_key="e").json() for _ in range(2)]
    assert alone[0] == alone[1]
    assert check_ledger(api, customer)[-1]["metadata"] == metadata


# 15, 16: sizes and names


def peak_megabytes(server: ServerProcess) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/batch"])
@pytest.mark.parametrize("chunked", [False, True])
def test_three_hundred_megabytes_take_no_memory(
    server: ServerProcess, api: httpx.Client, customer: str, path: str, *, chunked: bool
) -> None:
    """15: a plain server took 620 MB for them."""
    before = peak_megabytes(server)
    pieces = 1200
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {pieces << 18}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n{length}\r\n"
    piece = b" " * (1 << 18)
    sent = b"40000\r\n" + piece + b"\r\n" if chunked else piece
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        connection.sendall(sent * 40)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
        with contextlib.suppress(OSError):  # it may hang up
            for _ in range(pieces - 40):
                connection.sendall(sent)
    assert peak_megabytes(server) - before < 64
    assert charge(api, customer).status_code == 201


STRANGE = [
    "'; DROP TABLE entries; --",
    '"',
    "%00",
    "hold_%00",
    "evt_1%00",
    "%e2%80%ae",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%ed%a0%80",
    "%ff%fe",
    "%25%30%30",
    "名前",
    "x" * 30_000,
]


@pytest.mark.parametrize("name", STRANGE, ids=lambda name: name[:20])
def test_ids_with_quotes_nul_and_marks_are_no_fault_of_ours(api: httpx.Client, customer: str, name: str) -> None:
    """16: wherever an id or a name stands in a path or a query."""
    wallet = f"/v1/wallets/{customer}"
    calls = [
        ("GET", f"/v1/holds/{name}"),
        ("POST", f"/v1/holds/{name}/capture"),
        ("POST", f"/v1/holds/{name}/release"),
        ("GET", f"/v1/events/{name}"),
        ("POST", f"/v1/events/{name}/reverse"),
        ("POST", f"{wallet}/grants/{name}/void"),
        ("POST", f"{wallet}/grants/grant_{name}/void"),
        ("GET", f"{wallet}/members/{name}"),
        ("GET", f"{wallet}/entries?event={name}"),
        ("GET", f"{wallet}/entries?kind={name}"),
        ("GET", f"{wallet}/holds?status={name}"),
        ("GET", f"/v1/wallets?query={name}"),
        ("GET", f"/v1/prices/{name}"),
        ("GET", f"/v1/checkouts/{name}"),
        ("GET", f"/v1/wallets/{name}/holds"),
        ("GET", f"/v1/wallets/{name}/members"),
    ]
    for method, path in calls:
        answer = api.request(method, path)
        assert answer.status_code in (200, 400, 404), (path[:80], answer.status_code, answer.text[:200])
        if answer.status_code != 200:
            error_of(answer, answer.status_code, answer.json()["error"]["code"])
    assert charge(api, customer).status_code == 201


@pytest.mark.parametrize("cursor", ["00", "2d31", "39" * 30, "f09f9880", "27", "e280ae"])
def test_cursors_of_somebody_elses_making_are_no_fault_of_ours(api: httpx.Client, customer: str, cursor: str) -> None:
    """16: an opaque cursor may say anything."""
    wallet = f"/v1/wallets/{customer}"
    for path in ("/v1/wallets", f"{wallet}/holds", f"{wallet}/members", f"{wallet}/entries"):
        answer = api.get(path, params={"cursor": cursor})
        assert answer.status_code in (200, 400), (path, answer.text)


def test_a_name_of_a_megabyte_is_refused(api: httpx.Client, customer: str) -> None:
    """16: in a body it is refused by its field; in a path it finds nothing."""
    long = "x" * 10**6
    for body, field in (
        ({"customer_id": long, "event": "chat.reply"}, "customer_id"),
        ({"customer_id": customer, "event": long}, "event"),
        ({"customer_id": customer, "event": "chat.reply", "member": long}, "member"),
        ({"customer_id": customer, "event": "chat.reply", "idempotency_key": long}, "idempotency_key"),
    ):
        for path in ("/v1/events", "/v1/holds"):
            assert error_of(api.post(path, json=body), 400, "invalid_request")["field"] == field
    with contextlib.suppress(httpx.TransportError):
        assert 400 <= api.get(f"/v1/holds/{long[:65_000]}").status_code < 500
    assert charge(api, customer).status_code == 201


# 17: clocks


@pytest.mark.parametrize("back_first", [True, False])
def test_clock_jumps_of_an_hour_both_ways_neither_revive_nor_lose_a_hold_or_a_grant(
    timed: TimedServer, customer_id: str, *, back_first: bool
) -> None:
    """17."""
    api = timed.api
    grant(api, customer_id, 100)
    lapsing = give(api, customer_id, 50, expires_at=timed.soon(minutes=30))
    pending = give(api, customer_id, 30, effective_at=timed.soon(minutes=30))
    short, long = hold(api, customer_id, 10, expires_in=900), hold(api, customer_id, 10, expires_in=7200)
    if back_first:
        timed.move(hours=-1)
        assert [one["status"] for one in every_hold(api, customer_id)] == ["open", "open"]
        assert charge(api, customer_id, credits=1).status_code == 201
        assert wallet_of(api, customer_id)["balance"] == 149
        timed.move(hours=1)
        assert [one["status"] for one in every_hold(api, customer_id)] == ["open", "open"]
    stood = wallet_of(api, customer_id)["balance"]
    timed.move(hours=1)
    lost = next(one["credits"] for one in check_ledger(api, customer_id) if one["kind"] == "expiry")
    after = wallet_of(api, customer_id)
    assert after["balance"] == stood + 30 + lost
    assert after["held"] == 10
    timed.move(hours=-1)
    assert wallet_of(api, customer_id) == after
    shown = {one["id"]: one["status"] for one in every_hold(api, customer_id)}
    assert shown == {short["id"]: "expired", long["id"]: "open"}
    for answer in (capture(api, short["id"]), release(api, short["id"])):
        assert error_of(answer, 409, "hold_not_open")["status"] == "expired"
    grants = {one["id"]: one["status"] for one in after["grants"]}
    assert lapsing["id"] not in grants
    assert grants[pending["id"]] == "active"
    assert capture(api, long["id"]).status_code == 201
    assert charge(api, customer_id, credits=1).status_code == 201
    timed.move(hours=1)
    entries = check_ledger(api, customer_id)
    kinds = [one["kind"] for one in entries]
    assert (kinds.count("expiry"), kinds.count("hold_expiry"), kinds.count("grant")) == (1, 1, 3)


def test_what_is_made_while_the_clock_is_ahead_is_there_when_it_comes_back(
    timed: TimedServer, customer_id: str
) -> None:
    """17."""
    api = timed.api
    grant(api, customer_id, 100)
    timed.move(hours=1)
    made = hold(api, customer_id, 10, expires_in=60)
    given = give(api, customer_id, 20, expires_at=timed.soon(minutes=5))
    timed.move(hours=-1)
    assert api.get(f"/v1/holds/{made['id']}").json()["status"] == "open"
    assert wallet_of(api, customer_id)["balance"] == 120
    later = hold(api, customer_id, 10, expires_in=60)
    assert later["created_at"] >= made["created_at"]
    assert capture(api, made["id"]).status_code == 201
    soon = give(api, customer_id, 5, expires_at=timed.soon(minutes=90))
    assert soon["status"] == "active"
    timed.move(hours=2)
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["held"], len(wallet["grants"])) == (100, 0, 1)
    assert given["id"] not in {one["id"] for one in wallet["grants"]}
    check_ledger(api, customer_id)


def test_a_spend_limit_counts_on_when_the_clock_goes_back_over_its_window(timed: TimedServer, customer_id: str) -> None:
    """17: what was spent after midnight still counts when the clock says that it is the day before."""
    api = timed.api
    grant(api, customer_id, 100)
    api.patch(f"/v1/wallets/{customer_id}", json={"spend_limit": {"credits": 10, "per": "day"}})
    midnight = (86_400 - timed.now().timestamp() % 86_400) + 1
    timed.move(seconds=midnight)
    charge(api, customer_id, credits=10)
    timed.move(hours=-1)
    error_of(charge(api, customer_id, credits=1), 402, "spend_limit_reached")
    said = quote(api, customer_id)
    assert (said["reason"], said["covers"]) == ("spend_limit_reached", 0)
    assert wallet_of(api, customer_id)["spent"]["day"] == 10
    timed.move(hours=1)


def test_tokens_made_before_a_jump_forward_end_and_new_ones_do_not(timed: TimedServer, customer_id: str) -> None:
    """17: the time of a credential is the server's clock's."""
    grant(timed.api, customer_id, 5)
    token = timed.server.token(customer_id, expires_in=secrets.choice([60, 900]))
    timed.move(hours=1)
    with timed.server.client(timed.server.token(customer_id)) as browser:
        assert balance(browser, customer_id) == 5
    with timed.server.client(token) as browser:
        assert browser.get(f"/v1/wallets/{customer_id}").status_code in (200, 401)
