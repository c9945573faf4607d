"""What the money rules promise, each broken once."""

from mutation import Mutation

WALLET, CHANGE, LEDGER = "app/rules/wallet.py", "app/rules/change.py", "app/rules/ledger.py"
PRICING, COSTS, USAGE, WORTH = "app/rules/pricing.py", "app/rules/costs.py", "app/rules/usage.py", "app/rules/worth.py"
SETTLING, LIMITS, PERIODS = "app/rules/settling.py", "app/rules/limits.py", "app/rules/periods.py"
T_GRANTS = "tests/rules/test_grants.py"
T_HISTORIES = "tests/rules/test_ledger_histories.py"
T_HOLDS = "tests/rules/test_holds.py"
T_LEDGER = "tests/rules/test_ledger.py"
T_LIMITS = "tests/rules/test_limits.py"
T_OFFERS = "tests/rules/test_offers.py"
T_PERIODS = "tests/rules/test_periods.py"
T_PRICING = "tests/rules/test_pricing.py"
T_COSTS = "tests/rules/test_costs.py"
T_WORTH = "tests/rules/test_worth.py"
T_USAGE = "tests/rules/test_usage.py"
T_RECURRING = "tests/rules/test_recurring.py"
T_REVERSALS = "tests/rules/test_reversals.py"
T_SETTLING = "tests/rules/test_settling.py"

MUTATIONS = (
    # The order in which credits are spent
    Mutation(
        "paid credits burn before promotional ones",
        WALLET,
        'grant.category == "paid",',
        'grant.category != "paid",',
        (T_GRANTS,),
    ),
    Mutation("the priority of a grant is ignored", WALLET, "        grant.priority,\n", "        0,\n", (T_GRANTS,)),
    Mutation(
        "the youngest grant burns first",
        WALLET,
        "        grant.version,\n    )",
        "        -grant.version,\n    )",
        (T_GRANTS,),
    ),
    Mutation(
        "a grant that lasts for ever burns before one that expires",
        WALLET,
        "_NEVER if grant.expires_at is None",
        "0 if grant.expires_at is None",
        (T_GRANTS,),
    ),
    # Funds and debts
    Mutation(
        "an event is not checked against the funds",
        LEDGER,
        "    change.check_funds(quote.credits)\n    _charge(",
        "    _charge(",
        (T_LEDGER,),
    ),
    Mutation(
        "a hold is not checked against the funds",
        LEDGER,
        "    change.check_funds(credits)\n    hold = Hold(",
        "    hold = Hold(",
        (T_HOLDS,),
    ),
    Mutation(
        "a correction down is not checked against the funds",
        LEDGER,
        "        change.check_funds(-op.credits)\n",
        "",
        (T_LEDGER,),
    ),
    Mutation(
        "one credit more than is available may be spent",
        CHANGE,
        "required > available:",
        "required > available + 1:",
        (T_LEDGER,),
    ),
    Mutation(
        "the overdraft is ignored",
        CHANGE,
        "return self.balance - self.held + self.overdraft_limit",
        "return self.balance - self.held",
        (T_LEDGER,),
    ),
    Mutation(
        "what is held may be spent",
        CHANGE,
        "return self.balance - self.held + self.overdraft_limit",
        "return self.balance + self.overdraft_limit",
        (T_HOLDS,),
    ),
    Mutation("a debt is forgotten", CHANGE, "        self.debt += left\n", "", (T_LEDGER,)),
    Mutation(
        "what comes in does not pay the debt",
        CHANGE,
        "        paid = min(grant.remaining, self.debt)\n",
        "        paid = 0\n",
        (T_LEDGER,),
    ),
    Mutation(
        "a wallet holds more than a browser can",
        CHANGE,
        "if self.balance + credits > BALANCE_MAX:",
        "if self.balance + credits > BALANCE_MAX + 1:",
        (T_GRANTS,),
    ),
    # Entries and time
    Mutation("an entry keeps the version before it", CHANGE, "        self.version += 1\n", "", (T_LEDGER,)),
    Mutation(
        "a clock that goes back takes the ledger with it",
        LEDGER,
        "change = Change(state, operation, max(now, wallet.last_entry_at))",
        "change = Change(state, operation, now)",
        (T_LEDGER,),
    ),
    Mutation(
        "what is due comes a moment late",
        CHANGE,
        "self.due_at <= self.now",
        "self.due_at < self.now",
        (T_GRANTS,),
    ),
    Mutation(
        "credits that expired are spent while a wallet is only half settled",
        LEDGER,
        "        if change.is_due and not isinstance(operation, Settle):",
        "        if False:",
        (T_SETTLING,),
    ),
    Mutation(
        "adjustments make any number of grants",
        LEDGER,
        "        change.check_number_of_grants()\n        made",
        "        made",
        (T_GRANTS,),
    ),
    Mutation(
        "a replay gives an answer to another request",
        LEDGER,
        "        raise IdempotencyConflict\n",
        "        return entry\n",
        (T_LEDGER,),
    ),
    Mutation(
        "a second capture gets the answer of another one",
        LEDGER,
        "    if isinstance(operation, Capture):\n        raise _not_open",
        "    if False:\n        raise _not_open",
        (T_HOLDS,),
    ),
    Mutation(
        "welcome credits are given twice",
        LEDGER,
        "if wallet.version == 0:\n        if not",
        "if wallet.version <= 2:\n        if not",
        (T_LEDGER,),
    ),
    Mutation("a frozen wallet spends", LEDGER, "    if change.wallet.frozen:\n", "    if False:\n", (T_LEDGER,)),
    # Holds
    Mutation(
        "a capture forgets what was held and asks for the whole again",
        LEDGER,
        "change.check_funds(quote.credits, held_before=hold.credits)",
        "change.check_funds(quote.credits)",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture up to what was held is refused in a frozen wallet",
        LEDGER,
        "    if quote.credits > hold.credits:\n",
        "    if quote.credits:\n",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture leaves its credits held",
        CHANGE,
        "        self.count_held(-hold.credits, hold.member)\n",
        "",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture is priced by today's price",
        LEDGER,
        "        return Quote.by(rate, quantity, hold.price_version, label), quantity\n",
        "        return catalogue.quote(event, hold.model, quantity), quantity\n",
        (T_HOLDS,),
    ),
    Mutation(
        "a closed hold is captured again", LEDGER, '    if hold.status != "open":\n', "    if False:\n", (T_HOLDS,)
    ),
    Mutation(
        "a wallet has one open hold more than it may",
        LEDGER,
        "change.open_holds >= HOLDS_OPEN_MAX",
        "change.open_holds > HOLDS_OPEN_MAX",
        (T_HOLDS,),
    ),
    Mutation(
        "nobody looks for a hold that runs out",
        CHANGE,
        '        if hold.status == "open":\n            self.due(hold.expires_at)\n',
        "",
        (T_SETTLING,),
    ),
    # What ends
    Mutation(
        "an expiry ignores the holds",
        SETTLING,
        "    taken = min(grant.remaining, max(0, change.available), ",
        "    taken = min(grant.remaining, ",
        (T_GRANTS,),
    ),
    Mutation(
        "what a lapsed grant keeps and no hold needs passes for money",
        LEDGER,
        "        take_needless(change)\n",
        "        pass\n",
        (T_SETTLING,),
    ),
    Mutation(
        "a void ignores the holds",
        LEDGER,
        "min(grant.remaining, max(0, change.available))",
        "grant.remaining",
        (T_GRANTS,),
    ),
    Mutation(
        "an event draws on what expired and was kept for a hold",
        CHANGE,
        "if lapsed_first and self.others:",
        "if self.others:",
        (T_HOLDS,),
    ),
    Mutation(
        "a capture does not draw on what was kept for it",
        CHANGE,
        "if lapsed_first and self.others:",
        "if False:",
        (T_HOLDS,),
    ),
    Mutation(
        "what was kept for a hold stays when it is released",
        LEDGER,
        "    )\n    take_lapsed(change)\n\n\ndef _open_hold(",
        "    )\n\n\ndef _open_hold(",
        (T_HOLDS,),
    ),
    Mutation(
        "a grant expires before the hold that ran out at the same time",
        SETTLING,
        "_HOLD, _EXPIRY, _START, _AGAIN = range(4)",
        "_EXPIRY, _HOLD, _START, _AGAIN = range(4)",
        (T_SETTLING,),
    ),
    Mutation(
        "a future grant is in the balance at once",
        LEDGER,
        'state="pending" if starts > change.now else "active"',
        'state="active"',
        (T_GRANTS,),
    ),
    Mutation(
        "every period that passed unseen is given, though it is over",
        SETTLING,
        'if grant.rollover == "none":',
        "if False:",
        (T_RECURRING,),
    ),
    Mutation(
        "a recurring grant comes once more at its end",
        SETTLING,
        "following >= grant.ends_at",
        "following > grant.ends_at",
        (T_RECURRING,),
    ),
    # Reversals
    Mutation(
        "a reversal restores what ended",
        CHANGE,
        "if grant is None or grant.ended(self.now):",
        "if grant is None:",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal restores a grant that was used up before it ended",
        CHANGE,
        "if grant is None or grant.ended(self.now):",
        "if grant is None or grant.lapsed:",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal forgets the debt",
        CHANGE,
        "        paid = min(credits, self.debt)\n",
        "        paid = 0\n",
        (T_REVERSALS,),
    ),
    Mutation(
        "a reversal restores the first drawn first",
        CHANGE,
        "in reversed(draws):",
        "in draws:",
        (T_REVERSALS,),
    ),
    Mutation(
        "what paid an overdraft does not come back to who paid",
        CHANGE,
        "for payer in self._payers_of_debt(since):",
        "for payer in ():",
        (T_REVERSALS,),
    ),
    Mutation(
        "what lapsed grants paid of a debt comes back for ever",
        CHANGE,
        "            if ended:\n                lapsed += returned",
        "            if ended:\n                left += returned",
        (T_REVERSALS,),
    ),
    # Limits and windows
    Mutation(
        "a limit forgets the open holds",
        LIMITS,
        "if within + held + required > limit:",
        "if within + required > limit:",
        (T_LIMITS,),
    ),
    Mutation(
        "a limit is reached a credit early",
        LIMITS,
        "if within + held + required > limit:",
        "if within + held + required >= limit:",
        (T_LIMITS,),
    ),
    Mutation(
        "an event is not held to the limits",
        LEDGER,
        "    change.check_limits(quote.credits, op.member)\n",
        "",
        (T_LIMITS,),
    ),
    Mutation(
        "a member's limit is ignored", CHANGE, "if member is not None and (known", "if False and (known", (T_LIMITS,)
    ),
    Mutation(
        "what was spent yesterday counts today",
        LIMITS,
        "    return (\n        0,\n",
        "    return (\n        spender.spent_day,\n",
        (T_LIMITS,),
    ),
    Mutation(
        "a late reversal makes room in today's window",
        LIMITS,
        'if window_start("day", at) == window_start("day", now):\n        day',
        "if True:\n        day",
        (T_LIMITS,),
    ),
    Mutation("a week begins on Sunday", PERIODS, "Final = -3\n", "Final = -4\n", (T_PERIODS,)),
    Mutation(
        "what began on the 31st comes on the 28th for ever",
        PERIODS,
        "day=min(date.day, monthrange(year, month)[1])",
        "day=min(date.day, 28)",
        (T_PERIODS,),
    ),
    Mutation(
        "an offer does not see the limit",
        LEDGER,
        "left_of_limit(wallet, now, held=wallet.held)",
        "None",
        (T_OFFERS,),
    ),
    Mutation(
        "nobody looks for a grant that expires",
        CHANGE,
        "        elif spendable and grant.expires_at is not None:\n            self.due(grant.expires_at)\n",
        "",
        (T_GRANTS,),
    ),
    Mutation(
        "a member's hold counts for the member after it closed",
        CHANGE,
        "self.put_member(replace(known, held=known.held + credits))",
        "self.put_member(replace(known, held=max(known.held, known.held + credits)))",
        (T_LIMITS,),
    ),
    # Random histories notice by themselves
    Mutation(
        "what a reversal pays of a debt is not known of the grant that it came from",
        CHANGE,
        "debt_paid=grant.debt_paid + taken - returned",
        "debt_paid=grant.debt_paid",
        (T_HISTORIES, T_REVERSALS),
    ),
    Mutation(
        "what is left of a lapsed grant stays after a capture of less",
        LEDGER,
        "    take_lapsed(change)\n\n\ndef _price_of_capture(",
        "\n\ndef _price_of_capture(",
        (T_SETTLING,),
    ),
    # Prices, costs and what they earn
    Mutation(
        "all units pay the tier that the last one lies in",
        PRICING,
        "                credits += (upper - counted) * tier.credits\n",
        "                credits = upper * tier.credits\n",
        (T_PRICING,),
    ),
    Mutation(
        "the minimum is for each unit",
        PRICING,
        "max(self.minimum, self._graduated(quantity)",
        "max(self.minimum * quantity, self._graduated(quantity)",
        (T_PRICING,),
    ),
    Mutation(
        "a price is in force a millisecond late",
        PRICING,
        "            if price.effective_at > now:\n",
        "            if price.effective_at >= now:\n",
        (T_PRICING,),
    ),
    Mutation(
        "a cost that is said is not believed",
        LEDGER,
        "catalogue.cost(event, model, quantity) if op.cost_nanos is None else op.cost_nanos",
        "catalogue.cost(event, model, quantity)",
        (T_COSTS,),
    ),
    Mutation(
        "what a promotion took off counts as paid",
        LEDGER,
        "of_money(min(op.amount, op.paid), op.currency",
        "of_money(op.amount, op.currency",
        (T_WORTH,),
    ),
    Mutation(
        "promotional credits are worth what packs ask",
        LEDGER,
        '    if op.category != "paid":\n        return None\n',
        "",
        (T_WORTH,),
    ),
    Mutation(
        "a reversal leaves what was earned",
        USAGE,
        "        return draws\n",
        "        return draws if entry.kind == 'event' else ()\n",
        (T_USAGE,),
    ),
    Mutation(
        "a reversal takes the cost away",
        USAGE,
        "        used.costed -= units if entry.event_has_cost else 0\n",
        "        used.costed -= units if entry.event_has_cost else 0\n        used.cost_nanos = 0\n",
        (T_USAGE,),
    ),
    Mutation(
        "a reversal counts in the hour when it was made",
        USAGE,
        "    at = entry.created_at if entry.event_at is None else entry.event_at\n",
        "    at = entry.created_at\n",
        (T_USAGE,),
    ),
    Mutation(
        "a refund of spent credits leaves what they earned",
        USAGE,
        "[*others, (bought, -entry.unpaid)] if entry.unpaid else others",
        "others",
        (T_USAGE,),
    ),
)
