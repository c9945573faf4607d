"""What events cost their operator, in versions."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "costs",
        sa.Column("event", Text, nullable=False),
        sa.Column("version", Whole, nullable=False),
        sa.Column("nanos", Whole, nullable=True),
        sa.Column("per_model", Text, nullable=False),
        sa.Column("archived", Whole, nullable=False),
        sa.Column("created_at", Whole, nullable=False),
        sa.Column("actor", Text, nullable=True),
        sa.PrimaryKeyConstraint("event", "version", name="pk_costs"),
        sa.CheckConstraint("nanos >= 0", name=op.f("ck_costs_nanos")),
        sa.CheckConstraint("archived IN (0, 1)", name=op.f("ck_costs_archived")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
