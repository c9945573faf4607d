"""Who listens to which wallet in this process. Publishing never waits: a slow socket has one merged state, no queue."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from app.config import Limits
from app.live.messages import PublicEntry, WalletMessage, public_entry, text_frame
from app.rules.times import rfc3339
from app.rules.wallet import Entry, Wallet
from app.store.batch import WalletChange
from app.store.reads import moved_credits

Owner = TypeVar("Owner")


class Push:
    """One message for any number of sockets, encoded once.

    Args:
        message: what is sent.
        since: the version after which it has every entry; a page that stands before it would miss some.

    """

    __slots__ = ("_frame", "message", "since")

    def __init__(self, message: WalletMessage, since: int) -> None:
        self.message = message
        self.since = since
        self._frame: dict[str, str] | None = None

    @property
    def frame(self) -> dict[str, str]:
        """What is sent, as ASGI takes it."""
        if self._frame is None:
            self._frame = text_frame(self.message)
        return self._frame

    def merged(self, newer: "Push", entries_max: int) -> "Push":
        """This message and a later one as one: the later state, the newest entries of both."""
        entries = [*self.message.entries, *newer.message.entries]
        gap = self.message.gap or newer.message.gap or len(entries) > entries_max
        return Push(msgspec.structs.replace(newer.message, entries=entries[-entries_max:], gap=gap), self.since)


class Subscription(Generic[Owner]):
    """One socket's interest in one wallet, with the newest state that it has not been sent.

    Args:
        owner: the socket.
        customer_id: whose wallet.
        wake: told that there is something to send, once it has had its first state.
        entries_max: of one message.

    """

    __slots__ = ("_entries_max", "_last", "customer_id", "is_queued", "owner", "pending", "seen_version", "wake")

    def __init__(
        self, owner: Owner, customer_id: str, wake: Callable[["Subscription[Owner]"], None], entries_max: int
    ) -> None:
        self.owner: Final = owner
        self.customer_id: Final = customer_id
        self.is_queued = False
        """Whether its turn to be sent is coming; kept by whoever is woken."""
        self.pending: Push | None = None
        self.seen_version: int | None = None
        """The version last handed out; None until the first state, which is always taken."""
        self.wake: Final = wake
        self._entries_max = entries_max
        self._last: Push | None = None

    @property
    def version(self) -> int | None:
        """The version that it stands at, sent or about to be; None before the first state."""
        return self.seen_version if self.pending is None else self.pending.message.version

    def offer(self, push: Push) -> bool:
        """Keeps a message until the socket takes it; one that is not newer is dropped.

        Returns:
            False where entries between its own version and the message's are missing, and nothing was kept.

        """
        version = self.version
        if version is not None:
            if push.message.version <= version:
                return True
            if push.since > version:
                return False
        self.pending = push if self.pending is None else self.pending.merged(push, self._entries_max)
        if self.seen_version is not None:
            self.wake(self)
        return True

    def begin(self, first: Push) -> Push:
        """The first message, read from the database after subscribing: with what was published meanwhile."""
        meanwhile, self.pending = self.pending, None
        if meanwhile is not None and meanwhile.message.version > first.message.version:
            told = meanwhile.message.entries
            newer = [entry for entry in told if entry.version > first.message.version]
            # What was dropped before the oldest that is left may have come after the first state, and so may what
            # other processes wrote before what was published.
            gap = meanwhile.since > first.message.version or (
                meanwhile.message.gap and told[0].version > first.message.version + 1
            )
            state = Push(msgspec.structs.replace(meanwhile.message, entries=newer, gap=gap), first.message.version)
            first = first.merged(state, self._entries_max)
        return self._hand_out(first)

    def renew(self, state: Push) -> Push:
        """The answer to a token's renewal: the state as read, or what has been sent since, if that is newer."""
        if self._last is not None and self._last.message.version > state.message.version:
            return self.repeat()
        return self.begin(state)

    def repeat(self) -> Push:
        """What was sent last, without the entries that it had."""
        assert self._last is not None, "nothing was sent yet"
        message = self._last.message
        return Push(msgspec.structs.replace(message, entries=[], gap=False), message.version)

    def take(self) -> Push | None:
        """The message to send now, if there is one; none before the first state."""
        push = self.pending
        if push is None or self.seen_version is None:
            return None
        self.pending = None
        return self._hand_out(push)

    def _hand_out(self, push: Push) -> Push:
        self.seen_version = push.message.version
        self._last = push
        return push


class Hub(Generic[Owner]):
    """The sockets of one process by wallet."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._listeners: dict[str, set[Subscription[Owner]]] = {}
        self.on_missed: Callable[[str, int], None] = lambda _customer_id, _version: None
        """Told of a wallet whose listeners lack entries up to a version, which others have written."""
        self.epoch = ""
        self.generation = 0
        """The catalogue's generation, as last heard."""

    def listening(self, customer_id: str) -> int:
        """How many sockets show a wallet."""
        return len(self._listeners.get(customer_id, ()))

    def shown(self) -> list[str]:
        """The wallets that sockets show."""
        return list(self._listeners)

    def oldest_version(self, customer_id: str) -> int | None:
        """The version of the listener that stands furthest back; None where nobody has had a first state."""
        versions = [listener.version for listener in self._listeners.get(customer_id, ())]
        return min((version for version in versions if version is not None), default=None)

    def subscribe(
        self, owner: Owner, customer_id: str, wake: Callable[[Subscription[Owner]], None]
    ) -> Subscription[Owner] | None:
        """Adds a listener, or None where the wallet has as many as it may."""
        listeners = self._listeners.setdefault(customer_id, set())
        if len(listeners) >= self._limits.live_sockets_per_wallet_max:
            return None
        subscription = Subscription(owner, customer_id, wake, self._limits.live_entries_max)
        listeners.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[Owner]) -> None:
        """Forgets a listener."""
        listeners = self._listeners.get(subscription.customer_id)
        if listeners is not None:
            listeners.discard(subscription)
            if not listeners:
                del self._listeners[subscription.customer_id]

    def publish(self, changes: Sequence[WalletChange], generation: int) -> None:
        """Tells the listeners of each changed wallet. Called after the commit; it does not wait for anyone."""
        self.generation = max(self.generation, generation)
        for change in changes:
            listeners = self._listeners.get(change.wallet.customer_id)
            if listeners:
                self._offer(listeners, self._of_change(change))

    def catch_up(self, wallet: Wallet, entries: Sequence[Entry], since: int, *, more: bool) -> None:
        """Tells the listeners of a wallet what they lack of it, as it was read.

        Args:
            wallet: as it stands.
            entries: that moved credits after the version `since`, oldest first.
            since: where the listener stands who stands furthest back.
            more: whether there were further ones before the first of them.

        """
        shown = [public_entry(entry, rfc3339(entry.created_at)) for entry in entries]
        by_version: dict[int | None, Push] = {}
        for listener in self._listeners.get(wallet.customer_id, ()):
            version = listener.version
            push = by_version.get(version)
            if push is None:
                newer = [entry for entry in shown if entry.version > (version or 0)]
                gap = more and len(newer) == len(shown)
                push = self.message(wallet, newer, at=wallet.last_entry_at, gap=gap, since=version or since)
                by_version[version] = push
            listener.offer(push)

    def _of_change(self, change: WalletChange) -> Push:
        wallet = change.wallet
        entries = [public_entry(entry, rfc3339(entry.created_at)) for entry in moved_credits(change.entries)]
        first, last = change.entries[0].version, change.entries[-1].version
        whole = last - first + 1 == len(change.entries) and last == wallet.version
        since = first - 1 if whole else wallet.version - 1
        entries = [entry for entry in entries if entry.version > since]
        return self.message(wallet, entries, at=wallet.last_entry_at, since=since)

    def _offer(self, listeners: Iterable[Subscription[Owner]], push: Push) -> None:
        missed = False
        version, since = push.message.version, push.since
        for listener in listeners:
            seen = listener.seen_version
            if listener.pending is None and seen is not None and since <= seen < version:  # as nearly always
                listener.pending = push
                listener.wake(listener)
            else:
                missed = not listener.offer(push) or missed
        if missed:
            self.on_missed(push.message.customer_id, push.message.version)

    def message(
        self, wallet: Wallet, entries: list[PublicEntry], *, at: int, gap: bool = False, since: int | None = None
    ) -> Push:
        """A wallet's state as a message.

        Args:
            wallet: as it stands.
            entries: the newest that moved credits, oldest first.
            at: when, in milliseconds.
            gap: whether there were more.
            since: the version after which `entries` lacks none; by default, the wallet's own.

        """
        most = self._limits.live_entries_max
        message = WalletMessage(
            epoch=self.epoch,
            customer_id=wallet.customer_id,
            balance=wallet.balance,
            held=wallet.held,
            available=wallet.available,
            version=wallet.version,
            low=wallet.low,
            entries=entries[-most:],
            gap=gap or len(entries) > most,
            prices=self.generation,
            at=rfc3339(at),
        )
        return Push(message, wallet.version if since is None else since)
