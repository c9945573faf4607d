"""On SQLite, the index of wallets that may be low has those alone that are."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("wallets_with_threshold", "wallets")
        low = sa.text("balance < low_balance_threshold")
        op.create_index("wallets_with_threshold", "wallets", ["customer_id"], sqlite_where=low)
