"""Holds, members, limits, debts, and grants that wait, lapse or come again."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT = {"sqlite_strict": True, "sqlite_with_rowid": False}

DAY_MS = 86_400_000
# The windows of a time, as SQLite computes them: its day, the Monday of its week, the first of its month.
DAY = f"(at / {DAY_MS})"
WEEK = f"((at / {DAY_MS} + 3) / 7)"
MONTH = "strftime('%Y-%m', at / 1000, 'unixepoch')"


def text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=null)


def whole(name: str, *, null: bool = False, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=null, server_default=None if default is None else sa.text(str(default)))


def upgrade() -> None:
    _widen_wallets()
    _widen_grants()
    _create_members()
    _create_holds()
    if op.get_bind().dialect.name == "sqlite":  # the revision before ran there alone
        _bring_up_to_date()


def _widen_wallets() -> None:
    columns: list[sa.Column[Any]] = [
        whole("debt", default=0),
        whole("open_holds", default=0),
        whole("limit_credits", null=True),
        text("limit_per", null=True),
        *(whole(f"spent_{per}", default=0) for per in ("day", "week", "month")),
        whole("spent_at", default=0),
        whole("due_at", null=True),
    ]
    for column in columns:
        op.add_column("wallets", column)
    _create_partial_index("wallets_due", "wallets", ["due_at"], "due_at IS NOT NULL")


def _widen_grants() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column("state", Text, nullable=False, server_default=sa.text("'active'")),
        whole("debt_paid", default=0),
        text("every", null=True),
        text("rollover", null=True),
        whole("anchor_at", null=True),
        whole("period", default=0),
        whole("next_at", null=True),
        whole("ends_at", null=True),
    ]
    for column in columns:
        op.add_column("grants", column)
    op.drop_index("grants_live", "grants")
    _create_partial_index("grants_live", "grants", ["customer_id"], "(remaining > 0 OR next_at IS NOT NULL)")
    _create_partial_index("grants_paid_debt", "grants", ["customer_id"], "debt_paid > 0")


def _create_members() -> None:
    op.create_table(
        "members",
        text("customer_id"),
        text("member"),
        whole("limit_credits", null=True),
        text("limit_per", null=True),
        *(whole(name) for name in ("held", "spent_day", "spent_week", "spent_month", "spent_at")),
        sa.PrimaryKeyConstraint("customer_id", "member", name="pk_members"),
        sa.ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"], name="fk_members_wallets"),
        sa.CheckConstraint("held >= 0", name=op.f("ck_members_held")),
        **STRICT,
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        text("customer_id"),
        text("id"),
        whole("version"),
        text("status"),
        text("label"),
        *(text(name, null=True) for name in ("event", "model", "member")),
        whole("quantity"),
        whole("credits"),
        *(whole(name, null=True) for name in ("unit_credits", "price_version")),
        whole("created_at"),
        whole("expires_at"),
        whole("closed_at", null=True),
        text("metadata", null=True),
        sa.PrimaryKeyConstraint("customer_id", "id", name="pk_holds"),
        sa.ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"], name="fk_holds_wallets"),
        sa.CheckConstraint("credits > 0", name=op.f("ck_holds_credits")),
        sa.CheckConstraint("status IN ('open', 'captured', 'released', 'expired')", name=op.f("ck_holds_status")),
        **STRICT,
    )
    op.create_index("holds_by_id", "holds", ["id"], unique=True)
    _create_partial_index("holds_open", "holds", ["customer_id"], "status = 'open'")


def _create_partial_index(name: str, table: str, columns: Sequence[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _bring_up_to_date() -> None:
    """Works out of the ledger what the new columns would hold, had they been there from the start."""
    remaining = "(SELECT coalesce(sum(remaining), 0) FROM grants WHERE grants.customer_id = wallets.customer_id)"
    op.execute(f"UPDATE wallets SET debt = {remaining} - balance")
    op.execute(
        "UPDATE grants SET debt_paid = coalesce((SELECT credits - json_extract(detail, '$.grant.remaining')"
        " FROM entries WHERE entries.customer_id = grants.customer_id AND entries.version = grants.version"
        " AND json_extract(detail, '$.grant.id') = grants.id), 0)"
    )
    spent = ", ".join(
        f"coalesce(sum(-credits) FILTER (WHERE {window} = {window.replace('at /', 'last /')}), 0)"
        for window in (DAY, WEEK, MONTH)
    )
    for holder in ("", ", member"):
        events = (
            f"SELECT customer_id{holder}, credits, created_at AS at,"
            f" max(created_at) OVER (PARTITION BY customer_id{holder}) AS last"
            " FROM entries WHERE kind = 'event'" + (" AND member IS NOT NULL" if holder else "")
        )
        sums = f"SELECT customer_id{holder}, {spent}, max(last) FROM ({events}) GROUP BY customer_id{holder}"
        if holder:
            names = "(customer_id, member, spent_day, spent_week, spent_month, spent_at, held)"
            op.execute(f"INSERT INTO members {names} SELECT *, 0 FROM ({sums})")
        else:
            names = "(customer_id, spent_day, spent_week, spent_month, spent_at)"
            op.execute(
                f"WITH sums{names} AS ({sums}) UPDATE wallets SET spent_day = sums.spent_day,"
                " spent_week = sums.spent_week, spent_month = sums.spent_month, spent_at = sums.spent_at"
                " FROM sums WHERE sums.customer_id = wallets.customer_id"
            )
