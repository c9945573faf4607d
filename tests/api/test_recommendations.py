"""Advice on prices: made from usage, explained, and applied by nobody but who approves it."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from serving import StartServer, charge, error_of

PATH = "/v1/pricing/recommendations"


@pytest.fixture
def api(new_server: StartServer) -> Iterator[httpx.Client]:
    """A server of this test's own, whose usage is its alone."""
    with new_server().client() as client:
        yield client


@pytest.fixture
def customer(api: httpx.Client) -> str:
    """A customer whose credits were paid for with 2 cents each."""
    name = f"user_{secrets.token_hex(4)}"
    api.post(f"/v1/wallets/{name}/grants", json={"credits": 100_000, "category": "paid", "usd_value": "2000"})
    return name


def use(api: httpx.Client, customer: str, event: str = "chat.reply", times: int = 40, **fields: Any) -> None:
    events = [{"customer_id": customer, "event": event, **fields}] * times
    assert api.post("/v1/events/batch", json={"events": events}).json()["accepted"] == times


def advise(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = api.post(PATH, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    return api.get(PATH, params=query).json()["recommendations"]


def test_advice_explains_itself_and_changes_nothing(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")  # 8 credits are 16 cents; 30 cents need 15 credits
    made = advise(api, target_margin_percent=50, days=30)
    [one] = made["recommendations"]
    assert (one["event"], one["kind"], one["status"]) == ("chat.reply", "raise", "pending")
    assert (one["current_credits"], one["recommended_credits"]) == (8, 15)
    assert one["reason"] == (
        "A unit costs 0.15 USD and earns 0.16 USD at 8 credits, a margin of 6.2 %; 15 credits reach the target of 50 %."
        " All units are of the second half of the period."
    )
    assert one["estimated_lift_usd"] == "5.6"  # 40 units, 7 credits more, 2 cents
    assert one["confidence"] == "low"
    assert one["facts"]["units"] == 40
    assert (one["version_from"], one["version_to"]) == (1, None)
    assert {item["event"] for item in made["withheld"]} == {"agent.run", "doc.summarize", "image.generate"}
    assert api.get("/v1/prices/chat.reply").json()["credits"] == 8
    assert api.get(f"{PATH}/{one['id']}").json() == one


def test_the_same_advice_is_made_once_and_another_takes_its_place(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")
    first = advise(api)["recommendations"]
    use(api, customer, cost_usd="0.15")
    assert advise(api)["recommendations"] == first
    [other] = advise(api, target_margin_percent=25)["recommendations"]
    assert other["recommended_credits"] == 10
    assert [one["status"] for one in listed(api)] == ["pending", "expired"]
    assert listed(api, status="expired")[0]["decided_because"] == "The facts have changed."
    use(api, customer, cost_usd="0.01", times=900)
    assert [one["kind"] for one in advise(api, target_margin_percent=25)["recommendations"]] == ["lower"]


def test_what_is_applied_is_a_version_like_any_other(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15", model="gpt-5")
    use(api, customer, cost_usd="0.03", model="gpt-5-mini")
    [one] = advise(api)["recommendations"]
    assert (one["kind"], one["per_model"]) == ("per_model", {"gpt-5": 15, "gpt-5-mini": 3})
    done = api.post(f"{PATH}/{one['id']}/apply", json={}).json()
    assert (done["status"], done["new_version"], done["version_to"]) == ("applied", 2, 2)
    assert done["decided_by"] == "CHARGLY_API_KEY"
    price = api.get("/v1/prices/chat.reply").json()
    assert (price["version"], price["label"], price["per_model"]) == (2, "Chat reply", one["per_model"])
    assert charge(api, customer, model="gpt-5").json()["credits"] == 15
    for path in ("apply", "reject"):
        refused = error_of(api.post(f"{PATH}/{one['id']}/{path}", json={}), 409, "recommendation_not_open")
        assert refused["status"] == "applied"


def test_of_two_that_apply_at_once_one_wins_and_the_other_is_told(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")
    [one] = advise(api)["recommendations"]
    with ThreadPoolExecutor(8) as several:
        answers = list(several.map(lambda _: api.post(f"{PATH}/{one['id']}/apply"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert len(api.get("/v1/prices/chat.reply/versions").json()["versions"]) == 2


def test_of_two_that_advise_at_once_one_recommendation_is_made(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")
    with ThreadPoolExecutor(6) as several:
        made = list(several.map(lambda _: advise(api)["recommendations"][0]["id"], range(6)))
    assert len(set(made)) == 1
    assert len(listed(api)) == 1


def test_what_is_rejected_keeps_why_and_is_not_advised_again_until_it_differs(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")
    [one] = advise(api)["recommendations"]
    rejected = api.post(f"{PATH}/{one['id']}/reject", json={"reason": "not before spring"}).json()
    assert (rejected["status"], rejected["decided_because"]) == ("rejected", "not before spring")
    assert api.get("/v1/prices/chat.reply").json()["version"] == 1
    assert error_of(api.post(f"{PATH}/{one['id']}/apply"), 409, "recommendation_not_open")["status"] == "rejected"
    answer = advise(api)
    assert answer["recommendations"] == []
    [why] = [item["reason"] for item in answer["withheld"] if item["event"] == "chat.reply"]
    assert why == f"The same, 15 credits, was rejected on {rejected['decided_at'][:10]}: not before spring"
    [other] = advise(api, target_margin_percent=70)["recommendations"]  # 25 credits are another matter
    assert other["recommended_credits"] == 25
    api.put("/v1/prices/chat.reply", json={"credits": 8}).raise_for_status()
    [again] = advise(api)["recommendations"]  # so is a new version of the price
    assert again["recommended_credits"] == 15


def test_a_price_that_changes_ends_what_was_advised_on_it(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15")
    [one] = advise(api)["recommendations"]
    api.put("/v1/prices/chat.reply", json={"credits": 9})
    refused = error_of(api.post(f"{PATH}/{one['id']}/apply"), 409, "recommendation_not_open")
    assert refused["status"] == "expired"
    assert api.get("/v1/prices/chat.reply").json()["credits"] == 9
    [again] = advise(api)["recommendations"]
    assert again["version_from"] == 2
    api.delete("/v1/prices/chat.reply")
    assert [item["status"] for item in listed(api)] == ["expired", "expired"]


def test_a_merge_puts_one_price_on_all_its_events(api: httpx.Client, customer: str) -> None:
    names = [f"doc.scan.{name}" for name in ("a", "b", "c")]
    for name in names:
        api.put(f"/v1/prices/{name}", json={"credits": 1, "label": name[-1].upper()})
        use(api, customer, name, times=20, cost_usd="0.05")
    use(api, customer, times=900, cost_usd="0.08")
    use(api, customer, times=900, cost_usd="0.08")
    [one] = advise(api)["recommendations"]
    assert (one["kind"], one["facts"]["merge"], one["recommended_credits"]) == ("merge", names, 5)
    assert api.post(f"{PATH}/{one['id']}/apply").json()["new_version"] == 2
    prices = {name: api.get(f"/v1/prices/{name}").json() for name in names}
    assert [(price["credits"], price["label"]) for price in prices.values()] == [(5, "A"), (5, "B"), (5, "C")]


def test_a_merge_is_of_no_use_once_one_of_its_prices_has_changed(api: httpx.Client, customer: str) -> None:
    names = [f"doc.scan.{name}" for name in ("a", "b", "c")]
    for name in names:
        api.put(f"/v1/prices/{name}", json={"credits": 1})
        use(api, customer, name, times=20, cost_usd="0.05")
    for _ in range(2):
        use(api, customer, times=900, cost_usd="0.08")
    [one] = advise(api)["recommendations"]
    other = next(name for name in names if name != one["event"])
    api.put(f"/v1/prices/{other}", json={"credits": 2, "minimum": 9})
    refused = error_of(api.post(f"{PATH}/{one['id']}/apply"), 409, "recommendation_not_open")
    assert refused["status"] == "expired"
    assert api.get(f"/v1/prices/{other}").json()["minimum"] == 9
    assert api.get(f"{PATH}/{one['id']}").json()["status"] == "expired"


def test_advice_on_a_flat_rate_is_of_no_use_once_that_has_changed(api: httpx.Client, customer: str) -> None:
    api.put("/v1/prices/*", json={"credits": 1})
    use(api, customer, "video.render", cost_usd="0.5")
    [one] = advise(api)["recommendations"]
    api.put("/v1/prices/*", json={"credits": 60})
    error_of(api.post(f"{PATH}/{one['id']}/apply"), 409, "recommendation_not_open")
    error_of(api.get("/v1/prices/video.render"), 404, "not_found")


def test_a_name_that_pays_the_flat_rate_is_given_a_price_of_its_own(api: httpx.Client, customer: str) -> None:
    api.put("/v1/prices/*", json={"credits": 1})
    use(api, customer, "video.render", cost_usd="0.5")
    [one] = advise(api)["recommendations"]
    assert (one["event"], one["version_from"], one["recommended_credits"]) == ("video.render", 0, 50)
    assert api.post(f"{PATH}/{one['id']}/apply").json()["new_version"] == 1
    assert charge(api, customer, "video.render").json()["credits"] == 50


def test_advice_is_withheld_with_the_reason(api: httpx.Client, customer: str) -> None:
    api.put("/v1/prices/doc.scan", json={"credits": 5, "minimum": 9})
    use(api, customer)
    use(api, customer, "doc.scan", cost_usd="9")
    why = {item["event"]: item["reason"] for item in advise(api)["withheld"]}
    assert why["chat.reply"].startswith("None of its units has a known provider cost")
    assert why["doc.scan"].startswith("Its price has tiers or a minimum")
    assert why["agent.run"] == "It was not used in the period."


def test_lists_go_on_and_take_filters(api: httpx.Client, customer: str) -> None:
    use(api, customer, cost_usd="0.15", times=5)
    for number, target in enumerate((50, 60, 70)):
        [one] = advise(api, target_margin_percent=target)["recommendations"]
        api.post(f"{PATH}/{one['id']}/reject", json={"reason": str(number)})
    first = api.get(PATH, params={"limit": 2}).json()
    rest = api.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["decided_because"] for one in first["recommendations"] + rest["recommendations"]] == ["2", "1", "0"]
    assert rest["next_cursor"] is None
    assert listed(api, event="agent.run") == []
    assert len(listed(api, event="chat.reply", status="rejected")) == 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"target_margin_percent": 100}, "target_margin_percent"),
        ({"target_margin_percent": -1}, "target_margin_percent"),
        ({"target_margin_percent": 12.5}, "target_margin_percent"),
        ({"days": 0}, "days"),
        ({"days": 367}, "days"),
        ({"margin": 50}, "margin"),
    ],
)
def test_what_cannot_be_asked(api: httpx.Client, fields: dict[str, Any], field: str) -> None:
    assert error_of(api.post(PATH, json=fields), 400, "invalid_request")["field"] == field


def test_what_is_not_there(api: httpx.Client) -> None:
    for method, path in (("GET", "rec_1"), ("POST", "rec_1/apply"), ("POST", "x/reject")):
        error_of(api.request(method, f"{PATH}/{path}"), 404, "not_found")
    error_of(api.get(PATH, params={"status": "open"}), 400, "invalid_request")
