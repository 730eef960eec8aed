"""What a member sees of customers: all of it, or names and addresses masked."""

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer
from loyalpro.web.dashboard.formats import masked, tail
from loyalpro.web.dashboard.visits import Visit


@record
class Eyes:
    """How a member sees customers. `in_full`: nothing is masked."""

    in_full: bool

    def text(self, value: str | None) -> str | None:
        """A name or an address."""
        return value if value is None or self.in_full else masked(value)

    def name(self, customer: Customer) -> str:
        """What a page calls a customer: its name, or else what is known of it."""
        known = customer.name or customer.external_id or customer.email or customer.phone
        return (self.text(known) or tail(customer.id)) if known else tail(customer.id)


def eyes_of(visit: Visit) -> Eyes:
    """How the visitor sees customers."""
    return Eyes("customers.see_full" in ROLES[visit.member.membership.role])
