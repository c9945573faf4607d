"""Prices by tiers, with a minimum, and that come into force later; what a hold pins of them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("prices", sa.Column("tiers", Text, nullable=False, server_default=sa.text("'[]'")))
    for name in ("minimum", "effective_at", "withdrawn"):
        op.add_column("prices", sa.Column(name, Whole, nullable=False, server_default=sa.text("0")))
    # The latest version was the one in force, even where a clock had gone back before it was made.
    op.execute(
        "UPDATE prices SET effective_at = (SELECT max(earlier.created_at) FROM prices AS earlier"
        " WHERE earlier.event = prices.event AND earlier.version <= prices.version)"
    )
    op.create_index("prices_by_time", "prices", ["event", "effective_at", "version"])
    op.add_column("holds", sa.Column("rate", Text, nullable=True))
