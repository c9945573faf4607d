"""What credits are worth, and usage added up by the hour."""

import json
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SUMS: Final = ("count", "reversed", "quantity", "credits", "costed", "cost_nanos", "paid_credits", "revenue_nanos")
AT_ONCE: Final = 2_000
"""Entries that one note names."""


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def whole(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=null)


def sums() -> list[sa.Column[int]]:
    return [*map(whole, SUMS), whole("cost_low", null=True), whole("cost_high", null=True)]


def upgrade() -> None:
    op.add_column("grants", whole("worth_nanos", null=True))
    op.add_column("grants", sa.Column("worth_currency", Text, nullable=True))
    _value_grants()
    op.create_table(
        "usage_pending", text("id"), text("wallets"), sa.PrimaryKeyConstraint("id", name="pk_usage_pending"), **STRICT
    )
    key = ["hour", "event", "model", "currency"]
    op.create_table(
        "usage_hours",
        whole("hour"),
        *map(text, key[1:]),
        *sums(),
        sa.PrimaryKeyConstraint(*key, name="pk_usage_hours"),
        **STRICT,
    )
    key = ["customer_id", "hour", "event", "model", "member", "currency"]
    op.create_table(
        "usage_of_wallets",
        text("customer_id"),
        whole("hour"),
        *map(text, key[2:]),
        *sums(),
        sa.PrimaryKeyConstraint(*key, name="pk_usage_of_wallets"),
        **STRICT,
    )
    op.create_index("usage_of_wallets_by_hour", "usage_of_wallets", ["hour"])
    op.create_table(
        "credit_flows",
        whole("hour"),
        text("kind"),
        *map(whole, ("entries", "credits_in", "credits_out")),
        sa.PrimaryKeyConstraint("hour", "kind", name="pk_credit_flows"),
        **STRICT,
    )
    _leave_to_be_added_up()


def _value_grants() -> None:
    """What was paid for a credit; of paid credits given by hand, what the packs on sale ask for one."""
    whole_units = "'bif','clp','djf','gnf','jpy','kmf','krw','mga','pyg','rwf','vnd','vuv','xaf','xof','xpf'"
    nanos = (
        f"CASE WHEN currency IN ({whole_units}) THEN 1000000000"
        " WHEN currency IN ('bhd','jod','kwd','omr','tnd') THEN 1000000 ELSE 10000000 END"
    )
    op.execute(
        f"UPDATE grants SET worth_currency = currency, worth_nanos = CAST(round(1.0 * amount * {nanos} / credits) AS"
        " bigint) WHERE amount IS NOT NULL AND currency IS NOT NULL AND category = 'paid' AND credits > 0"
    )
    asked = "FROM packs WHERE archived = 0 AND currency = 'usd'"
    op.execute(
        "UPDATE grants SET worth_currency = 'usd',"
        f" worth_nanos = (SELECT CAST(round(10000000.0 * sum(amount) / sum(credits)) AS bigint) {asked})"
        f" WHERE amount IS NULL AND category = 'paid' AND EXISTS (SELECT 1 {asked})"
    )


def _leave_to_be_added_up() -> None:
    """Names all entries that are there: a server adds them up beside its work, so many at once."""
    connection = op.get_bind()
    notes: list[dict[str, str]] = []
    spans: list[tuple[str, int, int]] = []
    named = 0

    def leave() -> None:
        notes.append({"id": f"use_0_{len(notes):012d}", "wallets": json.dumps(spans)})

    for customer_id, version in connection.execute(sa.text("SELECT customer_id, version FROM wallets ORDER BY 1")):
        for first in range(1, version + 1, AT_ONCE):
            last = min(first + AT_ONCE - 1, version)
            if named + last - first >= AT_ONCE and spans:
                leave()
                spans, named = [], 0
            spans.append((customer_id, first, last))
            named += last - first + 1
    if spans:
        leave()
    if notes:
        connection.execute(sa.text("INSERT INTO usage_pending (id, wallets) VALUES (:id, :wallets)"), notes)
