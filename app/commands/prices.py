"""`chargly prices`: what actions cost, listed, set, written out and imported; beside a running server or not."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from app.commands.console import AsJSON, counted, note, say, show, with_database
from app.config import Config, load
from app.errors import StartRefused
from app.store.catalogue import CatalogueStore, PriceDraft
from app.store.costs import CostDraft, CostStore
from app.store.db import Database
from app.store.ids import now_ms
from app.store.migrate import ledger_name

if TYPE_CHECKING:
    from app.commands.price_file import Difference, InForce

prices = typer.Typer(help="Prices and costs: listed, set, written out, imported.", no_args_is_help=True)

_ACTOR = "chargly prices"


@prices.command("list")
def prices_list(*, as_json: AsJSON = False) -> None:
    """List what actions cost now, and the prices to come."""
    from app.api.costs import cost_answer
    from app.api.prices import price_answer
    from app.commands.price_file import lines

    config = load()
    there = with_database(lambda db: _in_force(db, config))
    fields = {
        "prices": [price_answer(price, "in_force") for price in there.prices.values()],
        "upcoming": [price_answer(price, "scheduled") for price in there.upcoming],
        "costs": [cost_answer(cost) for cost in there.costs.values()],
        "ledger": ledger_name(config),
    }
    show(msgspec.to_builtins(fields), "\n".join(lines(there)), as_json=as_json)
    if not as_json:
        note(f"Prices of the ledger {ledger_name(config)}.")


@prices.command("set")
def prices_set(
    event: Annotated[str, typer.Argument(help="The event's name, or '*' for names without a price of their own.")],
    credits: Annotated[int, typer.Argument(min=0, help="For one unit.")],
    label: Annotated[str | None, typer.Option(help="What customers read.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="NAME=CREDITS", help="For one unit of a model.")] = None,
    minimum: Annotated[int | None, typer.Option(min=0, help="What an action costs at least.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="From when on, such as 2026-12-01T00:00:00Z.")] = None,
    *,
    as_json: AsJSON = False,
) -> None:
    """Make a new version of a price. Its label, models and minimum stay where they are not named; tiers end."""
    from app.api.bodies import convert
    from app.api.fields import event_name
    from app.api.prices import PriceRequest, draft_of, price_answer

    config = load()
    event_name(event, flat_rate=True)
    models = dict(_model(text) for text in model or ())

    async def put(db: Database) -> dict[str, Any]:
        there = await _in_force(db, config)
        now = there.prices.get(event)
        fields = {
            "credits": credits,
            "label": label or (now.label if now else None),
            "per_model": (dict(now.per_model) if now else {}) | models,
            "minimum": minimum if minimum is not None else now.minimum if now else 0,
            "effective_at": at,
        }
        asked = convert(fields, PriceRequest)
        draft = draft_of(event, asked, config.limits)
        made = await CatalogueStore(db, config.limits).put_price(draft, actor=_ACTOR)
        answer: dict[str, Any] = msgspec.to_builtins(price_answer(made, "scheduled" if at else "in_force"))
        return answer

    made = with_database(put)
    text = (
        f"{event} costs {counted(made['credits'], 'credit')} from {made['effective_at']} on: version {made['version']}."
    )
    show(made | {"ledger": ledger_name(config)}, text, as_json=as_json)


@prices.command("export")
def prices_export(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file, instead of standard output.")] = None,
) -> None:
    """Write out the prices and costs in force as TOML, which `import` takes."""
    from app.commands.new_file import new_file
    from app.commands.price_file import written

    config = load()
    text = written(with_database(lambda db: _in_force(db, config)))
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with new_file(out, keep_empty=True) as file:
            file.write(text.encode())
    except OSError as error:
        raise StartRefused(f"The prices could not be written to {out}: {error.strerror}.") from error


@prices.command("import")
def prices_import(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, and say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Make the prices and costs of a TOML file new versions, all or none; what it does not name stays.

    What would change is shown first, and asked for on a terminal.
    """
    from app.commands.price_file import differences, read

    config = load()
    drafts = read(file, config.limits)
    there = with_database(lambda db: _in_force(db, config))
    found = differences(drafts, there, now_ms())
    if not as_json:
        for one in found:
            say(one.sentence)
    if found and not dry_run:
        if not yes and not as_json and sys.stdin.isatty() and not typer.confirm("Make these changes?"):
            raise StartRefused("Nothing was changed.")
        with_database(lambda db: _put(db, config, found, there))
    known = len(drafts.prices) + len(drafts.costs) - len(found)
    verb = "would change" if dry_run else "changed"
    changes = [{"kind": one.kind, "event": one.draft.event, "now": one.now, "then": one.then} for one in found]
    fields = {"changes": changes, "unchanged": known, "dry_run": dry_run, "ledger": ledger_name(config)}
    show(fields, f"{len(found):,} {verb}, {known:,} unchanged, in {ledger_name(config)}.", as_json=as_json)


def _model(text: str) -> tuple[str, int]:
    """A model and its credits out of `NAME=CREDITS`."""
    name, _, credits = text.rpartition("=")
    if not name or not credits.isascii() or not credits.isdigit() or len(credits) > 18:
        raise typer.BadParameter(f"--model {text!r}: a model and its credits, such as gpt-5=20.")
    return name, int(credits)


async def _in_force(db: Database, config: Config) -> "InForce":
    from app.commands.price_file import InForce

    catalogue = CatalogueStore(db, config.limits)
    generation = (await catalogue.fresh()).generation
    in_force, upcoming = await catalogue.prices()
    costs = await CostStore(db, catalogue, config.limits).costs()
    return InForce(
        generation, {price.event: price for price in in_force}, upcoming, {cost.event: cost for cost in costs}
    )


async def _put(db: Database, config: Config, found: "list[Difference]", there: "InForce") -> None:
    """Makes the new versions; where somebody has changed one since they were compared, none."""
    drafts = [one.draft for one in found]
    await CostStore(db, CatalogueStore(db, config.limits), config.limits).put_all(
        [draft for draft in drafts if isinstance(draft, PriceDraft)],
        [draft for draft in drafts if isinstance(draft, CostDraft)],
        seen_generation=there.generation,
        actor=_ACTOR,
    )
