"""Leases of processes, and the wallets that may be low found by index."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", Text, nullable=False),
        sa.Column("holder", Text, nullable=False),
        sa.Column("until", Whole, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    # Not "balance < low_balance_threshold": with the balance in it, PostgreSQL would write every index of a wallet
    # for each event, where now it writes none.
    with_threshold = sa.text("low_balance_threshold IS NOT NULL")
    op.create_index(
        "wallets_with_threshold",
        "wallets",
        ["customer_id"],
        sqlite_where=with_threshold,
        postgresql_where=with_threshold,
    )
