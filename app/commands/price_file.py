"""Prices and costs as a TOML file: read with the line of what is wrong, compared with those in force, written out."""

import contextlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import tomli_w
from msgspec.structs import asdict, replace

from app.api import costs as cost_route
from app.api import fields
from app.api import prices as price_route
from app.api.bodies import convert
from app.api.fields import Name, Quantity, Strict, UnitCredits
from app.config import Limits
from app.errors import InvalidRequest, StartRefused
from app.rules.times import rfc3339
from app.store.catalogue import PriceDraft, PriceVersion
from app.store.costs import CostDraft, CostVersion

T = TypeVar("T")
Draft = PriceDraft | CostDraft

_SYNTAX: Final = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)\Z", re.DOTALL)


class TierTable(Strict, frozen=True, kw_only=True):
    """A tier; without `up_to` it is for all the rest."""

    up_to: Quantity | None = None
    credits: UnitCredits


class PriceTable(Strict, frozen=True, kw_only=True):
    """The price of one event; its fields are those of `PUT /v1/prices/{event}`."""

    credits: UnitCredits
    label: Name | None = None
    per_model: dict[Name, UnitCredits] = {}
    tiers: list[TierTable] = []
    minimum: UnitCredits = 0
    effective_at: datetime | None = None


class CostTable(Strict, frozen=True, kw_only=True):
    """What one event costs; its fields are those of `PUT /v1/costs/{event}`."""

    cost_usd: str | None = None
    per_model: dict[Name, str] = {}


class Drafts(msgspec.Struct, frozen=True):
    """What a file says, by event."""

    prices: dict[str, PriceDraft]
    costs: dict[str, CostDraft]


class InForce(msgspec.Struct, frozen=True):
    """What a ledger has at a generation of its catalogue: price and cost in force by event, and prices to come."""

    generation: int
    prices: Mapping[str, PriceVersion]
    upcoming: Sequence[PriceVersion]
    costs: Mapping[str, CostVersion]


class Difference(msgspec.Struct, frozen=True):
    """One event whose price or cost would change: how it is now, None where it is new, and how it would be."""

    draft: Draft
    now: str | None
    then: str

    @property
    def kind(self) -> str:
        """`price` or `cost`."""
        return "price" if isinstance(self.draft, PriceDraft) else "cost"

    @property
    def sentence(self) -> str:
        """For a person."""
        change = f"new: {self.then}" if self.now is None else f"{self.now}  →  {self.then}"
        return f"{self.kind} of {self.draft.event}: {change}"


def read(path: Path, limits: Limits) -> Drafts:
    """The prices and costs of a file.

    Raises:
        StartRefused: it cannot be read, or says what cannot be; names the line.

    """
    try:
        with path.open("rb") as file:
            content = file.read(limits.price_file_bytes_max + 1)
        if len(content) > limits.price_file_bytes_max:
            raise StartRefused(f"{path} is larger than {limits.price_file_bytes_max:,} bytes.")
        text = content.decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise StartRefused(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise StartRefused(f"{path} is not in UTF-8.") from error
    except RecursionError as error:
        raise StartRefused(f"{path} is nested too deeply.") from error
    except tomllib.TOMLDecodeError as error:
        said = _SYNTAX.match(str(error))
        line = (said[2] if said else None) or len(text.splitlines())
        raise StartRefused(f"{path}, line {line}: {said[1] if said else error}.") from error
    except ValueError as error:  # of thousands of digits, Python makes no number
        raise StartRefused(f"{path} has a number of too many digits.") from error
    for name in document:
        if name not in ("prices", "costs"):
            _refuse(path, text, (name,), f"{name}: there is no such table; a file has prices and costs")
    return Drafts(
        dict(_tables(path, text, document, "prices", lambda event, table: _price(event, table, limits))),
        dict(_tables(path, text, document, "costs", lambda event, table: _cost(event, table, limits))),
    )


def _tables(
    path: Path, text: str, document: Mapping[str, Any], name: str, draft_of: Callable[[str, Any], T]
) -> Iterator[tuple[str, T]]:
    tables = document.get(name, {})
    if not isinstance(tables, dict):
        _refuse(path, text, (name,), f"{name}: it must be a table")
    for event, table in tables.items():
        try:
            fields.event_name(event, flat_rate=True)
            yield event, draft_of(event, table)
        except InvalidRequest as refused:
            field = str(refused.facts.get("field", ""))
            where = () if field in ("event", "body") else re.split(r"[.\[\]]+", field.strip("]"))
            _refuse(path, text, (name, event, *where), f"{name}.{event}: {refused.message.removesuffix('.')}")


def _price(event: str, table: Any, limits: Limits) -> PriceDraft:
    price = _converted(table, PriceTable)
    if price.effective_at is not None and price.effective_at.tzinfo is None:
        raise InvalidRequest(
            "effective_at: a time with its offset, such as 2026-12-01T00:00:00Z.", field="effective_at"
        )
    request = price_route.PriceRequest(
        credits=price.credits,
        label=price.label,
        per_model=price.per_model,
        tiers=[price_route.TierRequest(up_to=tier.up_to, credits=tier.credits) for tier in price.tiers] or None,
        minimum=price.minimum,
        effective_at=None if price.effective_at is None else price.effective_at.isoformat(),
    )
    return price_route.draft_of(event, request, limits)


def _cost(event: str, table: Any, limits: Limits) -> CostDraft:
    cost = _converted(table, CostTable)
    return cost_route.draft_of(event, cost_route.CostRequest(cost_usd=cost.cost_usd, per_model=cost.per_model), limits)


def _converted(table: Any, shape: type[T]) -> T:
    if not isinstance(table, dict):
        raise InvalidRequest("it must be a table.", field="body")
    return convert(table, shape)


def _refuse(path: Path, text: str, names: Sequence[str], why: str) -> NoReturn:
    raise StartRefused(f"{path}, line {_line_of(text, names)}: {why}.")


def _line_of(text: str, names: Sequence[str]) -> int:
    """The line that first says something at a place in the document, or as near to it as there is anything.

    The library says no lines, so the text is read again, a line more each time, until the place is there.
    """
    lines = text.splitlines(keepends=True)
    found, deepest = 1, 0
    for number in range(1, len(lines) + 1):
        with contextlib.suppress(tomllib.TOMLDecodeError):  # it ends within a value
            depth = _depth(tomllib.loads("".join(lines[:number])), names)
            if depth > deepest:
                found, deepest = number, depth
            if depth == len(names):
                break
    return found


def _depth(document: Any, names: Sequence[str]) -> int:
    """How many of the names lead to something, one inside of the other."""
    for depth, name in enumerate(names):
        if isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return depth
    return len(names)


def differences(drafts: Drafts, there: InForce, now: int) -> list[Difference]:
    """What a file would change, by event; what it does not name stays.

    A file keeps its times when they have passed: a price whose time has come is compared with the one in force.

    Args:
        drafts: what the file says.
        there: what the ledger has.
        now: milliseconds since 1970.

    """
    found: list[Difference] = []
    for event, price in drafts.prices.items():
        in_force = there.prices.get(event)
        now_draft = None if in_force is None else _draft_of(in_force)
        if price.effective_at is None or price.effective_at <= now:
            is_there = now_draft == replace(price, effective_at=None)
        else:
            is_there = price in [_draft_of(one, to_come=True) for one in there.upcoming if one.event == event]
        if not is_there:
            found.append(Difference(price, None if now_draft is None else _told(now_draft), _told(price)))
    for event, cost in drafts.costs.items():
        known = there.costs.get(event)
        if known is None or (known.nanos, known.per_model) != (cost.nanos, cost.per_model):
            found.append(Difference(cost, None if known is None else _told_cost(known), _told_cost(cost)))
    return found


def _draft_of(price: PriceVersion, *, to_come: bool = False) -> PriceDraft:
    draft = PriceDraft(
        event=price.event,
        credits=price.credits,
        label=price.label,
        per_model=dict(price.per_model),
        tiers=price.tiers,
        minimum=price.minimum,
    )
    return replace(draft, effective_at=price.effective_at) if to_come else draft


def _told(price: PriceDraft) -> str:
    """A price in a line: `8 credits (Chat reply); gpt-5 20`."""
    parts = [f"{price.credits:,} credit{'' if price.credits == 1 else 's'} ({price.label})"]
    if price.tiers:
        steps = (f"{tier.credits:,} {f'up to {tier.up_to:,}' if tier.up_to else 'after that'}" for tier in price.tiers)
        parts.append(f"for each unit {', '.join(steps)}")
    if price.minimum:
        parts.append(f"{price.minimum:,} at least")
    parts += [f"{model} {credits:,}" for model, credits in sorted(price.per_model.items())]
    if price.effective_at is not None:
        parts.append(f"from {rfc3339(price.effective_at)} on")
    return "; ".join(parts)


def _told_cost(cost: CostDraft | CostVersion) -> str:
    parts = [] if cost.nanos is None else [f"${fields.dollars(cost.nanos)}"]
    return "; ".join(
        [*parts, *(f"{model} ${fields.dollars(nanos)}" for model, nanos in sorted(cost.per_model.items()))]
    )


def lines(there: InForce) -> list[str]:
    """What is in force and to come, a line each."""
    return [
        *(f"{price.event}: {_told(_draft_of(price))}" for price in there.prices.values()),
        *(f"{price.event}: {_told(_draft_of(price, to_come=True))}" for price in there.upcoming),
        *(f"cost of {cost.event}: {_told_cost(cost)}" for cost in there.costs.values()),
    ]


def written(there: InForce) -> str:
    """A file that says what is in force; of prices to come it has a comment each."""
    document = {
        "prices": {price.event: _price_table(price) for price in there.prices.values()},
        "costs": {cost.event: _cost_table(cost) for cost in there.costs.values()},
    }
    to_come = "".join(
        f"# to come: {price.event}: {_told(_draft_of(price, to_come=True))}\n" for price in there.upcoming
    )
    return to_come + tomli_w.dumps({name: tables for name, tables in document.items() if tables})


def _price_table(price: PriceVersion) -> dict[str, Any]:
    table: dict[str, Any] = {"credits": price.credits, "label": price.label}
    if price.minimum:
        table["minimum"] = price.minimum
    if price.per_model:
        table["per_model"] = dict(price.per_model)
    if price.tiers:
        table["tiers"] = [
            {name: value for name, value in asdict(tier).items() if value is not None} for tier in price.tiers
        ]
    return table


def _cost_table(cost: CostVersion) -> dict[str, Any]:
    table: dict[str, Any] = {} if cost.nanos is None else {"cost_usd": fields.dollars(cost.nanos)}
    if cost.per_model:
        table["per_model"] = {model: fields.dollars(nanos) for model, nanos in cost.per_model.items()}
    return table
