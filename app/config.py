"""One frozen Config: the settings read from the environment, and every limit by name with its unit."""

import importlib.util
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from dotenv import dotenv_values

from app.errors import StartRefused

STRIPE_API: Final = "https://api.stripe.com"
CREDITS_MAX: Final = 10**12
"""Credits in one operation."""
BALANCE_MAX: Final = 9 * 10**15
"""Credits in one wallet, either way: below 2^53, so that every browser holds it exactly."""
HOLDS_OPEN_MAX: Final = 1_000
"""Open holds of one wallet."""
BATCH_EVENTS_MAX: Final = 1_000
"""Events in one call."""
GRANTS_MAX: Final = 1_000
"""Grants of one wallet that are not used up, before one by hand (an adjustment makes one too) is refused."""
AMOUNT_MAX: Final = 99_999_999
"""Money in minor units of its currency: Stripe takes eight digits."""
AUTO_TOP_UP_FAILURES_MAX: Final = 4
"""Automatic top-ups that fail one after another, before a wallet stops trying."""
AUTO_TOP_UP_PAUSES_SECONDS: Final = (3_600, 21_600, 86_400)
"""How long a wallet waits after its first, second and third failure."""
MONTHLY_LIMIT_MAX: Final = 10**12
"""What automatic top-ups of one wallet may charge in a month, in minor units."""
SETTLE_STEPS_MAX: Final = 2_500
"""What is settled of a wallet at once: more than all its holds and grants by hand. The rest is settled by the next."""
HOLD_SECONDS_DEFAULT: Final = 900
HOLD_SECONDS_MAX: Final = 86_400
IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 255
API_KEY_CHARACTERS_MAX: Final = 200
CUSTOMER_ID_CHARACTERS_MAX: Final = 255
INSERT_ROWS_MAX: Final = 32
"""Rows of one statement on SQLite: a text for each size, kept prepared, and few enough for its limit of parameters."""
LOCK_WAIT_NOTICED_MS: Final = 5
"""How long a batch on PostgreSQL waits for its wallets before it looks again whether prices have changed."""
LIVE_FRAMES_PER_SECOND_MAX: Final = 100
"""Pings and pieces of messages that one websocket may send."""
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
"""Hosts that a browser on this machine reaches."""
WORKERS_MAX: Final = 64
"""Processes of one `chargly serve`."""
METADATA_DEPTH_MAX: Final = 32
"""Objects and lists inside of each other, the metadata itself being the first."""
QUANTITY_MAX: Final = 10**9
COST_NANOS_MAX: Final = 10**15
"""The provider's cost of one event, in billionths of a US dollar: a million dollars."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds each body, queue, wait, cache and loop."""

    body_bytes_max: int = 1 << 20
    batch_body_bytes_max: int = 8 << 20
    headers_bytes_max: int = 32_768
    metadata_bytes_max: int = 4096
    csv_rows_max: int = 10_000_000
    csv_rows_at_once: int = 500
    export_rows_at_once: int = 2_000
    audit_rows_at_once: int = 1_000
    audit_seconds_max: float = 60.0
    list_rows_default: int = 20
    list_rows_max: int = 100
    query_characters_max: int = 255
    prices_max: int = 1_000
    models_per_price_max: int = 1_000
    price_versions_listed_max: int = 1_000
    prices_upcoming_max: int = 20
    tiers_per_price_max: int = 20
    prices_seconds_between: float = 1.0
    price_file_bytes_max: int = 1 << 20
    packs_max: int = 200
    currencies_per_pack_max: int = 50

    write_queue_max: int = 10_000
    write_batch_max: int = 512
    write_batches_at_once: int = 2
    wallets_cached_max: int = 10_000
    gil_switch_seconds: float = 0.001
    write_wait_seconds_max: float = 15.0
    database_close_seconds_max: float = 5.0
    transactions_waiting_max: int = 1_000
    write_recovery_seconds: float = 1.0
    settle_seconds_between: float = 1.0
    lease_seconds: float = 10.0
    lease_give_back_seconds_max: float = 1.0
    metrics_seconds_between: float = 1.0
    settle_wallets_at_once: int = 500
    sqlite_busy_wait_ms: int = 5_000
    sqlite_wal_pages_checkpoint: int = 4_000
    read_connections: int = 4
    statements_cached_max: int = 512
    snapshots_max: int = 2
    transaction_retries_max: int = 5
    postgres_cancel_seconds_max: float = 2.0
    migration_wait_seconds_max: float = 300.0

    key_cache_entries_max: int = 10_000
    key_cache_seconds_max: float = 5.0
    token_seconds_default: int = 900
    token_seconds_max: int = 86_400
    token_clock_leeway_seconds: int = 5

    bus_wallets_waiting_max: int = 10_000
    bus_message_bytes_max: int = 7_900
    bus_send_seconds_max: float = 5.0
    bus_ping_seconds: float = 5.0
    bus_reconnect_seconds_min: float = 0.1
    bus_reconnect_seconds_max: float = 2.0
    heal_seconds_between: float = 3.0
    heal_wallets_at_once: int = 500
    catch_up_wallets_at_once: int = 4

    live_accepts_per_second: int = 250
    live_accept_wait_seconds_max: float = 5.0
    live_sends_at_once: int = 100
    live_look_seconds: float = 1.0
    live_looks_at_once: int = 1_000
    live_subscribe_seconds_max: float = 10.0
    live_heartbeat_seconds: float = 20.0
    live_send_seconds_max: float = 15.0
    live_close_seconds_max: float = 1.0
    live_message_bytes_max: int = 16_384
    live_entries_max: int = 20
    live_sockets_per_wallet_max: int = 10_000
    live_goodbyes_per_second: int = 100
    live_address_warning_seconds: float = 60.0
    live_wallets_per_socket_max: int = 20
    tcp_user_timeout_ms: int = 30_000

    stripe_timeout_seconds: float = 20.0
    stripe_retries_max: int = 2
    stripe_rows_at_once: int = 100
    stripe_pages_max: int = 500
    stripe_rereads_max: int = 10
    stripe_ask_seconds_first: int = 60
    stripe_ask_seconds_max: int = 30 * 86_400
    stripe_asks_at_once: int = 10
    stripe_asks_seconds_between: float = 2.0
    stripe_sweep_seconds_between: float = 300.0
    stripe_sweep_overlap_seconds: int = 600
    stripe_events_remembered_max: int = 10_000
    auto_top_ups_at_once: int = 20
    auto_top_up_seconds_between: float = 0.5
    pay_page_minutes: int = 1_430
    stripe_event_tries_max: int = 10
    stripe_webhook_tolerance_seconds: int = 300
    stripe_reread_seconds_min: float = 2.0
    checkout_minutes: int = 30
    checkout_rereads_remembered_max: int = 10_000
    sandbox_payments_learned_max: int = 500

    webhook_endpoints_max: int = 20
    webhook_secret_overlap_seconds_default: int = 86_400
    webhook_secret_overlap_seconds_max: int = 604_800
    deliveries_seconds_between: float = 0.5
    deliveries_at_once: int = 256
    deliveries_per_endpoint_at_once: int = 64
    deliveries_to_failing_at_once: int = 2
    deliveries_found_at_once: int = 128
    deliveries_gather_seconds: float = 0.25
    deliveries_spread_seconds: float = 0.25
    deliveries_stop_seconds_max: float = 2.0
    delivery_seconds_max: float = 10.0
    delivery_process_grace_seconds: float = 5.0
    delivery_process_seconds_between: float = 2.0
    delivery_process_stop_seconds_max: float = 2.0
    delivery_frame_gather_seconds: float = 0.02
    delivery_connect_seconds_max: float = 3.0
    delivery_answer_seconds_max: float = 2.0
    delivery_answer_bytes_max: int = 4_096
    delivery_error_characters_max: int = 500
    delivery_retry_seconds_min: float = 5.0
    delivery_retry_seconds_max: float = 7_200.0
    delivery_retry_after_seconds_max: float = 3_600.0
    delivery_tries_seconds_max: float = 86_400.0
    delivery_tries_min: int = 5
    endpoint_failing_seconds_max: float = 259_200.0
    deliveries_kept_seconds: float = 2_592_000.0
    deliveries_swept_at_once: int = 1_000
    deliveries_counted_max: int = 100_000
    usage_seconds_between: float = 5.0
    usage_batches_at_once: int = 64
    usage_entries_at_once: int = 2_000
    usage_catch_ups_max: int = 50
    usage_periods_max: int = 2_000
    usage_rows_max: int = 10_000
    usage_groups_max: int = 200
    usage_days_max: int = 100_000
    standings_seconds_max: float = 5.0
    history_seconds_max: float = 600.0
    history_wallets_cached_max: int = 1_000
    history_catch_ups_max: int = 20
    repricings_max: int = 50
    simulation_prices_max: int = 100
    simulation_lots_max: int = 20_000
    simulation_seconds_max: float = 60.0
    upkeep_seconds_between: float = 60.0
    grant_expiring_seconds: float = 259_200.0
    grants_told_at_once: int = 500

    import_line_bytes_max: int = 16_384
    import_lines_at_once: int = 256
    import_rest_share: float = 0.5
    import_tries_max: int = 30
    import_retry_seconds: float = 1.0
    import_refused_shown_max: int = 20

    keep_alive_seconds: int = 75
    shutdown_seconds_max: int = 10
    worker_answer_seconds_max: int = 10
    worker_pause_seconds_max: int = 30
    worker_end_seconds_max: int = 28


LIMITS: Final = Limits()
"""The limits as they come."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process; `docs/settings.md` lists them."""

    host: str = "127.0.0.1"
    port: int = 8000
    database_url: str = "sqlite:///chargly.db"
    bus_url: str | None = None
    api_key: str | None = None
    token_secret: str | None = None
    allowed_origins: tuple[str, ...] = ()
    top_up_url: str | None = None
    public_url: str | None = None
    welcome_credits: int = 0
    usd_rates: Mapping[str, int] = {}
    """Billionths of a US dollar for one major unit of a currency."""
    sockets_per_address: int = 1_000
    stripe_secret_key: str | None = None
    stripe_webhook_secrets: tuple[str, ...] = ()
    promotion_codes: bool = False
    automatic_tax: bool = False
    stripe_api_base: str = STRIPE_API
    webhook_private_targets: bool = False
    limits: Limits = LIMITS

    @property
    def stripe_configured(self) -> bool:
        """Whether checkouts can be made and their webhooks believed."""
        return bool(self.stripe_secret_key and self.stripe_webhook_secrets)


def load(environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> Config:
    """The configuration of this process.

    Args:
        environ: the environment, `os.environ` by default; it wins over the file.
        dotenv: a file of `NAME=value` lines, read where it exists.

    Raises:
        StartRefused: a value is wrong; the sentence names its variable.

    """
    values = dict(os.environ if environ is None else environ)
    if dotenv is not None and dotenv.is_file():
        values = _read_dotenv(dotenv) | values
    env = _Environment(values)
    config = Config(
        host=env.text("HOST") or "127.0.0.1",
        port=env.integer("PORT", default=8000, low=0, high=65_535),
        database_url=env.database_url(),
        bus_url=env.bus_url(),
        api_key=env.secret("CHARGLY_API_KEY", prefix="sk_", length_min=20, length_max=API_KEY_CHARACTERS_MAX),
        token_secret=env.secret("CHARGLY_TOKEN_SECRET", length_min=32),
        allowed_origins=tuple(
            env.origin("CHARGLY_ALLOWED_ORIGINS", part) for part in env.parts("CHARGLY_ALLOWED_ORIGINS")
        ),
        top_up_url=env.web_address("CHARGLY_TOP_UP_URL"),
        public_url=env.web_address("CHARGLY_PUBLIC_URL"),
        welcome_credits=env.integer("CHARGLY_WELCOME_CREDITS", default=0, low=0, high=CREDITS_MAX),
        usd_rates=env.rates("CHARGLY_USD_RATES"),
        sockets_per_address=env.integer("CHARGLY_SOCKETS_PER_ADDRESS", default=1_000, low=0, high=1_000_000),
        stripe_secret_key=env.secret("STRIPE_SECRET_KEY"),
        stripe_webhook_secrets=env.secrets("STRIPE_WEBHOOK_SECRET", prefix="whsec_", most=2),
        promotion_codes=env.boolean("CHARGLY_PROMOTION_CODES"),
        automatic_tax=env.boolean("CHARGLY_AUTOMATIC_TAX"),
        stripe_api_base=env.web_address("STRIPE_API_BASE") or STRIPE_API,
        webhook_private_targets=env.boolean("CHARGLY_WEBHOOK_PRIVATE_TARGETS"),
    )
    _check_stripe(config)
    if config.bus_url is not None and config.database_url.startswith("sqlite:"):
        raise StartRefused(
            "CHARGLY_BUS_URL is for servers that share a PostgreSQL database, and DATABASE_URL names a file: "
            "unset the one, or set the other."
        )
    return config


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise StartRefused(f"{path} cannot be read as a file of NAME=value lines: {error}.") from error


def url_host(host: str) -> str:
    """A host as it stands in an address: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def web_address(text: str) -> str | None:
    """A web address without a slash at its end, None where the text is none."""
    return None if _split(text) is None else text.rstrip("/")


def _split(url: str) -> urllib.parse.SplitResult | None:
    """The parts of a web address, None where it is none."""
    try:
        split = urllib.parse.urlsplit(url)
        good = split.scheme in ("http", "https") and bool(split.hostname) and (split.port or 1) > 0
    except ValueError:
        return None
    return split if good else None


def _postgresql(url: str) -> str:
    """The address of a PostgreSQL database, once it is sure to be one: nothing of it may be shown in a refusal."""
    if any(importlib.util.find_spec(name) is None for name in ("asyncpg", "greenlet")):
        raise StartRefused(
            "DATABASE_URL names a PostgreSQL database, and its driver is not installed: "
            "in Chargly's checkout, pip install '.[postgres]'."
        )
    try:
        parts = urllib.parse.urlsplit(url)
        hosts = [urllib.parse.urlsplit(f"//{host}").port for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        hosts = []
    if not hosts or parts.fragment or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise StartRefused(
            "DATABASE_URL must be postgresql://user:password@host:5432/database, "
            "with every character of the password that is no letter or digit written as %XX."
        )
    return url


def _check_stripe(config: Config) -> None:
    key = config.stripe_secret_key
    if key and not key.startswith(("sk_", "rk_")):
        raise StartRefused(
            "STRIPE_SECRET_KEY must be a secret or restricted key, which begins with 'sk_' or 'rk_': "
            "a publishable key (pk_) is for browsers, and a webhook's secret (whsec_) is for STRIPE_WEBHOOK_SECRET."
        )
    if key and key.startswith(("sk_live_", "rk_live_")) and config.stripe_api_base != STRIPE_API:
        raise StartRefused(
            "STRIPE_SECRET_KEY is a live key and STRIPE_API_BASE is not Stripe's own address: "
            "a live key goes to Stripe alone, so unset STRIPE_API_BASE or use a test key."
        )
    if key and not config.stripe_webhook_secrets:
        raise StartRefused(
            "STRIPE_SECRET_KEY is set and STRIPE_WEBHOOK_SECRET is not: "
            "without it no payment could be believed, so set both."
        )
    if config.stripe_webhook_secrets and not key:
        raise StartRefused(
            "STRIPE_WEBHOOK_SECRET is set and STRIPE_SECRET_KEY is not: "
            "without it no checkout could be made, so set both or neither."
        )


class _Environment:
    """Reads named values and refuses wrong ones in a sentence that names the variable, never a secret's value."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        return (self._values.get(name) or "").strip() or None

    def parts(self, name: str) -> list[str]:
        return [part.strip() for part in (self.text(name) or "").split(",") if part.strip()]

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,15}", text) or not low <= int(text) <= high:
            raise StartRefused(f"{name} must be a whole number from {low} to {high}, and it is {text[:40]!r}.")
        return int(text)

    def boolean(self, name: str) -> bool:
        text = self.text(name)
        if text not in (None, "true", "false"):
            raise StartRefused(f"{name} must be true or false, and it is {text[:40]!r}.")
        return text == "true"

    def rates(self, name: str) -> dict[str, int]:
        """Currencies and what one is in US dollars, such as `eur=1.08`, in billionths."""
        rates: dict[str, int] = {}
        for part in self.parts(name):
            match = re.fullmatch(r"([a-z]{3})\s*=\s*(\d{1,6})(?:\.(\d{1,9}))?", part, re.ASCII)
            nanos = int(match[2]) * 10**9 + int((match[3] or "").ljust(9, "0")) if match else 0
            if match is None or not nanos or match[1] == "usd" or match[1] in rates:
                raise StartRefused(
                    f"{name} must list once what one of a currency is in US dollars, such as eur=1.08,jpy=0.0067, "
                    f"and one is {part[:40]!r}."
                )
            rates[match[1]] = nanos
        return rates

    def secret(self, name: str, *, prefix: str = "", length_min: int = 1, length_max: int | None = None) -> str | None:
        text = self.text(name)
        if text is None:
            return None
        if not text.isascii() or not text.startswith(prefix) or len(text) < length_min:
            shape = f" beginning with {prefix!r}" if prefix else ""
            raise StartRefused(f"{name} must be at least {length_min} ASCII characters{shape}.")
        if length_max is not None and len(text) > length_max:
            raise StartRefused(f"{name} must be at most {length_max} characters.")
        return text

    def secrets(self, name: str, *, prefix: str, most: int) -> tuple[str, ...]:
        """Several, with commas between them: while one is being replaced, both are good."""
        parts = self.parts(name)
        if len(parts) > most or not all(part.isascii() and part.startswith(prefix) for part in parts):
            raise StartRefused(f"{name} must begin with {prefix!r}; {most} at most, with a comma between them.")
        return tuple(parts)

    def web_address(self, name: str) -> str | None:
        text = self.text(name)
        if text is None:
            return None
        address = web_address(text)
        if address is None:
            raise StartRefused(f"{name} must be an http:// or https:// address, and it is {text[:100]!r}.")
        return address

    def origin(self, name: str, text: str) -> str:
        split = _split(text)
        if split is None or split.path.strip("/") or split.query or split.fragment:
            raise StartRefused(
                f"{name} must list origins such as https://app.example.com, separated by commas, "
                f"and one is {text[:100]!r}."
            )
        return f"{split.scheme}://{split.netloc}".lower()

    def bus_url(self) -> str | None:
        text = self.text("CHARGLY_BUS_URL")
        if text is None:
            return None
        if not text.startswith(("redis://", "rediss://", "unix://")):  # it may hold a password, so it is not shown
            raise StartRefused("CHARGLY_BUS_URL must be redis://host:6379/0, or rediss:// for TLS.")
        if importlib.util.find_spec("redis") is None:
            raise StartRefused(
                "CHARGLY_BUS_URL names a Redis, and its client is not installed: "
                "in Chargly's checkout, pip install '.[redis]'."
            )
        return text

    def database_url(self) -> str:
        text = self.text("DATABASE_URL") or "sqlite:///chargly.db"
        if text.startswith("postgres://"):
            text = "postgresql://" + text.removeprefix("postgres://")
        if text.startswith("sqlite:///") and len(text) > len("sqlite:///") and ":memory:" not in text:
            return text
        if text.startswith("postgresql://"):
            return _postgresql(text)
        raise StartRefused(
            "DATABASE_URL must be sqlite:///path/to/file.db, sqlite:////absolute/path/to/file.db, or "
            "postgresql://user:password@host:5432/database."
        )
