"""What fraud rules need of a unit of work beyond what every command of the program needs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.fraud.cases import CaseStatus, FraudCase
from loyalpro.loyalty.fraud.measure import Credit, Moment, PastEvent, PurchaseFact, SeenCustomer, Sighting
from loyalpro.loyalty.fraud.rules import Rule
from loyalpro.loyalty.ports import LoyaltyUnit

CaseKey = tuple[str, bytes]
"""The code of a rule, and the hash of what a case of it is about."""

PastRow = tuple[str, PastEvent]
"""The id of what was recorded, by which the next page begins, and what it was."""

HeldLot = tuple[str, str]
"""The id of a case, and the id of a lot that it holds."""


class FraudStore(Protocol):
    """Rules, cases, and what rules are measured with. Collections have at least one element, except where they are written."""

    def changed_rules(self, account_id: str) -> Sequence[Rule[Any]]:
        """The rules of an account that differ from the defaults, or did."""
        ...

    def store_rule(self, account_id: str, rule: Rule[Any], now: UnixMs) -> None:
        """Store a rule whose version is one more than the stored one. Raises `Conflict` `fraud_rule_changed` if it is not."""
        ...

    def newest_purchases(
        self, since: Mapping[str, UnixMs], limit: int, clock_skew: int
    ) -> Mapping[str, Sequence[PurchaseFact]]:
        """Of each customer the newest purchases since its instant, newest first, at most `limit`.

        `clock_skew`: how far the clock of a caller may be ahead, in milliseconds.
        """
        ...

    def seen(
        self, account_id: str, sightings: Collection[Sighting], since: UnixMs, limit: int
    ) -> Mapping[Sighting, Sequence[SeenCustomer]]:
        """Of each value the active customers with whom it was seen after `since`, at most `limit`."""
        ...

    def note_seen(self, account_id: str, seen: Collection[tuple[Sighting, SeenCustomer]], now: UnixMs) -> None:
        """Store that values were seen with customers."""
        ...

    def forget_seen(self, before: UnixMs, limit: int) -> int:
        """Remove what was last seen before an instant; return how many values."""
        ...

    def newest_redemptions(self, customer_id: str, limit: int) -> Sequence[Moment]:
        """A customer's newest redemptions, newest first."""
        ...

    def count_purchases(self, customer_id: str, since: UnixMs, limit: int, clock_skew: int) -> int:
        """How many purchases a customer made since an instant, refunded ones included; at most `limit` are counted."""
        ...

    def newest_credits(self, account_id: str, actor: str, since: UnixMs, limit: int) -> Sequence[Credit]:
        """The newest credits by hand of an actor after an instant, newest first, with the ids of the adjustments."""
        ...

    def latest_cases(self, account_id: str, keys: Collection[CaseKey]) -> Mapping[CaseKey, FraudCase]:
        """The latest case of each key that has one."""
        ...

    def open_case(self, case: FraudCase) -> bool:
        """Store a new case. False when another transaction has opened one for its rule and key."""
        ...

    def add_hits(self, cases: Sequence[tuple[FraudCase, int]]) -> None:
        """Add so many hits to each open case, and store its evidence and what it shows of its rule."""
        ...

    def lock_open(self, case_id: str) -> bool:
        """Keep a case from being closed before this transaction ends. False when it is closed already."""
        ...

    def hold(self, held: Sequence[HeldLot]) -> None:
        """Store which cases hold which lots."""
        ...

    def get_case(self, account_id: str, case_id: str, *, lock: bool = False) -> FraudCase | None:
        """One case; `lock`: nothing else changes it before this transaction ends."""
        ...

    def list_cases(
        self,
        account_id: str,
        status: CaseStatus | None,
        rule_code: str | None,
        customer_id: str | None,
        before_id: str | None,
        limit: int,
    ) -> Sequence[FraudCase]:
        """Cases, newest first."""
        ...

    def close_case(self, case: FraudCase) -> None:
        """Store the end of a case that was open."""
        ...

    def lots_held_by(self, case_id: str, limit: int) -> Mapping[str, str]:
        """Lots that a case holds, by id, in the order of their ids, with the customer of each."""
        ...

    def holders_of(self, lot_ids: Collection[str]) -> Mapping[str, Sequence[str]]:
        """The ids of the cases that hold each of these lots, in their order."""
        ...

    def let_go(self, held: Collection[HeldLot]) -> None:
        """Remove which cases hold which lots."""
        ...

    def settled(self, case_id: str) -> None:
        """Store that a closed case holds no lot."""
        ...

    def cases_to_settle(self, limit: int) -> Sequence[FraudCase]:
        """Closed cases that still hold lots."""
        ...

    def cases_to_lapse(self, last_hit: UnixMs, limit: int) -> Sequence[FraudCase]:
        """Open cases whose last hit was at an instant or before it."""
        ...

    def past_purchases(self, account_id: str, after: UnixMs | str, limit: int) -> Sequence[PastRow]:
        """Purchases that were recorded since an instant, or after the id of one, oldest first."""
        ...

    def past_redemptions(self, account_id: str, after: UnixMs | str, limit: int) -> Sequence[PastRow]:
        """The same for redemptions."""
        ...

    def past_refunds(self, account_id: str, after: UnixMs | str, limit: int) -> Sequence[PastRow]:
        """The same for refunds."""
        ...

    def past_credits(self, account_id: str, after: UnixMs | str, limit: int) -> Sequence[PastRow]:
        """The same for credits by hand. Their ids are those of their entries."""
        ...

    def hash_key(self, account_id: str) -> bytes:
        """The key of an account for keyed hashes; it is made when it is needed for the first time."""
        ...


class FraudUnit(LoyaltyUnit, Protocol):
    """The unit of work of a command that fraud rules are evaluated in."""

    @property
    def fraud(self) -> FraudStore:
        """Fraud rules, cases, and what rules are measured with."""
        ...
