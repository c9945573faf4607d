"""Who and what the demo's history is about: a product with its prices and costs, and the teams that pay for it.

Days are counted from the history's first, and money is in billionths of a US dollar.
"""

import random
from typing import Final

import msgspec

from app.demo.seed import CUSTOMER, LOW_BALANCE, NAME
from app.rules.packs import Pack
from app.store.catalogue import PriceDraft
from app.store.costs import CostDraft

DAYS: Final = 365
DRIFT_DAYS: Final = 70
"""For how long a chat reply has been getting dearer, up to today."""
DRIFT_FACTOR: Final = 2.6
SPIKE_DAYS: Final = 7
SPIKE_FACTOR: Final = 3.6

OPERATOR: Final = "ops"
"""Whose key gave, corrected and priced."""
BACKEND: Final = "production"
"""Whose key metered."""

_CENT: Final = 10**7


class Model(msgspec.Struct, frozen=True):
    """A model of an action: which share of its uses it has, and what one unit costs, None where that is not said."""

    name: str
    share: float
    nanos: int | None = None


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the product does.

    Args:
        event: its name.
        share: of all that is done.
        units_max: in one event, from 1 on.
        models: that it runs on.
        launched: the day from which on it is there.
        drifts: whether its cost has been rising of late.
        spikes: whether it is used far more in the last week.
        held: which share of it is held first.

    """

    event: str
    share: float
    units_max: int = 1
    models: tuple[Model, ...]
    launched: int = 0
    drifts: bool = False
    spikes: bool = False
    held: float = 0.0


CHAT: Final = (Model("lark-mini", 0.7, 34 * _CENT // 10), Model("lark-large", 0.3, 52 * _CENT // 10))
STEPS: Final = (Model("sage-mini", 0.8, 29 * _CENT // 10), Model("lark-mini", 0.2, 31 * _CENT // 10))
ACTIONS: Final = (
    Action(event="chat.reply", share=0.46, units_max=6, models=CHAT, drifts=True),
    # What these cost says the catalogue.
    Action(event="doc.summarize", share=0.14, units_max=4, models=(Model("lark-mini", 0.6), Model("lark-large", 0.4))),
    Action(
        event="agent.run",
        share=0.10,
        models=(Model("sage-mini", 0.6, 6 * _CENT), Model("sage-large", 0.4, 56 * _CENT)),
        held=0.2,
    ),
    Action(
        event="image.generate",
        share=0.06,
        units_max=2,
        models=(Model("prism-2", 0.75, 38 * _CENT // 10), Model("prism-3", 0.25, 55 * _CENT // 10)),
        spikes=True,
    ),
    Action(event="agent.step.search", share=0.05, models=STEPS, launched=120),
    Action(event="agent.step.read", share=0.05, models=STEPS, launched=120),
    Action(event="agent.step.write", share=0.04, models=STEPS, launched=120),
    # Nobody knows what this costs.
    Action(event="mail.classify", share=0.10, units_max=3, models=(Model("lark-mini", 0.9), Model("finch-1", 0.1))),
)

PRICES: Final = {
    0: (PriceDraft(event="mail.classify", credits=1, label="Mail sorted"),),
    120: (
        PriceDraft(event="agent.step.search", credits=2, label="Agent step: search"),
        PriceDraft(event="agent.step.read", credits=2, label="Agent step: read"),
        PriceDraft(event="agent.step.write", credits=2, label="Agent step: write"),
    ),
    182: (PriceDraft(event="agent.run", credits=30, label="Agent run"),),
}
"""New versions, by day."""
COSTS: Final = {
    0: (CostDraft(event="doc.summarize", nanos=9 * _CENT),),
    240: (CostDraft(event="doc.summarize", nanos=22 * _CENT, per_model={"lark-large": 27 * _CENT}),),
}
PACKS: Final = (
    Pack(code="team_2500", name="Team", credits=2_500, amount=4_000, currency="usd", currencies={"eur": 3_700}),
    Pack(
        code="studio_8000",
        name="Studio",
        credits=8_000,
        amount=12_000,
        currency="usd",
        currencies={"eur": 11_000},
        bonus_credits=400,
        bonus_days=60,
    ),
)
USD_RATES: Final = {"eur": 1_080_000_000}
"""What was paid in another currency is worth so much where the settings name no rate."""


class Buyer(msgspec.Struct, frozen=True, kw_only=True):
    """A customer.

    Args:
        id: the wallet's.
        name: as its owner calls itself.
        joined: the day on which the wallet is opened.
        pace: actions on an ordinary day.
        pack: that it buys, by code.
        currency: that it pays in.
        low: below which balance it counts as low, None for never.
        left: the day on which it leaves, having faded before.
        pays_until: the day from which on it buys nothing.
        members: who spends inside of it.
        overdraft: how far it may go below zero.
        frozen_on: the day on which its operator freezes it.
        gift: promotional credits each month.
        plan: paid credits each month, by a contract.

    """

    id: str
    name: str
    joined: int
    pace: float
    pack: str
    currency: str = "usd"
    low: int | None = None
    left: int | None = None
    pays_until: int | None = None
    members: tuple[str, ...] = ()
    overdraft: int = 0
    frozen_on: int | None = None
    gift: int = 0
    plan: int = 0


_NAMES: Final = (
    "northwind=Northwind Freight,halden=Halden & Moor,quillworks=Quillworks,bluefern=Bluefern Clinics,"
    "ostrava=Ostrava Legal,kitebridge=Kitebridge,marlowe=Marlowe Press,tidewell=Tidewell Energy,"
    "copperline=Copperline Labs,junipero=Junipero Travel,ashgrove=Ashgrove Realty,veldt=Veldt Robotics,"
    "lanternhq=Lantern HQ,pinemark=Pinemark Insurance,sablecove=Sable Cove,orrery=Orrery Analytics,"
    "fennimore=Fennimore Foods,glasshaus=Glasshaus Studio,rookery=Rookery Games,tessellate=Tessellate,"
    "wrenfield=Wrenfield Schools,palisade=Palisade Security,mistral=Mistral Sails,dovetail=Dovetail Joinery,"
    "hexham=Hexham Partners,larkspur=Larkspur Health,inkwell=Inkwell Media,brightmoor=Brightmoor,"
    "cobalt9=Cobalt Nine,sundial=Sundial HR,everstone=Everstone Mining,harrowgate=Harrowgate Estates,"
    "nimbusly=Nimbusly,orchardry=Orchardry,peregrine=Peregrine Air,quarryside=Quarryside,"
    "redfinch=Redfinch Audio,saltmarsh=Saltmarsh Seafood,thornbury=Thornbury Bank,umbra=Umbra Optics,"
    "vantablue=Vanta Blue,willowtek=Willowtek,yarrowco=Yarrow & Co,zephyrine=Zephyrine,"
    "amberlane=Amberlane,birchwood=Birchwood Care,cinderpeak=Cinder Peak,driftline=Driftline,"
    "elmsworth=Elmsworth,foxglove=Foxglove Beauty,greyharbor=Grey Harbor,hollowoak=Hollow Oak,"
    "ironquay=Ironquay,jadebrook=Jadebrook,kestrelops=Kestrel Ops,lumenry=Lumenry,"
    "mossgate=Mossgate,nettleton=Nettleton Tools,oakhurst=Oakhurst Vets"
)
_FIRST_BUYERS: Final = 14
"""They were there when the history begins; the others join over the year."""
_LAST_JOINED: Final = 340
_OPENED_AT_ONCE: Final = 4
_SIZES: Final = ((0.7, "chargly_1200"), (1.8, "team_2500"), (5.0, "studio_8000"))
_MEMBERS: Final = ("ada", "bashir", "chen", "dilara", "emeka", "freja")
_TEAMS: Final = (0, 3, 8, 15)
_EUROPEANS: Final = (4, 10, 18, 21, 29, 38, 44)
_GIFTED: Final = (1, 5, 12, 23, 33)
_PLANS: Final = (2, 7, 13)
_LEFT: Final = {6: 150, 11: 205, 19: 260, 25: 290, 31: 310, 36: 330}
_OVERDRAWN: Final = 14
_OVERDRAWN_PACE: Final = 5.0
_OVERDRAFT: Final = 12_000
_PAYS_NO_MORE: Final = {9: 325, _OVERDRAWN: 310, 16: 318, 22: 335, 27: 330, 30: 340, 40: 338}
_FROZEN: Final = 17
_FROZEN_ON: Final = 328


def buyers(rng: random.Random) -> list[Buyer]:
    """All customers, the demo's own first."""
    cast = [
        Buyer(id=CUSTOMER, name=NAME, joined=270, pace=1.2, pack="chargly_500", low=LOW_BALANCE),
    ]
    pairs = [pair.split("=") for pair in _NAMES.split(",")]
    later = sorted(rng.randrange(_OPENED_AT_ONCE, _LAST_JOINED) for _ in pairs[_FIRST_BUYERS:])
    joined = [rng.randrange(_OPENED_AT_ONCE) for _ in range(_FIRST_BUYERS)] + later
    for number, (id, name) in enumerate(pairs):
        [(pace, pack)] = rng.choices(_SIZES, weights=(5, 4, 2))
        if number in _TEAMS:
            pace, pack = _SIZES[-1]
        elif number in _EUROPEANS or number in _PAYS_NO_MORE:
            pace, pack = _SIZES[1]
        pace = _OVERDRAWN_PACE if number == _OVERDRAWN else pace * rng.uniform(0.6, 1.5)
        cast.append(
            Buyer(
                id=id,
                name=name,
                joined=joined[number],
                pace=pace,
                pack=pack,
                currency="eur" if number in _EUROPEANS else "usd",
                low=round(pace) * 100 + 100 if rng.random() < 0.8 else None,
                left=_LEFT.get(number),
                pays_until=_PAYS_NO_MORE.get(number),
                members=_MEMBERS[: 4 + number % 3] if number in _TEAMS else (),
                overdraft=_OVERDRAFT if number == _OVERDRAWN else 0,
                frozen_on=_FROZEN_ON if number == _FROZEN else None,
                gift=250 if number in _GIFTED else 0,
                plan=3_000 if number in _PLANS else 0,
            )
        )
    return cast
