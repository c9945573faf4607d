"""Advice on prices, and what became of it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXTS = ("id", "event", "kind", "per_model", "reason", "confidence", "status", "facts")
WHOLES = ("current_credits", "recommended_credits", "estimated_lift_nanos", "version_from", "created_at")


def upgrade() -> None:
    pending = sa.text("status = 'pending'")
    op.create_table(
        "recommendations",
        *(sa.Column(name, Text, nullable=False) for name in TEXTS),
        *(sa.Column(name, Whole, nullable=False) for name in WHOLES),
        sa.Column("version_to", Whole, nullable=True),
        sa.Column("decided_at", Whole, nullable=True),
        sa.Column("decided_by", Text, nullable=True),
        sa.Column("decided_because", Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_recommendations"),
        sa.CheckConstraint(
            "status IN ('pending', 'applied', 'rejected', 'expired')", name=op.f("ck_recommendations_status")
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    # An event has one open recommendation at a time.
    op.create_index(
        "recommendations_pending",
        "recommendations",
        ["event"],
        unique=True,
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_index("recommendations_of_event", "recommendations", ["event", "id"])
