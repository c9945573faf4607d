"""What each pack was, in versions."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TERMS: Final = (
    "code, name, credits, amount, currency, bonus_credits, bonus_days, currencies, amount_min, amount_max,"
    " stripe_price, expires_with_period, archived"
)


def upgrade() -> None:
    op.create_table(
        "pack_versions",
        sa.Column("code", Text, nullable=False),
        sa.Column("version", Whole, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("credits", Whole, nullable=False),
        sa.Column("amount", Whole, nullable=False),
        sa.Column("currency", Text, nullable=False),
        sa.Column("bonus_credits", Whole, nullable=False),
        sa.Column("bonus_days", Whole, nullable=True),
        sa.Column("currencies", Text, nullable=False),
        sa.Column("amount_min", Whole, nullable=True),
        sa.Column("amount_max", Whole, nullable=True),
        sa.Column("stripe_price", Text, nullable=True),
        sa.Column("expires_with_period", Whole, nullable=False),
        sa.Column("archived", Whole, nullable=False),
        sa.Column("created_at", Whole, nullable=False),
        sa.Column("actor", Text, nullable=True),
        sa.PrimaryKeyConstraint("code", "version", name="pk_pack_versions"),
        sa.CheckConstraint("archived IN (0, 1)", name=op.f("ck_pack_versions_archived")),
        **STRICT,
    )
    op.execute(f"INSERT INTO pack_versions (version, {TERMS}, created_at) SELECT 1, {TERMS}, updated_at FROM packs")
