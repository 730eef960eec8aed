"""Opening balances: what customers had in another program, as lots with the dates on which they were earned and expire."""

from collections.abc import Sequence
from typing import Final, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import derived
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.expiry import expires_at
from loyalpro.loyalty.ledger import Entry
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.wallet import Adjustment, Cause, Credit, Wallet

OPENING_BALANCE: Final = "opening_balance"
"""The reason of the entries."""


@record
class OpeningBalance:
    """Points that a customer had. Exactly one of the two customer ids is given.

    `earned_at` None: now. `expires_at` None: as the program's policy says for `earned_at`. `external_id` None: the customer and
    `expires_at` identify the balance, or the customer and `earned_at` without `expires_at`.
    """

    customer_id: str | None
    customer_external_id: str | None
    external_id: str | None
    points: int
    earned_at: UnixMs | None
    expires_at: UnixMs | None


@record
class SetOpeningBalances:
    """Opening balances of one account, in this order. `counts_toward_tier`: on the day on which the points were earned."""

    account_id: str
    balances: Sequence[OpeningBalance]
    counts_toward_tier: bool = False


Outcome = Literal["done", "unchanged"]


def set_opening_balances(unit: LoyaltyUnit, command: SetOpeningBalances) -> list[Outcome | Refused]:
    """Give each customer its points, once: an entry `import` and a lot. Emits `points.adjusted`, kind `import`.

    The result has an outcome for each balance, in their order. A refused one changes nothing, and does not stop the others.
    `Conflict` `balance_exists`: the same balance was set with other points or another date.
    """
    setting = _Setting(unit, command)
    outcomes = [setting.outcome(each) for each in command.balances]
    setting.book.write()
    return outcomes


class _Setting:
    """The balances of one command, against the customers that they name and the balances that were set before."""

    def __init__(self, unit: LoyaltyUnit, command: SetOpeningBalances) -> None:
        balances, account_id = command.balances, command.account_id
        self.book = Book(
            unit,
            account_id,
            ids={each.customer_id for each in balances if each.customer_id is not None},
            external_ids={each.customer_external_id for each in balances if each.customer_external_id is not None},
        )
        unit.is_import = True
        self._unit = unit
        self._command = command
        self._rules = self.book.program.rules
        named = [(each, wallet) for each in balances if (wallet := self._find(each)) is not None]
        sources = {self._source(each, wallet) for each, wallet in named}
        known = unit.ledger.entries_of_sources(sources) if sources else []
        self._known = {each.source_id: each for each in known if each.type == "import"}

    def outcome(self, balance: OpeningBalance) -> Outcome | Refused:
        """Set one balance, or tell why not."""
        try:
            return self._set(balance)
        except Refused as refusal:
            return refusal

    def _set(self, balance: OpeningBalance) -> Outcome:
        """Every check that may refuse the balance comes before the first change."""
        wallet = self._wallet(balance)
        earned_at = self._unit.now if balance.earned_at is None else balance.earned_at
        if earned_at > self._unit.now:
            raise InvalidInput("earned_at is in the future.", code="invalid_field", param="earned_at")
        source_id = self._source(balance, wallet)
        known = self._known.get(source_id)
        if known is not None:
            return _unchanged(known, balance, wallet)
        wallet.require_capacity(balance.points, param="points")
        counts = self._command.counts_toward_tier
        cause = Cause("import", source_id, self._unit.actor, earned_at, OPENING_BALANCE)
        wallet.give(
            Credit(balance.points, self._expires_at(balance, earned_at)),
            Adjustment("import", counts_toward_tier=counts),
            cause,
        )
        self._known[source_id] = pull(each for each in wallet.entries if each.source_id == source_id)
        if counts:
            self.book.tiers.upgrade(wallet)
        return "done"

    def _find(self, balance: OpeningBalance) -> Wallet | None:
        if balance.customer_id is not None:
            return self.book.wallet(balance.customer_id)
        return self.book.wallet_by_external_id(balance.customer_external_id or "")

    def _wallet(self, balance: OpeningBalance) -> Wallet:
        wallet = self._find(balance)
        if wallet is None:
            param = "customer_external_id" if balance.customer_id is None else "customer_id"
            raise NotFound(
                f"There is no customer with this {param}; enroll it first.", code="customer_not_found", param=param
            )
        return wallet

    def _expires_at(self, balance: OpeningBalance, earned_at: UnixMs) -> UnixMs:
        if balance.expires_at is not None:
            return balance.expires_at
        return expires_at(self._rules.expiry, earned_at, self._rules.time_zone)

    def _source(self, balance: OpeningBalance, wallet: Wallet) -> str:
        """The id of a balance: the same whenever it is set."""
        if balance.external_id is not None:
            return derived("imp", self._command.account_id, "row", balance.external_id)
        if balance.expires_at is not None:
            return derived("imp", wallet.id, "expires", str(balance.expires_at))
        return derived("imp", wallet.id, "earned", str(balance.earned_at))


def _unchanged(known: Entry, balance: OpeningBalance, wallet: Wallet) -> Outcome:
    same_date = balance.earned_at is None or balance.earned_at == known.occurred_at
    if (known.customer_id, known.points) == (wallet.id, balance.points) and same_date:
        return "unchanged"
    raise Conflict(
        f"The opening balance of {known.customer_id} is {known.points} already. To correct it, adjust the customer's points; "
        "to add another one, give each row an external_id.",
        code="balance_exists",
        param="external_id" if balance.external_id is not None else "points",
    )
