"""From what Stripe says of a payment to what the ledger says of its credits, whoever tells of it and however often."""

import logging

from msgspec.structs import replace

from app.config import Config
from app.errors import Busy, StripeUnavailable, VersionConflict
from app.payments.gateway import Gateway
from app.payments.messages import Intent, Session, id_of
from app.rules.operations import FailTopUp, RestartTopUps, TakeBack, TopUp, derived_id, grant_id_of, top_up_id_of
from app.store import checkouts, stripe_customers
from app.store.checkouts import PENDING, Checkout
from app.store.db import Database
from app.store.ids import new_id, now_ms
from app.store.reads import taken_version
from app.store.writer import Writer

log = logging.getLogger("chargly.payments")


class Landing:
    """Brings a checkout to where its money is: landed, failed, or taken back."""

    def __init__(self, db: Database, writer: Writer, gateway: Gateway, config: Config) -> None:
        self._db = db
        self._writer = writer
        self._gateway = gateway
        self._tries_max = config.limits.stripe_rereads_max
        self._usd_rates = config.usd_rates

    async def by_session(self, checkout: Checkout, session: Session) -> None:
        """Brings a checkout to what its page at Stripe says.

        Raises:
            ChargeError: it is not on disk.

        """
        if session.status == "expired":
            await checkouts.move(self._db, checkout, "expired")
        elif session.is_paid:
            await self._land_session(checkout, session)
        elif session.status == "complete":
            await checkouts.move(self._db, checkout, "processing")

    async def _land_session(self, checkout: Checkout, session: Session) -> None:
        if (session.currency, session.amount_subtotal) != (checkout.currency, checkout.amount):
            log.error(
                "session %s is over %s %s and its checkout %s over %s %s: nothing was granted",
                session.id,
                session.amount_subtotal,
                session.currency,
                checkout.id,
                checkout.amount,
                checkout.currency,
            )
            return
        card_saved = is_new = False
        failure = None
        try:
            card_saved, is_new = await self._keep_buyer(checkout, session)
        except StripeUnavailable as error:  # the credits land all the same, and the card when it is told again
            failure = error
        is_first = await self.land(
            checkout, session.amount_total or 0, id_of(session.payment_intent), card_saved=card_saved
        )
        if is_new and not is_first:
            customer_id = checkout.customer_id
            await self._writer.submit(
                RestartTopUps(customer_id=customer_id, id=new_id("card", customer_id), actor="stripe")
            )
        if failure is not None:
            raise failure

    async def without_session(self, checkout: Checkout) -> None:
        """Ends a checkout whose time is over and that Stripe never gave a page where it could be paid."""
        if checkout.expires_at < now_ms():
            await checkouts.move(self._db, checkout, "expired")

    async def with_payment(self, checkout: Checkout) -> Checkout:
        """A paid checkout with its payment: one of a release that did not keep it is asked about.

        Raises:
            ChargeError: Stripe or the database is away.

        """
        if checkout.payment_intent is not None or checkout.session_id is None or checkout.status in PENDING:
            return checkout
        session = await self._gateway.api.read_session(checkout.session_id)
        if (intent_id := id_of(session.payment_intent)) is None or not session.is_paid:
            return checkout
        await checkouts.keep_payment(self._db, checkout.id, intent_id, session.amount_total or 0)
        return replace(checkout, payment_intent=intent_id, amount_paid=session.amount_total)

    async def _keep_buyer(self, checkout: Checkout, session: Session) -> tuple[bool, bool]:
        """Keeps who bought, and the card where it was to be saved; says whether there is one, and a new one."""
        buyer = id_of(session.customer)
        if buyer is None:
            return False, False
        card, intent_id = None, id_of(session.payment_intent)
        if checkout.save_card and intent_id is not None:
            card = id_of((await self._gateway.api.read_intent(intent_id)).payment_method)
        known = await stripe_customers.find(self._db, checkout.customer_id)
        if known is not None and (card is None or (known.stripe_customer, known.payment_method) == (buyer, card)):
            return card is not None, False
        await stripe_customers.keep(self._db, checkout.customer_id, buyer, card)
        return card is not None, card is not None

    async def by_intent(self, checkout: Checkout, intent: Intent) -> None:
        """Brings an automatic top-up to what its payment says, unless it failed: `fail` ends it then.

        Args:
            checkout: the attempt.
            intent: its payment, as Stripe has it now.

        Raises:
            ChargeError: it is not on disk.

        """
        if intent.status == "succeeded":
            if (intent.currency, intent.amount) != (checkout.currency, checkout.amount):
                log.error("payment %s is not over what %s is: nothing was granted", intent.id, checkout.id)
                return
            await self.land(checkout, intent.charged or intent.amount, intent.id)
        elif intent.status == "processing":
            await checkouts.move(self._db, checkout, "processing")

    async def land(self, checkout: Checkout, paid: int, intent_id: str | None, *, card_saved: bool = False) -> bool:
        """Gives what a checkout bought, once; says whether that was now.

        Args:
            checkout: what was bought.
            paid: what was charged, in minor units.
            intent_id: Stripe's payment, if there was one.
            card_saved: whether it left a card that may be charged.

        Raises:
            ChargeError: it is not on disk.

        """
        outcome = await self._writer.submit(
            TopUp(
                customer_id=checkout.customer_id,
                id=top_up_id_of(checkout.id),
                actor="stripe",
                credits=checkout.credits,
                checkout_id=checkout.id,
                description=checkout.description.partition(":")[0],
                amount=checkout.amount,
                currency=checkout.currency,
                purchase=checkout.kind,
                pack=checkout.pack,
                bonus_credits=checkout.bonus_credits,
                bonus_days=checkout.bonus_days,
                expires_at=checkout.credits_expire_at,
                paid=paid,
                payment_intent=intent_id,
                card_saved=card_saved,
                usd_rate=self._usd_rates.get(checkout.currency),
            )
        )
        return not outcome.replayed

    async def fail(self, checkout: Checkout, reason: str, *, pay_url: str | None = None, counts: bool = True) -> None:
        """Ends an automatic top-up that failed.

        Args:
            checkout: the attempt.
            reason: a code.
            pay_url: where the customer may pay instead.
            counts: whether the wallet waits before the next.

        """
        await self._writer.submit(
            FailTopUp(
                customer_id=checkout.customer_id,
                id=derived_id("fail", checkout.id),
                actor="stripe",
                checkout_id=checkout.id,
                pack=checkout.pack,
                amount=checkout.amount,
                currency=checkout.currency,
                reason=reason,
                pay_url=pay_url,
                counts=counts,
            )
        )

    async def by_money(self, checkout: Checkout) -> None:
        """Brings a checkout that has landed to where its money is.

        What Stripe says is taken only where nothing was taken since it was asked: two that ask at once would else end
        where the slower one began. It is asked again after each move, since another may have found nothing to move.

        Raises:
            ChargeError: it is not on disk.

        """
        if checkout.payment_intent is None:
            return
        known: tuple[int, int] | None = None
        for _ in range(self._tries_max):
            seen = await taken_version(self._db, checkout.customer_id, grant_id_of(checkout.id))
            payment = await self._gateway.read_payment(checkout.payment_intent)
            said = payment.refunded, payment.disputed
            moved = checkout.amount_refunded or checkout.amount_disputed or any(said)
            if not payment.charged or said == known or not (seen or moved):
                return
            try:
                await self._writer.submit(
                    TakeBack(
                        customer_id=checkout.customer_id,
                        id=new_id("back", checkout.customer_id),
                        actor="stripe",
                        checkout_id=checkout.id,
                        description=checkout.description.partition(":")[0],
                        charged=payment.charged,
                        refunded=payment.refunded,
                        disputed=payment.disputed,
                        seen=seen,
                        purchase=checkout.kind,
                    )
                )
            except VersionConflict:
                continue
            known = said
        raise Busy
