"""The customers of a Stripe account."""

from typing import Any

from app.demo.stripe_objects import StripeObject, customer, new_id
from app.demo.stripe_parameters import Form, check_metadata
from app.demo.stripe_record import Record
from app.demo.stripe_refusal import no_such


class Customers:
    """Makes customers and finds them."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def named(self, id: str) -> StripeObject:
        """The customer that a parameter names.

        Raises:
            StripeRefusal: there is none, or none any more.

        """
        found = self._record.get("customer", id, param="customer")
        if found.get("deleted"):
            raise no_such("customer", id, param="customer")
        return found

    def add(self, **fields: Any) -> StripeObject:
        """A new customer, with a new id unless one is given."""
        made = self._record.add(customer(**{"id": new_id("cus"), "created": self._record.now, **fields}))
        self._record.tell("customer.created", made)
        return made

    def create(self, form: Form, _: str) -> StripeObject:
        """A new customer of a form."""
        names = ("email", "name", "description")
        return self.add(metadata=check_metadata(form), **{name: form.get(name) for name in names})

    def update(self, form: Form, id: str) -> StripeObject:
        """Changes what a form names; an empty value of the metadata removes it."""
        found = self.named(id)
        found.update({name: form[name] or None for name in ("email", "name", "description") if name in form})
        found["metadata"] |= check_metadata(form)
        found["metadata"] = {name: value for name, value in found["metadata"].items() if value}
        self._record.tell("customer.updated", found)
        return found

    def delete(self, id: str) -> None:
        """Deletes a customer, whose id stays known; their payment methods belong to nobody."""
        found = self.named(id)
        self._record.tell("customer.deleted", found)
        found.clear()
        found.update(id=id, object="customer", deleted=True)
        for method in self._record.of("payment_method", customer=id):
            method["customer"] = None
