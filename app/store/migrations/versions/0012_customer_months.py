"""What customers were charged, by the month."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONTH: Final = {
    "sqlite": "CAST(strftime('%s', hour / 1000, 'unixepoch', 'start of month') AS integer) * 1000",
    "postgresql": "CAST(extract(epoch FROM date_trunc('month', to_timestamp(hour / 1000) AT TIME ZONE 'UTC'))"
    " AS bigint) * 1000",
}
PART: Final = 10**9
PARTS_MAX: Final = 9 * 10**9
"""A sum stays at 9 * 10^18 once it is as large as that."""


def upgrade() -> None:
    op.create_table(
        "usage_of_customers",
        sa.Column("month", Whole, nullable=False),
        sa.Column("customer_id", Text, nullable=False),
        sa.Column("credits", Whole, nullable=False),
        sa.PrimaryKeyConstraint("month", "customer_id", name="pk_usage_of_customers"),
        **STRICT,
    )
    op.execute(sa.text(filling(op.get_bind().dialect.name).replace(":", "\\:")))


def filling(engine: str) -> str:
    """The statement that adds up by month what there is by hour."""
    parts = f"CAST(sum(credits / {PART}) AS bigint)"
    rest = f"CAST(sum(credits - credits / {PART} * {PART}) AS bigint)"
    return (
        "INSERT INTO usage_of_customers (month, customer_id, credits)"
        f" SELECT {MONTH[engine]}, customer_id,"
        f" CASE WHEN {parts} + {rest} / {PART} >= {PARTS_MAX} THEN {PARTS_MAX * PART}"
        f" WHEN {parts} + {rest} / {PART} <= -{PARTS_MAX} THEN -{PARTS_MAX * PART}"
        f" ELSE {parts} * {PART} + {rest} END FROM usage_of_wallets GROUP BY 1, 2"
    )
