"""Members of a team's wallet: what each has spent and held, and may spend."""

from typing import Any

import httpx
import pytest
from ledgers import capture, check_ledger, hold, release, wallet_of
from serving import charge, error_of, whole_ledger

NO_LIMITS = [
    7,
    "10",
    [],
    {},
    {"credits": 10},
    {"per": "day"},
    {"credits": 10, "per": "year"},
    {"credits": 10, "per": None},
    {"credits": 0, "per": "day"},
    {"credits": -1, "per": "day"},
    {"credits": 10.0, "per": "day"},
    {"credits": "10", "per": "day"},
    {"credits": True, "per": "day"},
    {"credits": None, "per": "day"},
    {"credits": 10**12 + 1, "per": "day"},
    {"credits": 10**13, "per": "day"},
    {"credits": 10, "per": "day", "from": "now"},
]


def member(api: httpx.Client, customer_id: str, name: str) -> dict[str, Any]:
    answer = api.get(f"/v1/wallets/{customer_id}/members/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def limit(api: httpx.Client, customer_id: str, name: str, credits: int | None, per: str = "day") -> httpx.Response:
    value = None if credits is None else {"credits": credits, "per": per}
    return api.patch(f"/v1/wallets/{customer_id}/members/{name}", json={"spend_limit": value})


def test_a_member_is_known_from_the_first_spending(api: httpx.Client, customer: str) -> None:
    refusal = error_of(api.get(f"/v1/wallets/{customer}/members/alice"), 404, "not_found")
    assert (refusal["customer_id"], refusal["member"]) == (customer, "alice")
    charge(api, customer, member="alice")
    hold(api, customer, 30, member="alice")
    charge(api, customer, member="bob", credits=5)
    assert member(api, customer, "alice") == {
        "customer_id": customer,
        "member": "alice",
        "spend_limit": None,
        "spent": {"day": 8, "week": 8, "month": 8},
        "held": 30,
    }
    assert member(api, customer, "bob")["spent"]["day"] == 5
    assert wallet_of(api, customer)["spent"] == {"day": 13, "week": 13, "month": 13}


def test_a_refused_event_makes_no_member(api: httpx.Client, customer: str) -> None:
    charge(api, customer, member="alice", credits=101)
    api.post("/v1/quote", json={"customer_id": customer, "event": "chat.reply", "member": "alice"})
    error_of(api.get(f"/v1/wallets/{customer}/members/alice"), 404, "not_found")


def test_what_a_member_holds_ends_with_the_hold(api: httpx.Client, customer: str) -> None:
    first, second = (hold(api, customer, 20, member="alice") for _ in range(2))
    assert member(api, customer, "alice")["held"] == 40
    capture(api, first["id"], credits=5)
    alice = member(api, customer, "alice")
    assert (alice["held"], alice["spent"]["day"]) == (20, 5)
    release(api, second["id"])
    assert member(api, customer, "alice")["held"] == 0
    check_ledger(api, customer)


def test_a_limit_is_set_changed_and_taken_away(api: httpx.Client, customer: str) -> None:
    for credits, per in ((1, "day"), (10**12, "week"), (500, "month")):
        answer = limit(api, customer, "alice", credits, per)
        assert (answer.status_code, answer.json()["spend_limit"]) == (200, {"credits": credits, "per": per})
        assert member(api, customer, "alice") == answer.json()
    assert limit(api, customer, "alice", None).json()["spend_limit"] is None
    entries = whole_ledger(api, customer, kind="settings")
    assert [(one["description"], one["member"]) for one in entries] == [("Member's limit changed", "alice")] * 4
    check_ledger(api, customer)


def test_a_limit_that_changes_nothing_makes_no_version(api: httpx.Client, customer: str) -> None:
    limit(api, customer, "alice", 10)
    stood = wallet_of(api, customer)["version"]
    limit(api, customer, "alice", 10)
    assert wallet_of(api, customer)["version"] == stood


def test_a_members_limit_makes_the_wallet_of_somebody_never_seen(api: httpx.Client, customer_id: str) -> None:
    assert limit(api, customer_id, "alice", 10).status_code == 200
    assert wallet_of(api, customer_id)["balance"] == 0
    check_ledger(api, customer_id)


def test_a_limit_set_before_the_first_spending_counts_from_it(api: httpx.Client, customer: str) -> None:
    limit(api, customer, "alice", 10)
    assert charge(api, customer, member="alice", credits=10).status_code == 201
    error_of(charge(api, customer, member="alice", credits=1), 402, "spend_limit_reached")


@pytest.mark.parametrize("value", NO_LIMITS, ids=repr)
@pytest.mark.parametrize("path", ["/members/alice", ""])
def test_a_limit_that_is_none_is_refused(api: httpx.Client, customer: str, path: str, value: Any) -> None:
    answer = api.patch(f"/v1/wallets/{customer}{path}", json={"spend_limit": value})
    field = error_of(answer, 400, "invalid_request")["field"]
    assert field.partition(".")[0] == "spend_limit"
    assert wallet_of(api, customer)["version"] == 1


@pytest.mark.parametrize("body", [{}, {"spend_limit": None, "name": "Alice"}, {"held": 0}, []])
def test_a_body_that_is_none_of_a_members_is_refused(api: httpx.Client, customer: str, body: Any) -> None:
    error_of(api.patch(f"/v1/wallets/{customer}/members/alice", json=body), 400, "invalid_request")


@pytest.mark.parametrize("name", ["m" * 255, "名前", "o'brien; --", "a%20b", "a%3Fb", "%25", "a@example.com"])
def test_a_strange_but_printable_member_is_like_any_other(api: httpx.Client, customer: str, name: str) -> None:
    assert limit(api, customer, name, 5).status_code == 200
    spelt = member(api, customer, name)["member"]
    assert charge(api, customer, member=spelt, credits=5).status_code == 201
    refusal = error_of(charge(api, customer, member=spelt, credits=1), 402, "spend_limit_reached")
    assert (refusal["scope"], refusal["spent"]) == ("member", 5)


@pytest.mark.parametrize("name", ["m" * 256, "a%0ab", "%00", "a%07", "%e2%80%ae"])
def test_a_member_that_is_none_is_refused_by_the_field(api: httpx.Client, customer: str, name: str) -> None:
    path = f"/v1/wallets/{customer}/members/{name}"
    for answer in (api.get(path), api.patch(path, json={"spend_limit": None})):
        assert error_of(answer, 400, "invalid_request")["field"] == "member"


@pytest.mark.parametrize("name", ["a/b", ".", ".."])
def test_a_member_who_may_spend_can_be_read_and_limited(api: httpx.Client, customer: str, name: str) -> None:
    """What an event takes as a member's name, the member's own path takes too, or both refuse it."""
    if charge(api, customer, member=name).status_code == 201:
        quoted = name.replace(".", "%2e").replace("/", "%2f")
        answer = api.get(f"/v1/wallets/{customer}/members/{quoted}")
        assert (answer.status_code, answer.json().get("member")) == (200, name)


def test_members_are_listed_by_name_a_page_at_a_time(api: httpx.Client, customer: str) -> None:
    names = sorted(["alice", "bob", "Zoe", "\u00e9milie", "名前"])
    for name in names:
        charge(api, customer, member=name, credits=1)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(f"/v1/wallets/{customer}/members", params={"limit": "2", **cursor}).json()
        found += [one["member"] for one in page["members"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == names
    listed = api.get(f"/v1/wallets/{customer}/members").json()["members"]
    assert listed[0] == member(api, customer, names[0])


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "101"), ("cursor", "zz"), ("query", "al"), ("member", "alice")]
)
def test_a_bad_parameter_of_the_list_is_refused_by_its_name(
    api: httpx.Client, customer: str, name: str, value: str
) -> None:
    answer = api.get(f"/v1/wallets/{customer}/members", params={name: value})
    assert error_of(answer, 400, "invalid_request")["field"] == name


def test_members_of_somebody_never_seen_are_not_found(api: httpx.Client, customer_id: str) -> None:
    error_of(api.get(f"/v1/wallets/{customer_id}/members"), 404, "not_found")
    error_of(api.get(f"/v1/wallets/{customer_id}/members/alice"), 404, "not_found")


def test_members_of_two_wallets_are_two_though_they_have_one_name(api: httpx.Client, customer: str) -> None:
    limit(api, customer, "alice", 5)
    limit(api, other := f"{customer}_2", "alice", None)
    charge(api, customer, member="alice", credits=5)
    assert member(api, other, "alice")["spent"]["day"] == 0
