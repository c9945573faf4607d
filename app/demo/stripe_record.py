"""What a Stripe account holds: objects by kind and id, and the events about them, as many of each as are kept."""

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from app.demo.stripe_objects import StripeObject, event, list_of, new_id
from app.demo.stripe_parameters import Form, whole
from app.demo.stripe_refusal import bad_form, no_such

_LIMIT: Final = 10
_LIMIT_MAX: Final = 100
_EXPAND_DEPTH_MAX: Final = 4
_TYPES_MAX: Final = 20
_BY: Final[dict[str, Callable[[int, int], bool]]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}
_PARTS: Final = {
    ("charge", "refunds"): ("refund", "charge", "/v1/charges/{id}/refunds"),
    ("invoice", "payments"): ("invoice_payment", "invoice", "/v1/invoice_payments"),
}
"""What an object has only where it is asked for: the kind, its field that names the object, and where it lies."""


class Record:
    """Keeps objects and events, and answers what a list or an expansion asks."""

    def __init__(self, clock: Callable[[], float], told: Callable[[StripeObject], None], kept_max: int) -> None:
        self._clock = clock
        self._told = told
        self._kept_max = kept_max
        self._kinds: dict[str, OrderedDict[str, StripeObject]] = {}
        self._line_items: OrderedDict[str, list[StripeObject]] = OrderedDict()
        self._then: int | None = None
        self._is_quiet = False
        self.request: dict[str, str | None] = {"id": None, "idempotency_key": None}
        """The call that is being carried out, which its events name."""

    @property
    def now(self) -> int:
        """The account's time in seconds."""
        return int(self._clock()) if self._then is None else self._then

    @contextlib.contextmanager
    def quiet(self, at: int | None = None) -> Iterator[None]:
        """What happens meanwhile happened before, at a time where one is given, and nobody is told of it."""
        self._then, self._is_quiet = at, True
        try:
            yield
        finally:
            self._then, self._is_quiet = None, False

    def add(self, made: StripeObject) -> StripeObject:
        """Keeps an object, and forgets the oldest of its kind where there are too many."""
        kind = self._kinds.setdefault(made["object"], OrderedDict())
        kind[made["id"]] = made
        if len(kind) > self._kept_max:
            kind.popitem(last=False)
        return made

    def find(self, kind: str, id: str | None) -> StripeObject | None:
        """The object itself, not a copy."""
        kept = self._kinds.get(kind)
        return kept.get(id or "") if kept else None

    def get(self, kind: str, id: str, *, param: str = "id") -> StripeObject:
        """The object itself.

        Raises:
            StripeRefusal: there is none; it names the parameter that the id came in.

        """
        found = self.find(kind, id)
        if found is None:
            raise no_such(kind, id, param=param)
        return found

    def any(self, id: str) -> StripeObject | None:
        """The object of an id, whatever it is."""
        return next((kind[id] for kind in self._kinds.values() if id in kind), None)

    def of(self, kind: str, **fields: Any) -> list[StripeObject]:
        """The objects of a kind with these values, newest first."""
        made = reversed(self._kinds.get(kind, OrderedDict()).values())
        return [one for one in made if all(one.get(name) == value for name, value in fields.items())]

    def tell(self, kind: str, about: StripeObject, **previous: Any) -> None:
        """Makes an event about an object as it is now; `previous` is what had other values."""
        if self._is_quiet:
            return
        data = {"object": copy.deepcopy(about)} | ({"previous_attributes": previous} if previous else {})
        made = event(id=new_id("evt"), created=self.now, type=kind, data=data, request=dict(self.request))
        self._told(copy.deepcopy(self.add(made)))

    def page(self, kind: str, path: str, form: Form, filters: Sequence[str]) -> StripeObject:
        """A page of a kind, newest first.

        Raises:
            StripeRefusal: it is no page, or begins after an object that is not there.

        """
        limit = whole(form, "limit", least=1)
        if limit is not None and limit > _LIMIT_MAX:
            raise bad_form(
                "parameter_invalid_integer", f"This value must be less than or equal to {_LIMIT_MAX}.", "limit"
            )
        limit = limit or _LIMIT
        wanted = {name: form[name] for name in filters if name in form}
        fits = [one for one in self.of(kind) if _fits(one, wanted) and _made_within(one, form) and _of_type(one, form)]
        ids = [one["id"] for one in fits]
        for name in ("starting_after", "ending_before"):
            if name in form and form[name] not in ids:
                raise no_such(kind, form[name], param=name)
        if "ending_before" in form:
            before = ids.index(form["ending_before"])
            return list_of(fits[max(0, before - limit) : before], path, has_more=before > limit)
        start = ids.index(form["starting_after"]) + 1 if "starting_after" in form else 0
        return list_of(fits[start : start + limit], path, has_more=len(fits) > start + limit)

    def keep_line_items(self, session_id: str, items: Iterable[StripeObject]) -> None:
        """What was bought in a session, which it shows only where it is asked to."""
        self._line_items[session_id] = list(items)
        if len(self._line_items) > self._kept_max:
            self._line_items.popitem(last=False)

    def description(self, session_id: str) -> str:
        """What was bought in a session."""
        return ", ".join(str(item["description"]) for item in self._line_items.get(session_id, []))

    def expanded(self, answer: StripeObject, form: Form) -> StripeObject:
        """A copy of an answer, with the objects in place of the ids that `expand` names.

        Raises:
            StripeRefusal: there is nothing to expand.

        """
        answer = copy.deepcopy(answer)
        for path in (form.get("expand") or {}).values():
            steps = path.split(".")
            if len(steps) > _EXPAND_DEPTH_MAX:
                raise bad_form("parameter_invalid", "Expansion is limited to four levels.", "expand")
            self._expand(answer, steps, path)
        return answer

    def _expand(self, node: StripeObject, steps: Sequence[str], path: str) -> None:
        step, rest = steps[0], steps[1:]
        if node.get("object") == "list" and step == "data":
            for one in node["data"]:
                self._expand(one, rest, path)
            return
        found = self._part(node, step)
        if found is None and node.get(step, "") is None:
            return
        if found is None:
            raise bad_form("parameter_invalid", f"This property cannot be expanded ({path}).", "expand")
        node[step] = found
        if rest:
            self._expand(found, rest, path)

    def _part(self, node: StripeObject, name: str) -> StripeObject | None:
        kind, id = node.get("object", ""), node.get("id", "")
        if (kind, name) == ("checkout.session", "line_items"):
            return list_of(copy.deepcopy(self._line_items.get(id, [])), f"/v1/checkout/sessions/{id}/line_items")
        if (kind, name) in _PARTS:
            of, by, url = _PARTS[kind, name]
            return list_of(copy.deepcopy(self.of(of, **{by: id})[:_LIMIT]), url.format(id=id))
        value = node.get(name)
        if isinstance(value, dict):
            return value
        return copy.deepcopy(self.any(value)) if isinstance(value, str) else None


def _fits(one: StripeObject, wanted: dict[str, Any]) -> bool:
    def value(name: str) -> Any:
        if name == "subscription":  # an invoice has it deeper down
            return ((one.get("parent") or {}).get("subscription_details") or {}).get(name)
        return one.get(name)

    return all(
        all(value(name).get(inner) == one_wanted for inner, one_wanted in given.items())
        if isinstance(given, dict)
        else value(name) == given
        for name, given in wanted.items()
    )


def _made_within(one: StripeObject, form: Form) -> bool:
    given = form.get("created", {})
    if not isinstance(given, dict):
        return bool(one["created"] == whole(form, "created"))
    bounds = ((_BY[by], whole(given, by)) for by in given)
    return all(by(one["created"], bound) for by, bound in bounds if bound is not None)


def _of_type(one: StripeObject, form: Form) -> bool:
    if one["object"] != "event":
        return True
    kind, kinds = form.get("type"), list((form.get("types") or {}).values())
    if (kind is not None and kinds) or len(kinds) > _TYPES_MAX:
        raise bad_form("parameter_invalid", f"Give type, or at most {_TYPES_MAX} types.", "types")
    wanted = kinds if kind is None else [kind]
    return not wanted or any(_matches(pattern, one["type"]) for pattern in wanted)


def _matches(pattern: str, kind: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern
