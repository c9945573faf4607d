"""Refunds and disputes by grant, automatic top-ups, subscriptions, and what is told to the host's backend."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=null)


def whole(name: str, *, null: bool = False, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=null, server_default=None if default is None else sa.text(str(default)))


def upgrade() -> None:
    _widen("wallets", text("alert", null=True), whole("alert_at", null=True), text("auto_top_up", null=True))
    _widen("grants", whole("lapsed", default=0), text("taken", null=True))
    _widen(
        "packs",
        whole("bonus_credits", default=0),
        whole("bonus_days", null=True),
        sa.Column("currencies", Text, nullable=False, server_default=sa.text("'{}'")),
        whole("amount_min", null=True),
        whole("amount_max", null=True),
        text("stripe_price", null=True),
        whole("expires_with_period", default=1),
    )
    _widen_checkouts()
    _create_stripe_customers()
    _create_webhooks()
    _count_lapsed()
    # Those that were on their way when the job that asks about them was not there yet.
    op.execute("UPDATE checkouts SET ask_at = created_at WHERE status IN ('open', 'processing')")


def _widen(table: str, *columns: sa.Column[Any]) -> None:
    for column in columns:
        op.add_column(table, column)


def _widen_checkouts() -> None:
    kinds = "kind IN ('checkout', 'auto_top_up', 'subscription')"
    kind = sa.Column("kind", Text, nullable=False, server_default=sa.text("'checkout'"))
    if op.get_bind().dialect.name == "sqlite":  # which adds a constraint to a table that is there with a column alone
        column = "kind TEXT NOT NULL DEFAULT 'checkout'"
        op.execute(f"ALTER TABLE checkouts ADD COLUMN {column} CONSTRAINT ck_checkouts_kind CHECK ({kinds})")
    else:
        op.add_column("checkouts", kind)
        op.create_check_constraint(op.f("ck_checkouts_kind"), "checkouts", kinds)
    _widen(
        "checkouts",
        whole("bonus_credits", default=0),
        whole("bonus_days", null=True),
        whole("credits_expire_at", null=True),
        whole("save_card", default=0),
        text("payment_intent", null=True),
        text("stripe_customer", null=True),
        text("payment_method", null=True),
        whole("amount_paid", null=True),
        whole("amount_refunded", default=0),
        whole("amount_disputed", default=0),
        text("failure", null=True),
        whole("asked", default=0),
        whole("ask_at", null=True),
    )
    _create_index("checkouts_to_ask", "checkouts", ["ask_at"], "ask_at IS NOT NULL")
    _create_index("checkouts_by_payment", "checkouts", ["payment_intent"], "payment_intent IS NOT NULL")
    op.create_index("checkouts_by_time", "checkouts", ["created_at", "id"])
    op.create_index("checkouts_of_customer", "checkouts", ["customer_id", "created_at", "id"])


def _create_stripe_customers() -> None:
    op.create_table(
        "stripe_customers",
        text("customer_id"),
        text("stripe_customer"),
        text("payment_method", null=True),
        whole("updated_at"),
        sa.PrimaryKeyConstraint("customer_id", name="pk_stripe_customers"),
        **STRICT,
    )
    op.create_index("stripe_customers_by_theirs", "stripe_customers", ["stripe_customer"])
    op.create_table("marks", text("name"), whole("at"), sa.PrimaryKeyConstraint("name", name="pk_marks"), **STRICT)


def _create_webhooks() -> None:
    op.create_table(
        "webhook_endpoints",
        text("id"),
        text("url"),
        text("events"),
        text("description", null=True),
        text("secret"),
        text("former_secret", null=True),
        whole("former_until", null=True),
        text("disabled", null=True),
        whole("failing_since", null=True),
        whole("created_at"),
        whole("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
        **STRICT,
    )
    op.create_table(
        "webhook_deliveries",
        text("id"),
        text("endpoint_id"),
        text("message_id"),
        text("customer_id"),
        whole("position"),
        text("type"),
        text("payload"),
        text("status"),
        whole("attempts"),
        whole("next_at"),
        whole("created_at"),
        whole("ended_at", null=True),
        whole("answer_status", null=True),
        text("error", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_status")),
        **STRICT,
    )
    pending = "status = 'pending'"
    order = ["endpoint_id", "customer_id", "position"]
    _create_index("webhook_deliveries_pending", "webhook_deliveries", order, pending)
    _create_index("webhook_deliveries_next", "webhook_deliveries", ["endpoint_id", "next_at"], pending)
    _create_index("webhook_deliveries_ended", "webhook_deliveries", ["ended_at"], "ended_at IS NOT NULL")
    op.create_index("webhook_deliveries_of_endpoint", "webhook_deliveries", ["endpoint_id", "created_at", "id"])
    not_delivered = ["endpoint_id", "status", "created_at", "id"]
    _create_index("webhook_deliveries_not_delivered", "webhook_deliveries", not_delivered, "status <> 'delivered'")
    _create_index("grants_expiring", "grants", ["expires_at", "customer_id", "id"], "expires_at IS NOT NULL")


def _create_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _count_lapsed() -> None:
    """Works out of the ledger how much of each grant expired or was withdrawn: a refund takes that from nobody."""
    if op.get_bind().dialect.name == "sqlite":
        grant, credits = "json_extract(draws, '$[0][0]')", "json_extract(draws, '$[0][1]')"
    else:
        grant, credits = "draws::json->0->>0", "(draws::json->0->>1)::bigint"
    op.execute(
        "UPDATE grants SET lapsed = of_grant.gone FROM"
        f" (SELECT customer_id, {grant} AS grant_id, sum({credits}) AS gone FROM entries"
        " WHERE kind IN ('expiry', 'void') AND draws IS NOT NULL GROUP BY 1, 2) AS of_grant"
        " WHERE of_grant.customer_id = grants.customer_id AND of_grant.grant_id = grants.id"
    )
