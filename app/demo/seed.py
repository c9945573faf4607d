"""The demo's wallet, made once: it has some history and enough left to watch it drain."""

from typing import Final

from app.api.services import Services
from app.rules.operations import AddGrant, Event, OpenWallet
from app.store import reads
from app.store.ids import new_id

CUSTOMER: Final = "demo"
NAME: Final = "Acme AI"
LOW_BALANCE: Final = 200
TRIAL_CREDITS: Final = 1_500
_HISTORY: Final = (
    "chat.reply",
    "chat.reply",
    "doc.summarize",
    "chat.reply",
    "agent.run",
    "image.generate",
    "chat.reply",
)


async def seed(services: Services) -> None:
    """Opens the demo's wallet with a trial grant and a few events, where it is not there yet."""
    if await reads.wallet(services.db, CUSTOMER) is not None:
        return
    submit = services.writer.submit
    await submit(
        OpenWallet(
            customer_id=CUSTOMER,
            id=new_id("set", CUSTOMER),
            actor="demo",
            name=NAME,
            low_balance_threshold=LOW_BALANCE,
        )
    )
    await submit(
        AddGrant(
            customer_id=CUSTOMER,
            id=new_id("grant", CUSTOMER),
            actor="demo",
            credits=TRIAL_CREDITS,
            category="promotional",
        )
    )
    for event in _HISTORY:
        await submit(action(event))


def action(event: str) -> Event:
    """One AI action of the demo's customer."""
    return Event(customer_id=CUSTOMER, id=new_id("evt", CUSTOMER), actor="demo", event=event, metadata={})
