"""Usage added up by the day."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SUMS: Final = ("count", "reversed", "quantity", "credits", "costed", "cost_nanos", "paid_credits", "revenue_nanos")
DAY_MS: Final = 86_400_000
PART: Final = 10**9
PARTS_MAX: Final = 9 * 10**9
"""A sum stays at 9 * 10^18 once it is as large as that."""


def whole(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=null)


def upgrade() -> None:
    key = ["day", "event", "model", "currency"]
    op.create_table(
        "usage_days",
        whole("day"),
        *(sa.Column(name, Text, nullable=False) for name in key[1:]),
        *map(whole, SUMS),
        whole("cost_low", null=True),
        whole("cost_high", null=True),
        sa.PrimaryKeyConstraint(*key, name="pk_usage_days"),
        **STRICT,
    )
    op.execute(filling())


def filling() -> str:
    """The statement that adds up by day what there is by hour."""
    return (
        f"INSERT INTO usage_days (day, event, model, currency, {', '.join(SUMS)}, cost_low, cost_high)"
        f" SELECT hour / {DAY_MS} * {DAY_MS}, event, model, currency, {', '.join(map(_sum, SUMS))},"
        " min(cost_low), max(cost_high) FROM usage_hours GROUP BY 1, 2, 3, 4"
    )


def _sum(column: str) -> str:
    """A sum in two parts, for it may be more than a column holds."""
    parts = f"CAST(sum({column} / {PART}) AS bigint)"
    rest = f"CAST(sum({column} - {column} / {PART} * {PART}) AS bigint)"
    return (
        f"CASE WHEN {parts} + {rest} / {PART} >= {PARTS_MAX} THEN {PARTS_MAX * PART}"
        f" WHEN {parts} + {rest} / {PART} <= -{PARTS_MAX} THEN -{PARTS_MAX * PART}"
        f" ELSE {parts} * {PART} + {rest} END"
    )
