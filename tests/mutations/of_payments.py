"""What is promised of money that comes and goes, each promise broken once."""

from mutation import Mutation

TAKING, AUTO, ALERTS = "app/rules/taking_back.py", "app/rules/auto_top_up.py", "app/rules/alerts.py"
PACKS, CHANGE, LEDGER = "app/rules/packs.py", "app/rules/change.py", "app/rules/ledger.py"
T_TAKING = "tests/rules/test_taking_back.py"
T_AUTO = "tests/rules/test_auto_top_up.py"
T_ALERTS = "tests/rules/test_alerts.py"
T_PACKS = "tests/rules/test_packs.py"

MUTATIONS = (
    Mutation(
        "a refund and a dispute take more than was bought",
        TAKING,
        "returned = min(op.refunded + op.disputed, op.charged)",
        "returned = op.refunded + op.disputed",
        (T_TAKING,),
    ),
    Mutation(
        "a signal that comes twice takes twice",
        TAKING,
        "// op.charged - (grant.taken or _NOTHING).credits)",
        "// op.charged)",
        (T_TAKING,),
    ),
    Mutation("an old word of the money is taken", TAKING, "if before.version != op.seen:", "if False:", (T_TAKING,)),
    Mutation(
        "spent credits that were refunded are nobody's debt", TAKING, "        change.debt += owed\n", "", (T_TAKING,)
    ),
    Mutation(
        "other grants do not pay what a refund took",
        TAKING,
        "return (*draws, *change.pay_debt())",
        "return tuple(draws)",
        (T_TAKING,),
    ),
    Mutation(
        "what expired is owed after a refund",
        TAKING,
        "owed = more - drawn - min(more - drawn, grant.lapsed - taken.had_lapsed)",
        "owed = more - drawn",
        (T_TAKING,),
    ),
    Mutation(
        "what came back for a day is owed later",
        TAKING,
        "lapsed=as_it_is.lapsed + part",
        "lapsed=as_it_is.lapsed",
        (T_TAKING,),
    ),
    Mutation(
        "a refund charges the card again",
        LEDGER,
        " and not isinstance(operation, TakeBack)",
        "",
        (T_AUTO,),
    ),
    Mutation("two attempts at once", AUTO, "not auto.enabled or auto.attempt or", "not auto.enabled or", (T_AUTO,)),
    Mutation("the month has no limit", AUTO, "+ pack.amount > auto.monthly_limit", "> auto.monthly_limit", (T_AUTO,)),
    Mutation(
        "a frozen wallet is charged", AUTO, "if change.wallet.frozen or change.balance", "if change.balance", (T_AUTO,)
    ),
    Mutation(
        "a wallet never stops trying",
        AUTO,
        "failures >= AUTO_TOP_UP_FAILURES_MAX",
        "failures > AUTO_TOP_UP_FAILURES_MAX",
        (T_AUTO,),
    ),
    Mutation(
        "an end of automatic top-ups forgets the attempt",
        AUTO,
        '("attempt", "charged", "charged_at", "charged_in")',
        '("charged", "charged_at", "charged_in")',
        (T_AUTO,),
    ),
    Mutation("a low wallet is told again and again", ALERTS, " and wallet.alert is None and", " and", (T_ALERTS,)),
    Mutation(
        "a wallet that never had credits is depleted",
        ALERTS,
        "if balance <= 0 < change.balance_before",
        "if balance <= 0",
        (T_ALERTS,),
    ),
    Mutation(
        "a change to and fro makes credits",
        PACKS,
        "    return part if line.amount > 0 else -part\n",
        "    return part if line.amount > 0 else 0\n",
        (T_PACKS,),
    ),
    Mutation(
        "a buyer's balance at Stripe grants",
        PACKS,
        "worth * min(paid, total) // total if total else worth",
        "worth",
        (T_PACKS,),
    ),
    Mutation(
        "a buyer gets more than the rate",
        PACKS,
        "credits = pack.credits * amount // price",
        "credits = -(-pack.credits * amount // price)",
        (T_PACKS,),
    ),
)
