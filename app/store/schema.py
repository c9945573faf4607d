"""The tables, as SQLAlchemy Core knows them: for reads and for checking migrations. Times are milliseconds since 1970.

Every primary key of a wallet's rows begins with the wallet, but that of its checkouts, which Stripe names by their ids
alone. No sequence is global, so the schema can be sharded by wallet. SQLite's tables are STRICT, or it would turn a
float in an integer column into a REAL and say nothing.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from app.config import BALANCE_MAX

APPLICATION_ID: Final = 0x43484752
"""`CHGR` in SQLite's header: a file with another one is not ours."""

REVISION: Final = "0012"
"""The newest migration, which makes the tables what they are below."""

GRANT_LIVE: Final = "(remaining > 0 OR next_at IS NOT NULL)"
HOLD_OPEN: Final = "status = 'open'"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_Whole: Final = BigInteger().with_variant(Integer(), "sqlite")
# By code point, on both engines: cursors and the order in which wallets are locked go by it.
_Text: Final = Text().with_variant(Text(collation="C"), "postgresql")


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, _Text, nullable=null)


def _whole(name: str, *, null: bool = False, default: int | None = None) -> Column[int]:
    return Column(name, _Whole, nullable=null, server_default=None if default is None else text(str(default)))


def _partial_index(name: str, column: str, where: str) -> Index:
    return Index(name, column, sqlite_where=text(where), postgresql_where=text(where))


def _table(name: str, *parts: Any, rowid: bool = False) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


instance = _table(
    "instance",
    _whole("id"),
    _text("epoch"),
    _text("token_secret"),
    _whole("generation", default=1),
    _whole("created_at"),
    PrimaryKeyConstraint("id"),
    CheckConstraint("id = 1", name="one_row"),
)

wallets = _table(
    "wallets",
    _text("customer_id"),
    _text("name", null=True),
    _whole("balance"),
    _whole("held"),
    _whole("debt", default=0),
    _whole("open_holds", default=0),
    _whole("version"),
    _whole("overdraft_limit"),
    _whole("low_balance_threshold", null=True),
    _whole("limit_credits", null=True),
    _text("limit_per", null=True),
    _whole("spent_day", default=0),
    _whole("spent_week", default=0),
    _whole("spent_month", default=0),
    _whole("spent_at", default=0),
    _whole("frozen"),
    _whole("created_at"),
    _whole("last_entry_at"),
    _whole("due_at", null=True),
    _text("alert", null=True),
    _whole("alert_at", null=True),
    _text("auto_top_up", null=True),
    PrimaryKeyConstraint("customer_id"),
    CheckConstraint(f"balance BETWEEN -{BALANCE_MAX} AND {BALANCE_MAX}", name="balance"),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("frozen IN (0, 1)", name="frozen"),
    # What time brings is found here: grants that start or end, holds that run out.
    Index(
        "wallets_due", "due_at", sqlite_where=text("due_at IS NOT NULL"), postgresql_where=text("due_at IS NOT NULL")
    ),
    # Those that are low: SQLite writes to it for these alone. With the balance in an index, PostgreSQL would write all
    # of a wallet's for each event, so there it has those that may be.
    Index(
        "wallets_with_threshold",
        "customer_id",
        sqlite_where=text("balance < low_balance_threshold"),
        postgresql_where=text("low_balance_threshold IS NOT NULL"),
    ),
)

members = _table(
    "members",
    _text("customer_id"),
    _text("member"),
    _whole("limit_credits", null=True),
    _text("limit_per", null=True),
    _whole("held"),
    _whole("spent_day"),
    _whole("spent_week"),
    _whole("spent_month"),
    _whole("spent_at"),
    PrimaryKeyConstraint("customer_id", "member"),
    ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"]),
    CheckConstraint("held >= 0", name="held"),
)

grants = _table(
    "grants",
    _text("customer_id"),
    _text("id"),
    _whole("version"),
    Column("state", _Text, nullable=False, server_default=text("'active'")),
    _text("category"),
    _whole("credits"),
    _whole("remaining"),
    _whole("debt_paid", default=0),
    _whole("priority"),
    _text("source"),
    _whole("created_at"),
    _whole("effective_at"),
    _whole("expires_at", null=True),
    _whole("amount", null=True),
    _text("currency", null=True),
    _text("every", null=True),
    _text("rollover", null=True),
    _whole("anchor_at", null=True),
    _whole("period", default=0),
    _whole("next_at", null=True),
    _whole("ends_at", null=True),
    _whole("lapsed", default=0),
    _text("taken", null=True),
    _whole("worth_nanos", null=True),
    _text("worth_currency", null=True),
    PrimaryKeyConstraint("customer_id", "id"),
    ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"]),
    CheckConstraint("remaining BETWEEN 0 AND credits", name="remaining"),
    CheckConstraint("category IN ('paid', 'promotional')", name="category"),
    # A wallet's history of spent grants costs nothing: only what is not used up, or comes again, is found here.
    _partial_index("grants_live", "customer_id", GRANT_LIVE),
    Index(
        "grants_paid_debt", "customer_id", sqlite_where=text("debt_paid > 0"), postgresql_where=text("debt_paid > 0")
    ),
    # Those that expire soon. With the state or what remains in it, PostgreSQL would write to it for each event.
    Index(
        "grants_expiring",
        "expires_at",
        "customer_id",
        "id",
        sqlite_where=text("expires_at IS NOT NULL"),
        postgresql_where=text("expires_at IS NOT NULL"),
    ),
)

holds = _table(
    "holds",
    _text("customer_id"),
    _text("id"),
    _whole("version"),
    _text("status"),
    _text("label"),
    _text("event", null=True),
    _text("model", null=True),
    _text("member", null=True),
    _whole("quantity"),
    _whole("credits"),
    _whole("unit_credits", null=True),
    _whole("price_version", null=True),
    _whole("created_at"),
    _whole("expires_at"),
    _whole("closed_at", null=True),
    _text("metadata", null=True),
    _text("rate", null=True),
    PrimaryKeyConstraint("customer_id", "id"),
    ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"]),
    CheckConstraint("credits > 0", name="credits"),
    CheckConstraint("status IN ('open', 'captured', 'released', 'expired')", name="status"),
    Index("holds_by_id", "id", unique=True),
    _partial_index("holds_open", "customer_id", HOLD_OPEN),
)

entries = _table(
    "entries",
    _text("customer_id"),
    _whole("version"),
    _text("id"),
    _text("kind"),
    _text("description"),
    _whole("credits"),
    _whole("balance"),
    _whole("held"),
    _whole("available"),
    _whole("created_at"),
    _text("event", null=True),
    _text("model", null=True),
    _text("member", null=True),
    _whole("quantity", null=True),
    _whole("unit_credits", null=True),
    _whole("price_version", null=True),
    _whole("cost_nanos", null=True),
    _text("draws", null=True),
    _text("metadata", null=True),
    _text("reason", null=True),
    _text("actor", null=True),
    _text("detail", null=True),
    _text("idempotency_key", null=True),
    _text("request_hash", null=True),
    PrimaryKeyConstraint("customer_id", "version"),
    ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"]),
    CheckConstraint("version > 0", name="version"),
    Index("entries_by_id", "id", unique=True),
    Index(
        "entries_by_key",
        "customer_id",
        "idempotency_key",
        unique=True,
        sqlite_where=text("idempotency_key IS NOT NULL"),
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

USAGE_SUMS: Final = (
    "count",
    "reversed",
    "quantity",
    "credits",
    "costed",
    "cost_nanos",
    "paid_credits",
    "revenue_nanos",
)
"""What is added up of usage; beside it are the least and the most that one unit cost."""


def _usage_sums() -> list[Column[int]]:
    return [*map(_whole, USAGE_SUMS), _whole("cost_low", null=True), _whole("cost_high", null=True)]


# Which entries are not added up yet: as JSON, each wallet with the first and the last version of a batch.
usage_pending = _table("usage_pending", _text("id"), _text("wallets"), PrimaryKeyConstraint("id"))

usage_hours = _table(
    "usage_hours",
    _whole("hour"),
    _text("event"),
    _text("model"),
    _text("currency"),
    *_usage_sums(),
    PrimaryKeyConstraint("hour", "event", "model", "currency"),
)

# The same by day: what a report reads of the whole days in it.
usage_days = _table(
    "usage_days",
    _whole("day"),
    _text("event"),
    _text("model"),
    _text("currency"),
    *_usage_sums(),
    PrimaryKeyConstraint("day", "event", "model", "currency"),
)

usage_of_wallets = _table(
    "usage_of_wallets",
    _text("customer_id"),
    _whole("hour"),
    _text("event"),
    _text("model"),
    _text("member"),
    _text("currency"),
    *_usage_sums(),
    PrimaryKeyConstraint("customer_id", "hour", "event", "model", "member", "currency"),
    Index("usage_of_wallets_by_hour", "hour"),
)

usage_of_customers = _table(
    "usage_of_customers",
    _whole("month"),
    _text("customer_id"),
    _whole("credits"),
    PrimaryKeyConstraint("month", "customer_id"),
)

credit_flows = _table(
    "credit_flows",
    _whole("hour"),
    _text("kind"),
    _whole("entries"),
    _whole("credits_in"),
    _whole("credits_out"),
    PrimaryKeyConstraint("hour", "kind"),
)

prices = _table(
    "prices",
    _text("event"),
    _whole("version"),
    _whole("credits"),
    _text("label"),
    _text("per_model"),
    _whole("archived"),
    _whole("created_at"),
    _text("actor", null=True),
    Column("tiers", _Text, nullable=False, server_default=text("'[]'")),
    _whole("minimum", default=0),
    _whole("effective_at", default=0),
    _whole("withdrawn", default=0),
    PrimaryKeyConstraint("event", "version"),
    CheckConstraint("credits >= 0", name="credits"),
    CheckConstraint("archived IN (0, 1)", name="archived"),
    Index("prices_by_time", "event", "effective_at", "version"),
)

costs = _table(
    "costs",
    _text("event"),
    _whole("version"),
    _whole("nanos", null=True),
    _text("per_model"),
    _whole("archived"),
    _whole("created_at"),
    _text("actor", null=True),
    PrimaryKeyConstraint("event", "version"),
    CheckConstraint("nanos >= 0", name="nanos"),
    CheckConstraint("archived IN (0, 1)", name="archived"),
)

recommendations = _table(
    "recommendations",
    *map(_text, ("id", "event", "kind", "per_model", "reason", "confidence", "status", "facts")),
    *map(_whole, ("current_credits", "recommended_credits", "estimated_lift_nanos", "version_from", "created_at")),
    _whole("version_to", null=True),
    _whole("decided_at", null=True),
    _text("decided_by", null=True),
    _text("decided_because", null=True),
    PrimaryKeyConstraint("id"),
    CheckConstraint("status IN ('pending', 'applied', 'rejected', 'expired')", name="status"),
    # An event has one open recommendation at a time.
    Index(
        "recommendations_pending",
        "event",
        unique=True,
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index("recommendations_of_event", "event", "id"),
)

packs = _table(
    "packs",
    _text("code"),
    _text("name"),
    _whole("credits"),
    _whole("amount"),
    _text("currency"),
    _whole("archived"),
    _whole("updated_at"),
    _whole("bonus_credits", default=0),
    _whole("bonus_days", null=True),
    Column("currencies", _Text, nullable=False, server_default=text("'{}'")),
    _whole("amount_min", null=True),
    _whole("amount_max", null=True),
    _text("stripe_price", null=True),
    _whole("expires_with_period", default=1),
    PrimaryKeyConstraint("code"),
    CheckConstraint("credits > 0", name="credits"),
    CheckConstraint("amount > 0", name="amount"),
)

pack_versions = _table(
    "pack_versions",
    _text("code"),
    _whole("version"),
    _text("name"),
    _whole("credits"),
    _whole("amount"),
    _text("currency"),
    _whole("bonus_credits"),
    _whole("bonus_days", null=True),
    _text("currencies"),
    _whole("amount_min", null=True),
    _whole("amount_max", null=True),
    _text("stripe_price", null=True),
    _whole("expires_with_period"),
    _whole("archived"),
    _whole("created_at"),
    _text("actor", null=True),
    PrimaryKeyConstraint("code", "version"),
    CheckConstraint("archived IN (0, 1)", name="archived"),
)

checkouts = _table(
    "checkouts",
    _text("id"),
    _text("customer_id"),
    _text("pack"),
    _text("description"),
    _whole("credits"),
    _whole("amount"),
    _text("currency"),
    _text("status"),
    _text("session_id", null=True),
    _text("url", null=True),
    _whole("created_at"),
    _whole("expires_at"),
    _text("idempotency_key", null=True),
    _text("request_hash", null=True),
    Column("kind", _Text, nullable=False, server_default=text("'checkout'")),
    _whole("bonus_credits", default=0),
    _whole("bonus_days", null=True),
    _whole("credits_expire_at", null=True),
    _whole("save_card", default=0),
    _text("payment_intent", null=True),
    _text("stripe_customer", null=True),
    _text("payment_method", null=True),
    _whole("amount_paid", null=True),
    _whole("amount_refunded", default=0),
    _whole("amount_disputed", default=0),
    _text("failure", null=True),
    _whole("asked", default=0),
    _whole("ask_at", null=True),
    PrimaryKeyConstraint("id"),
    CheckConstraint("credits > 0", name="credits"),
    CheckConstraint("kind IN ('checkout', 'auto_top_up', 'subscription')", name="kind"),
    # What Stripe is asked about next, and what it names by its own ids.
    _partial_index("checkouts_to_ask", "ask_at", "ask_at IS NOT NULL"),
    _partial_index("checkouts_by_payment", "payment_intent", "payment_intent IS NOT NULL"),
    Index("checkouts_by_time", "created_at", "id"),
    Index("checkouts_of_customer", "customer_id", "created_at", "id"),
    Index(
        "checkouts_by_key",
        "customer_id",
        "idempotency_key",
        unique=True,
        sqlite_where=text("idempotency_key IS NOT NULL"),
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

api_keys = _table(
    "api_keys",
    _text("id"),
    _text("name"),
    _text("scope"),
    _text("hash"),
    _whole("created_at"),
    _whole("revoked_at", null=True),
    PrimaryKeyConstraint("id"),
    CheckConstraint("scope IN ('meter', 'prices', 'admin')", name="scope"),
    Index("api_keys_by_hash", "hash", unique=True),
)

leases = _table(
    "leases",
    _text("name"),
    _text("holder"),
    _whole("until"),
    PrimaryKeyConstraint("name"),
)

stripe_customers = _table(
    "stripe_customers",
    _text("customer_id"),
    _text("stripe_customer"),
    _text("payment_method", null=True),
    _whole("updated_at"),
    PrimaryKeyConstraint("customer_id"),
    Index("stripe_customers_by_theirs", "stripe_customer"),
)

marks = _table(
    "marks",
    _text("name"),
    _whole("at"),
    PrimaryKeyConstraint("name"),
)

webhook_endpoints = _table(
    "webhook_endpoints",
    _text("id"),
    _text("url"),
    # Types with a space around each, so that one is found by LIKE; '*' is every type.
    _text("events"),
    _text("description", null=True),
    _text("secret"),
    _text("former_secret", null=True),
    _whole("former_until", null=True),
    _text("disabled", null=True),
    _whole("failing_since", null=True),
    _whole("created_at"),
    _whole("updated_at"),
    PrimaryKeyConstraint("id"),
)

webhook_deliveries = _table(
    "webhook_deliveries",
    _text("id"),
    _text("endpoint_id"),
    _text("message_id"),
    _text("customer_id"),
    # Where it stands among what one wallet has to say: its version, and which of that version's.
    _whole("position"),
    _text("type"),
    _text("payload"),
    _text("status"),
    _whole("attempts"),
    _whole("next_at"),
    _whole("created_at"),
    _whole("ended_at", null=True),
    _whole("answer_status", null=True),
    _text("error", null=True),
    PrimaryKeyConstraint("id"),
    CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status"),
    Index(
        "webhook_deliveries_pending",
        "endpoint_id",
        "customer_id",
        "position",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "webhook_deliveries_next",
        "endpoint_id",
        "next_at",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    _partial_index("webhook_deliveries_ended", "ended_at", "ended_at IS NOT NULL"),
    Index("webhook_deliveries_of_endpoint", "endpoint_id", "created_at", "id"),
    Index(
        "webhook_deliveries_not_delivered",
        "endpoint_id",
        "status",
        "created_at",
        "id",
        sqlite_where=text("status <> 'delivered'"),
        postgresql_where=text("status <> 'delivered'"),
    ),
)
