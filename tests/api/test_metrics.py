"""What Prometheus reads of a server."""

import httpx
from prometheus_client.parser import text_string_to_metric_families
from serving import StartServer, charge, grant, next_wallet


def samples(api: httpx.Client) -> dict[str, float]:
    """Each sample by its name and labels, such as `chargly_refusals_total{code=not_found}`."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_what_the_ledger_answered_is_counted_by_kind_and_result(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api, server.client("sk_wrong_key_of_nobody_at_all") as nobody:
        grant(api, "u", 20)
        for key in ("a", "a", "b", "c"):
            charge(api, "u", idempotency_key=key)
        api.post("/v1/events/batch", json={"events": [{"customer_id": "u", "event": "x.y", "credits": 2}] * 3})
        api.get("/v1/wallets/nobody")
        nobody.get("/v1/wallets/u")
        found = samples(api)
    operations = {name: value for name, value in found.items() if name.startswith("chargly_operations_total")}
    assert operations == {
        "chargly_operations_total{kind=AddGrant,result=applied}": 1,
        "chargly_operations_total{kind=Event,result=applied}": 4,
        "chargly_operations_total{kind=Event,result=replayed}": 1,
        "chargly_operations_total{kind=Event,result=insufficient_credits}": 2,
    }
    assert found["chargly_refusals_total{code=insufficient_credits}"] == 1
    assert found["chargly_refusals_total{code=not_found}"] == 1
    assert found["chargly_refusals_total{code=invalid_key}"] == 1
    assert found["chargly_batch_operations_sum"] == 8
    assert found["chargly_batch_operations_count"] == found["chargly_batch_seconds_count"] == 6
    assert found["chargly_batch_seconds_sum"] > 0
    assert (found["chargly_queue_operations"], found["chargly_sockets"]) == (0, 0)
    assert found["process_resident_memory_bytes"] > 10**7


async def test_sockets_and_what_they_are_sent_are_counted(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 20)
        async with server.live(server.token("u")) as page:
            await next_wallet(page)
            charge(api, "u")
            await next_wallet(page)
            found = samples(api)
            assert (found["chargly_sockets"], found["chargly_pushes_total"]) == (1, 2)


async def test_how_long_a_notice_of_another_server_took_is_measured(new_server: StartServer, engine: str) -> None:
    if engine == "sqlite":
        with new_server().client() as api:
            assert samples(api)["chargly_bus_connected"] == 1
        return
    one = new_server()
    with one.client() as api:
        grant(api, "u", 20)
    other = new_server()  # it has missed the grant, and hears of the event alone
    with one.client() as api, other.client() as second:
        async with other.live(other.token("u")) as page:
            await next_wallet(page)
            charge(api, "u")
            await next_wallet(page)
        found = samples(second)
    assert found["chargly_bus_connected"] == 1
    assert found["chargly_bus_seconds_count"] >= 1
    assert found["chargly_caught_up_total"] == 1
