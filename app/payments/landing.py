"""From what Stripe says of a payment to what the ledger says of its credits, whoever tells of it and however often."""

import logging

from app.config import Config
from app.errors import Busy, StripeUnavailable, VersionConflict
from app.payments.gateway import Gateway
from app.payments.messages import Intent, Payment, Session, id_of
from app.rules.operations import FailTopUp, TakeBack, TopUp, derived_id, grant_id_of, top_up_id_of
from app.store import checkouts, stripe_customers
from app.store.checkouts import PENDING, Checkout
from app.store.db import Database
from app.store.ids import new_id
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
        card_saved, failure = False, None
        try:
            card_saved = await self._keep_buyer(checkout, session)
        except StripeUnavailable as error:  # the credits land all the same, and the card when it is told again
            failure = error
        await self._land(checkout, session.amount_total or 0, id_of(session.payment_intent), card_saved=card_saved)
        if failure is not None:
            raise failure

    async def _keep_buyer(self, checkout: Checkout, session: Session) -> bool:
        """Keeps who bought, and the card where it was to be saved; says whether there is one."""
        buyer = id_of(session.customer)
        if buyer is None:
            return False
        card, intent_id = None, id_of(session.payment_intent)
        if checkout.save_card and intent_id is not None:
            card = id_of((await self._gateway.api.read_intent(intent_id)).payment_method)
        known = await stripe_customers.find(self._db, checkout.customer_id)
        if known is None or (card is not None and (known.stripe_customer, known.payment_method) != (buyer, card)):
            await stripe_customers.keep(self._db, checkout.customer_id, buyer, card)
        return card is not None

    async def by_intent(self, checkout: Checkout, intent: Intent, *, pay_url: str | None = None) -> None:
        """Brings an automatic top-up to what its payment says.

        Args:
            checkout: the attempt.
            intent: its payment, as Stripe has it now.
            pay_url: where the customer may pay instead, if it failed.

        Raises:
            ChargeError: it is not on disk.

        """
        if intent.status == "succeeded":
            if (intent.currency, intent.amount) != (checkout.currency, checkout.amount):
                log.error("payment %s is not over what %s is: nothing was granted", intent.id, checkout.id)
                return
            await self._land(checkout, intent.charged or intent.amount, intent.id)
        elif intent.status == "processing":
            await checkouts.move(self._db, checkout, "processing")
        elif checkout.status in PENDING:
            await self.fail(checkout, intent.failure, pay_url=pay_url)

    async def _land(self, checkout: Checkout, paid: int, intent_id: str | None, *, card_saved: bool = False) -> None:
        await self._writer.submit(
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
            )
        )

    async def invoice(self, checkout: Checkout, paid: int, intent_id: str | None) -> None:
        """Lands what a paid invoice grants; `paid` in minor units. Raises as `by_session`."""
        await self._land(checkout, paid, intent_id)

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

    async def by_money(self, checkout: Checkout) -> Payment | None:
        """Brings a checkout that has landed to where its money is; gives that, None where no money was paid.

        What Stripe says is taken only where nothing was taken since it was asked: two that ask at once would else end
        where the slower one began.

        Raises:
            ChargeError: it is not on disk.

        """
        if checkout.payment_intent is None:
            return None
        for _ in range(self._tries_max):
            seen = await taken_version(self._db, checkout.customer_id, grant_id_of(checkout.id))
            payment = await self._gateway.read_payment(checkout.payment_intent)
            moved = checkout.amount_refunded or checkout.amount_disputed or payment.refunded or payment.disputed
            if not payment.charged or not (seen or moved):
                return payment
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
                    )
                )
            except VersionConflict:
                continue
            return payment
        raise Busy
