"""What `chargly demo` adds to a server, and no other command has: a demo wallet, an autoplay, a Stripe sandbox."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace
from starlette.routing import BaseRoute

from app.api.services import Services
from app.config import STRIPE_API, Config, url_host
from app.demo.autoplay import Autoplay
from app.demo.pages import demo_routes
from app.demo.sandbox import PATH as SANDBOX_PATH
from app.demo.sandbox import Sandbox
from app.demo.sandbox_dashboard import dashboard_routes
from app.demo.seed import CUSTOMER, seed
from app.errors import StartRefused
from app.store.checkouts import bought
from app.store.dialect import place
from app.store.migrate import is_ledger_of_others

DATABASE_URL = "sqlite:///chargly-demo.db"
_SANDBOX_KEY = "sk_test_sandbox"


def configured(config: Config) -> Config:
    """A configuration for a demo: a file of its own, and a key to call it with."""
    if config.database_url == Config().database_url:
        config = replace(config, database_url=DATABASE_URL)
    return config if config.api_key else replace(config, api_key=f"sk_demo_{secrets.token_hex(12)}")


def with_sandbox(config: Config, port: int) -> Config:
    """Where no Stripe key is set, one for the sandbox, which listens under our own address."""
    if config.stripe_secret_key:
        return config
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host  # noqa: S104 - compared, not bound
    return replace(
        config,
        stripe_secret_key=_SANDBOX_KEY,  # the sandbox takes any
        stripe_webhook_secrets=(f"whsec_{secrets.token_hex(16)}",),
        stripe_api_base=f"http://{url_host(host)}:{port}{SANDBOX_PATH}",
    )


def uses_sandbox(config: Config) -> bool:
    """Whether money goes to the demo's own sandbox, which an operator's key never does, wherever it is sent."""
    return config.stripe_secret_key == _SANDBOX_KEY and config.stripe_api_base.endswith(SANDBOX_PATH)


def check_history(config: Config) -> None:
    """Keeps a history's purchases apart from an operator's Stripe; of the settings as they were loaded.

    Raises:
        StartRefused: there is a key.

    """
    if config.stripe_secret_key is not None:
        raise StartRefused(
            "--history makes up purchases that Stripe knows nothing of, and STRIPE_SECRET_KEY is set: "
            "unset it and STRIPE_WEBHOOK_SECRET, or leave --history out."
        )


def check_ledger(config: Config) -> None:
    """Keeps the demo, whose page takes no credential, out of a ledger in earnest; before anything is written there.

    Raises:
        StartRefused: there are wallets, and none of them is the demo's.

    """
    if is_ledger_of_others(config, CUSTOMER):
        raise StartRefused(
            "DATABASE_URL names a ledger with wallets of its own, and the demo is no place for those: "
            "unset it, or name a new one."
        )


def welcome(config: Config, address: str, *, key_is_ours: bool) -> str:
    """What the terminal shows; a key that the operator chose is not put on a screen."""
    if uses_sandbox(config):
        money = "a sandbox: no real money moves"
    else:
        money = "Stripe itself" if config.stripe_api_base == STRIPE_API else "what STRIPE_API_BASE names"
    return (
        f"\n  Chargly demo   {address}/demo\n"
        f"  Dashboard      {address}/dashboard\n"
        f"  API key        {config.api_key if key_is_ours else 'as set in CHARGLY_API_KEY'}\n"
        f"  Payments       {money}\n"
        f"  Ledger         {place(config.database_url)}\n\n"
        "  Ctrl+C stops it.\n"
    )


class Demo:
    """The demo's routes and what runs beside them."""

    def __init__(self, config: Config) -> None:
        self._sandbox = Sandbox(config) if uses_sandbox(config) else None
        self._autoplay = Autoplay()

    def routes(self, services: Services) -> Sequence[BaseRoute]:
        """Routes that exist in no other command."""
        sandboxed = self._sandbox is not None
        mine = demo_routes(services, self._autoplay, sandboxed=sandboxed)
        if self._sandbox is None:
            return mine
        return [*mine, *self._sandbox.routes(), *dashboard_routes(services, self._sandbox.account)]

    @contextlib.asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Seeds the wallet and tells the sandbox what was bought before it began.

        Then it runs agents and delivers webhooks for as long as the server does.
        """
        await seed(services)
        if self._sandbox is not None:
            limit = services.config.limits.sandbox_payments_learned_max
            self._sandbox.account.learn(await bought(services.db, limit=limit))
        async with (
            self._autoplay.running(services),
            self._sandbox.delivering() if self._sandbox else contextlib.nullcontext(),
        ):
            yield
