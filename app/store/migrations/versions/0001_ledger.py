"""The ledger, the catalogue, checkouts and keys, with the prices and packs that a new database begins with."""

import json
import secrets
import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

PRICES = (
    ("chat.reply", 8, "Chat reply"),
    ("image.generate", 40, "Image generation"),
    ("doc.summarize", 12, "Document summary"),
    ("agent.run", 25, "Agent run"),
)
PACKS = (("chargly_500", "Starter", 500, 1000, "usd"), ("chargly_1200", "Growth", 1200, 2000, "usd"))

Whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
STRICT = {"sqlite_strict": True, "sqlite_with_rowid": False}


def text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=null)


def whole(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=null)


def upgrade() -> None:
    _create_instance()
    _create_ledger()
    _create_catalogue()
    _create_checkouts()
    _create_api_keys()


def _create_instance() -> None:
    table = op.create_table(
        "instance",
        whole("id"),
        text("epoch"),
        text("token_secret"),
        sa.Column("generation", Whole, nullable=False, server_default=sa.text("1")),
        whole("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.CheckConstraint("id = 1", name=op.f("ck_instance_one_row")),
        **STRICT,
    )
    op.bulk_insert(
        table,
        [
            {
                "id": 1,
                "epoch": secrets.token_hex(8),
                "token_secret": secrets.token_hex(32),
                "generation": 1,
                "created_at": _now_ms(),
            }
        ],
    )


def _create_ledger() -> None:
    op.create_table(
        "wallets",
        text("customer_id"),
        text("name", null=True),
        whole("balance"),
        whole("held"),
        whole("version"),
        whole("overdraft_limit"),
        whole("low_balance_threshold", null=True),
        whole("frozen"),
        whole("created_at"),
        whole("last_entry_at"),
        sa.PrimaryKeyConstraint("customer_id", name="pk_wallets"),
        sa.CheckConstraint("balance BETWEEN -9000000000000000 AND 9000000000000000", name=op.f("ck_wallets_balance")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_wallets_held")),
        sa.CheckConstraint("frozen IN (0, 1)", name=op.f("ck_wallets_frozen")),
        **STRICT,
    )
    op.create_table(
        "grants",
        text("customer_id"),
        text("id"),
        whole("version"),
        text("category"),
        whole("credits"),
        whole("remaining"),
        whole("priority"),
        text("source"),
        whole("created_at"),
        whole("effective_at"),
        whole("expires_at", null=True),
        whole("amount", null=True),
        text("currency", null=True),
        sa.PrimaryKeyConstraint("customer_id", "id", name="pk_grants"),
        sa.ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"], name="fk_grants_wallets"),
        sa.CheckConstraint("remaining BETWEEN 0 AND credits", name=op.f("ck_grants_remaining")),
        sa.CheckConstraint("category IN ('paid', 'promotional')", name=op.f("ck_grants_category")),
        **STRICT,
    )
    live = sa.text("remaining > 0")
    op.create_index("grants_live", "grants", ["customer_id"], sqlite_where=live, postgresql_where=live)
    op.create_table(
        "entries",
        text("customer_id"),
        whole("version"),
        text("id"),
        text("kind"),
        text("description"),
        whole("credits"),
        whole("balance"),
        whole("held"),
        whole("available"),
        whole("created_at"),
        text("event", null=True),
        text("model", null=True),
        text("member", null=True),
        whole("quantity", null=True),
        whole("unit_credits", null=True),
        whole("price_version", null=True),
        whole("cost_nanos", null=True),
        text("draws", null=True),
        text("metadata", null=True),
        text("reason", null=True),
        text("actor", null=True),
        text("detail", null=True),
        text("idempotency_key", null=True),
        text("request_hash", null=True),
        sa.PrimaryKeyConstraint("customer_id", "version", name="pk_entries"),
        sa.ForeignKeyConstraint(["customer_id"], ["wallets.customer_id"], name="fk_entries_wallets"),
        sa.CheckConstraint("version > 0", name=op.f("ck_entries_version")),
        **STRICT,
    )
    op.create_index("entries_by_id", "entries", ["id"], unique=True)
    _create_key_index("entries_by_key", "entries")


def _create_catalogue() -> None:
    prices = op.create_table(
        "prices",
        text("event"),
        whole("version"),
        whole("credits"),
        text("label"),
        text("per_model"),
        whole("archived"),
        whole("created_at"),
        text("actor", null=True),
        sa.PrimaryKeyConstraint("event", "version", name="pk_prices"),
        sa.CheckConstraint("credits >= 0", name=op.f("ck_prices_credits")),
        sa.CheckConstraint("archived IN (0, 1)", name=op.f("ck_prices_archived")),
        **STRICT,
    )
    packs = op.create_table(
        "packs",
        text("code"),
        text("name"),
        whole("credits"),
        whole("amount"),
        text("currency"),
        whole("archived"),
        whole("updated_at"),
        sa.PrimaryKeyConstraint("code", name="pk_packs"),
        sa.CheckConstraint("credits > 0", name=op.f("ck_packs_credits")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_packs_amount")),
        **STRICT,
    )
    now = _now_ms()
    op.bulk_insert(
        prices,
        [
            {
                "event": event,
                "version": 1,
                "credits": credits,
                "label": label,
                "per_model": json.dumps({}),
                "archived": 0,
                "created_at": now,
                "actor": None,
            }
            for event, credits, label in PRICES
        ],
    )
    op.bulk_insert(
        packs,
        [
            {
                "code": code,
                "name": name,
                "credits": credits,
                "amount": amount,
                "currency": currency,
                "archived": 0,
                "updated_at": now,
            }
            for code, name, credits, amount, currency in PACKS
        ],
    )


def _create_checkouts() -> None:
    op.create_table(
        "checkouts",
        text("id"),
        text("customer_id"),
        text("pack"),
        text("description"),
        whole("credits"),
        whole("amount"),
        text("currency"),
        text("status"),
        text("session_id", null=True),
        text("url", null=True),
        whole("created_at"),
        whole("expires_at"),
        text("idempotency_key", null=True),
        text("request_hash", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_checkouts"),
        sa.CheckConstraint("credits > 0", name=op.f("ck_checkouts_credits")),
        **STRICT,
    )
    _create_key_index("checkouts_by_key", "checkouts")


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        text("id"),
        text("name"),
        text("scope"),
        text("hash"),
        whole("created_at"),
        whole("revoked_at", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.CheckConstraint("scope IN ('meter', 'prices', 'admin')", name=op.f("ck_api_keys_scope")),
        **STRICT,
    )
    op.create_index("api_keys_by_hash", "api_keys", ["hash"], unique=True)


def _create_key_index(name: str, table: str) -> None:
    keyed = sa.text("idempotency_key IS NOT NULL")
    columns = ["customer_id", "idempotency_key"]
    op.create_index(name, table, columns, unique=True, sqlite_where=keyed, postgresql_where=keyed)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
