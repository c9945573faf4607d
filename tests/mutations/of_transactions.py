"""What a batch of events and its transaction promise, each broken once."""

from mutation import Mutation

SQLITE = ("-k", "sqlite and not postgresql")
BATCH = "app/store/batch.py"
T_WRITER = ("tests/store/test_writer.py", *SQLITE)
T_CACHE = ("tests/store/test_wallet_cache.py",)
T_FAILURES = ("tests/store/test_writer_failures.py", *SQLITE)

MUTATIONS = (
    Mutation(
        "a key that was seen is not looked for",
        BATCH,
        "        if op.key is not None:\n            if (entry",
        "        if False:\n            if (entry",
        T_WRITER,
    ),
    Mutation(
        "a retried operation is not looked for by its id",
        BATCH,
        "if retried or isinstance(op, _WITH_DERIVED_ID)]",
        "if isinstance(op, _WITH_DERIVED_ID)]",
        T_FAILURES,
    ),
    Mutation(
        "an operation does not see the one before it in its batch",
        BATCH,
        "        self._states[customer_id] = applied.state\n",
        "        self._states.setdefault(customer_id, applied.state)\n",
        T_WRITER,
    ),
    Mutation(
        "a wallet that another connection has changed is taken from the cache",
        "app/store/wallet_cache.py",
        "if not same or not ground.last_is_there:",
        "if not ground.last_is_there:",
        T_CACHE,
    ),
    Mutation(
        "a batch that was not committed stays in the cache",
        "app/store/wallet_cache.py",
        "if not same or not ground.last_is_there:",
        "if not same:",
        T_CACHE,
    ),
    Mutation(
        "a wallet that is due is taken from the cache",
        "app/store/wallet_cache.py",
        "wallet.due_at > max(now, wallet.last_entry_at)",
        "True",
        T_CACHE,
    ),
    Mutation(
        "an id is answered with another wallet's entry",
        BATCH,
        "if entry is not None and entry.customer_id != op.customer_id:",
        "if False:",
        T_WRITER,
    ),
    Mutation(
        "a replay is told as new", BATCH, "replayed=first.id != op.id or not self._retried", "replayed=False", T_WRITER
    ),
    Mutation(
        "a wallet is believed for an entry that another process may have written",
        BATCH,
        "        else:  # another process can write",
        "        if True:  # another process can write",
        T_CACHE,
    ),
    Mutation(
        "a batch has two times, one for the wallets that it knows and one for those that it reads",
        BATCH,
        "yield sql.read_wallets, (unread, now)\n        read = _wallets_decoder.decode(text)\n",
        "yield sql.read_wallets, (unread, None)\n        read = _wallets_decoder.decode(text)\n"
        "        now = read.now or now\n",
        T_CACHE,
    ),
    Mutation(
        "what changed while a batch waited for its wallets is not looked for",
        BATCH,
        "if locked.waited_ms >= LOCK_WAIT_NOTICED_MS:",
        "if False:",
        T_CACHE,
    ),
    Mutation(
        "prices that were changed elsewhere are not read",
        BATCH,
        "    if read.generation != known.generation:\n",
        "    if False:\n",
        T_WRITER,
    ),
    Mutation(
        "a new wallet is not welcomed",
        BATCH,
        "ledger.apply(state, op, catalogue, now, welcome_credits)",
        "ledger.apply(state, op, catalogue, now)",
        T_WRITER,
    ),
    Mutation(
        "listeners are not told what a retry found",
        BATCH,
        "(*(self._found if self._retried else ()), *self._entries)",
        "self._entries",
        T_FAILURES,
    ),
)
