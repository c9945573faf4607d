"""The wallets as the last batches left them, so that a busy wallet is not read again for every batch.

On SQLite a transaction holds the file's write lock from its start, and inside of it `data_version` tells exactly
whether another connection has committed since. On PostgreSQL other processes write all the time; a transaction learns
the version of each wallet that it locks, and whatever changes a wallet or what belongs to it raises its version. The
cache ends with its connection there, since a database that fails over may have lost versions and given them again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from app.rules.wallet import State

_NOTHING: Final[Mapping[str, Any]] = {}


class Ground(NamedTuple):
    """What a transaction stands on.

    `connection` is its connection's number, or name; `data_version` SQLite's count of what others have committed as
    that connection sees it, and 0 on PostgreSQL; `last_is_there` says whether the entry that
    `WalletCache.last_entry_id` names is.
    """

    connection: int | str
    data_version: int
    last_is_there: bool


class WalletCache:
    """States by wallet, the least recently used leaving first. Used inside of write transactions alone.

    A script ends before its COMMIT, which may fail. So what it leaves is only believed once a later transaction finds
    an entry of it in the ledger, by an id that nobody else can have made.

    Args:
        wallets_max: how many are kept; 0 keeps none.

    """

    def __init__(self, wallets_max: int) -> None:
        self._wallets_max = wallets_max
        self._states: OrderedDict[str, State] = OrderedDict()
        self._connection: int | str = ""
        self._data_version = 0
        self._left: list[State] = []
        self.last_entry_id = ""
        """What proves the batch before; empty where nothing does."""

    def begin(self, ground: Ground) -> None:
        """Forgets what may have changed: all, where another connection has written or this is another one."""
        same = (ground.connection, ground.data_version) == (self._connection, self._data_version)
        if not same or not ground.last_is_there:
            self._states.clear()
        else:
            for state in self._left:
                self._states[state.wallet.customer_id] = state
                self._states.move_to_end(state.wallet.customer_id)
            while len(self._states) > self._wallets_max:
                self._states.popitem(last=False)
        self._left = []
        self._connection, self._data_version = ground.connection, ground.data_version

    def known(
        self, customer_ids: Iterable[str], now: int, versions: Mapping[str, int] | None = None
    ) -> dict[str, State]:
        """The wallets among some that need not be read: those of which time has changed nothing.

        Args:
            customer_ids: whose.
            now: in milliseconds since 1970.
            versions: at which the wallets are, where others may have moved them on.

        """
        found = {}
        for customer_id in customer_ids:
            state = self._states.get(customer_id)
            if state is None:
                continue
            wallet = state.wallet
            if versions is not None and versions.get(customer_id) != wallet.version:
                continue
            if wallet.due_at is None or wallet.due_at > max(now, wallet.last_entry_at):
                found[customer_id] = state
        return found

    def leave(self, states: Iterable[State], last_entry_id: str) -> None:
        """Keeps wallets as a batch leaves them; without an entry to prove it by, they are forgotten.

        Args:
            states: of the wallets that it changed.
            last_entry_id: of an entry that it writes, made by chance: one that follows from what it is about may be
                another process's. Empty where there is none.

        """
        self.last_entry_id = last_entry_id
        self._left = [_as_read(state) for state in states]
        if not last_entry_id:
            for state in self._left:
                self._states.pop(state.wallet.customer_id, None)
            self._left = []


def _as_read(state: State) -> State:
    """A state with what is read of any wallet, and nothing that some operation named."""
    if not (state.others or state.holds or state.members):
        return state
    others = {id: grant for id, grant in state.others.items() if grant.remaining or grant.next_at is not None}
    return State(state.wallet, state.grants, others or _NOTHING, _NOTHING, _NOTHING)
