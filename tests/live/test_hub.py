"""The hub alone: who is woken, what is merged, and what is dropped, without a socket."""

from app.config import Limits
from app.live.hub import Hub, Push, Subscription
from app.rules.wallet import Entry, Wallet
from app.store.batch import WalletChange


def change(*versions: int, kind: str = "event", customer_id: str = "u") -> WalletChange:
    """Some entries of one credit each, and the wallet after them."""
    entries = tuple(
        Entry(
            customer_id=customer_id,
            version=version,
            id=f"evt_{version}",
            kind=kind,  # type: ignore[arg-type]
            description="Chat reply",
            credits=-1,
            balance=1000 - version,
            held=0,
            available=1000 - version,
            created_at=version,
        )
        for version in versions
    )
    return WalletChange(Wallet(customer_id=customer_id, balance=1000 - versions[-1], version=versions[-1]), entries)


class Listener:
    """A subscription with a count of how often it was woken."""

    def __init__(self, hub: Hub, customer_id: str = "u", *, begun_at: int | None = 0) -> None:
        self.woken = 0
        subscription = hub.subscribe(self, customer_id, self._wake)
        assert subscription is not None
        self.subscription: Subscription = subscription
        if begun_at is not None:
            self.subscription.begin(first(hub, begun_at))

    def _wake(self, _subscription: object) -> None:
        self.woken += 1

    def versions(self) -> tuple[int, list[int], bool]:
        """What it would be sent now: the version, those of its entries, and whether there is a gap."""
        push = self.subscription.take()
        assert push is not None
        return told(push)


def first(hub: Hub, version: int) -> Push:
    return hub.message(Wallet(customer_id="u", balance=1000 - version, version=version), [], at=0)


def told(push: Push) -> tuple[int, list[int], bool]:
    return push.message.version, [entry.version for entry in push.message.entries], push.message.gap


def test_a_change_wakes_those_who_listen_to_its_wallet_and_no_others() -> None:
    hub = Hub(Limits())
    mine, too, other = Listener(hub), Listener(hub), Listener(hub, "v")
    hub.publish([change(1)], generation=4)
    assert (mine.woken, too.woken, other.woken) == (1, 1, 0)
    assert mine.versions() == too.versions() == (1, [1], False)
    assert other.subscription.take() is None
    assert hub.generation == 4


def test_the_message_of_a_change_is_encoded_once_for_all() -> None:
    hub = Hub(Limits())
    mine, too = Listener(hub), Listener(hub)
    hub.publish([change(1)], generation=1)
    first_push, second_push = mine.subscription.take(), too.subscription.take()
    assert first_push is second_push
    assert first_push is not None
    assert first_push.frame is first_push.frame


def test_what_a_slow_socket_missed_is_merged_into_one_message() -> None:
    hub = Hub(Limits())
    slow = Listener(hub)
    for version in (1, 2, 3):
        hub.publish([change(version)], generation=1)
    assert slow.versions() == (3, [1, 2, 3], False)
    assert slow.subscription.take() is None


def test_a_merge_keeps_the_newest_entries_and_says_that_there_is_a_gap() -> None:
    hub = Hub(Limits(live_entries_max=3))
    slow = Listener(hub)
    for version in range(1, 4):
        hub.publish([change(version)], generation=1)
    hub.publish([change(4, 5)], generation=1)
    hub.publish([change(6, kind="settings")], generation=1)
    assert slow.versions() == (6, [3, 4, 5], True)
    hub.publish([change(7)], generation=1)
    assert slow.versions() == (7, [7], False)


def test_one_batch_with_more_entries_than_a_message_holds_has_a_gap() -> None:
    hub = Hub(Limits())
    listener = Listener(hub)
    hub.publish([change(*range(1, 31))], generation=1)
    assert listener.versions() == (30, list(range(11, 31)), True)


def test_a_message_that_is_not_newer_is_dropped() -> None:
    hub = Hub(Limits())
    listener = Listener(hub, begun_at=1)
    hub.publish([change(2)], generation=1)
    hub.publish([change(1)], generation=1)
    assert listener.versions() == (2, [2], False)
    hub.publish([change(2)], generation=1)
    assert listener.subscription.take() is None


def test_a_change_after_others_that_were_not_heard_of_waits_until_those_are_read() -> None:
    hub = Hub(Limits())
    missed: list[tuple[str, int]] = []
    hub.on_missed = lambda customer_id, version: missed.append((customer_id, version))
    behind, ahead = Listener(hub, begun_at=1), Listener(hub, begun_at=3)
    hub.publish([change(4)], generation=1)
    assert ahead.versions() == (4, [4], False)
    assert behind.subscription.take() is None
    assert (missed, hub.oldest_version("u")) == ([("u", 4)], 1)
    read = change(2, 3, 4)
    hub.catch_up(read.wallet, read.entries, 1, more=False)
    assert behind.versions() == (4, [2, 3, 4], False)
    assert ahead.subscription.take() is None


def test_who_has_seen_more_is_shown_less_of_what_is_read() -> None:
    hub = Hub(Limits(live_entries_max=3))
    listeners = [Listener(hub, begun_at=version) for version in (1, 4, 7, 9)]
    read = change(7, 8, 9)
    hub.catch_up(read.wallet, read.entries, 1, more=True)
    shown = [listener.versions() for listener in listeners[:3]]
    assert shown == [(9, [7, 8, 9], True), (9, [7, 8, 9], True), (9, [8, 9], False)]
    assert listeners[3].subscription.take() is None


def test_a_first_state_tells_of_a_gap_where_others_wrote_before_what_was_published() -> None:
    hub = Hub(Limits())
    listener = Listener(hub, begun_at=None)
    hub.publish([change(9)], generation=1)
    assert told(listener.subscription.begin(first(hub, 5))) == (9, [9], True)


def test_nobody_is_woken_before_the_first_state() -> None:
    hub = Hub(Limits())
    listener = Listener(hub, begun_at=None)
    hub.publish([change(1)], generation=1)
    assert listener.woken == 0


def test_a_late_first_state_brings_what_was_published_meanwhile() -> None:
    hub = Hub(Limits())
    listener = Listener(hub, begun_at=None)
    hub.publish([change(6)], generation=1)
    hub.publish([change(7)], generation=1)
    begun = listener.subscription.begin(first(hub, 6))
    assert told(begun) == (7, [7], False)
    assert begun.message.balance == 993
    assert listener.subscription.take() is None
    hub.publish([change(7)], generation=1)
    assert listener.subscription.take() is None


def test_a_first_state_newer_than_what_was_published_stands_alone() -> None:
    hub = Hub(Limits())
    listener = Listener(hub, begun_at=None)
    hub.publish([change(6)], generation=1)
    assert told(listener.subscription.begin(first(hub, 8))) == (8, [], False)


def test_a_gap_among_what_was_published_before_a_late_first_state_is_told() -> None:
    hub = Hub(Limits(live_entries_max=3))
    listener = Listener(hub, begun_at=None)
    for version in range(6, 16):
        hub.publish([change(version)], generation=1)
    assert told(listener.subscription.begin(first(hub, 5))) == (15, [13, 14, 15], True)


def test_who_has_left_is_told_nothing() -> None:
    hub = Hub(Limits())
    listener = Listener(hub)
    hub.unsubscribe(listener.subscription)
    hub.unsubscribe(listener.subscription)
    hub.publish([change(1)], generation=1)
    assert (listener.woken, hub.listening("u")) == (0, 0)


def test_a_wallet_has_no_more_sockets_than_it_may() -> None:
    hub = Hub(Limits(live_sockets_per_wallet_max=2))
    listeners = [Listener(hub), Listener(hub)]
    assert hub.subscribe(None, "u", bool) is None
    assert hub.subscribe(None, "v", bool) is not None
    hub.unsubscribe(listeners[0].subscription)
    assert hub.subscribe(None, "u", bool) is not None


def test_the_named_limits_of_the_contract_are_kept() -> None:
    limits = Limits()
    assert (limits.live_heartbeat_seconds, limits.live_subscribe_seconds_max, limits.live_entries_max) == (20, 10, 20)
