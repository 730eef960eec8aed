"""Counts how often a rule would have fired in the past, with parameters that are not in force.

The events of the last days are judged in their order, each against those before it, by the same functions as when they happen.
What the database does not keep cannot be judged: e-mail addresses and phone numbers that customers had, and when they changed,
except for the last time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from heapq import merge
from itertools import islice
from typing import Any, Final

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import Day, day_of
from loyalpro.loyalty.fraud.cases import hash_of_key
from loyalpro.loyalty.fraud.judgment import (
    Finding,
    judge_credit,
    judge_purchase,
    judge_redemption,
    judge_refund,
)
from loyalpro.loyalty.fraud.measure import (
    Credit,
    Moment,
    NewPurchase,
    NewRedemption,
    NewRefund,
    PastEvent,
    PurchaseFact,
    SeenCustomer,
    Sighting,
    Spending,
)
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.rule_changes import RuleChange, changed_rule, fraud_rules
from loyalpro.loyalty.fraud.rules import Rule, RuleSet

MOST_DAYS: Final = 90
MOST_EXAMINED: Final = 50_000
"""How many events one backtest judges at most."""

_PAGE: Final = 1_000
_EXAMPLES: Final = 20
_WARM_UP_DAYS: Final = 90
"""So much of the past before the first judged day is counted, unless the rule looks back further."""


@record
class BacktestRule:
    """A rule to try on the last days. `change`: the parameters that differ from those in force."""

    account_id: str
    change: RuleChange
    days: int


@record
class Example:
    """An event that would have set the rule off."""

    at: UnixMs
    finding: Finding


@record
class Backtested:
    """What the rule would have found: how many events it judged, how many set it off, and how many cases that makes.

    `is_complete`: False when there were more events than a backtest judges; then the latest ones are missing.
    """

    rule: Rule[Any]
    since: UnixMs
    examined: int
    hits: int
    cases: int
    is_complete: bool
    examples: tuple[Example, ...] = field(hash=False)


def backtest_rule(unit: FraudUnit, command: BacktestRule) -> Backtested:
    """Try a rule on the past. Nothing is changed. Raises `NotFound` for an unknown code, `InvalidInput` for a parameter."""
    account_id, now = command.account_id, unit.now
    rules = fraud_rules(unit, account_id)
    rule = replace(changed_rule(rules.rule(command.change.code), command.change), enabled=True)
    only = RuleSet(account_id, [*(replace(each, enabled=False) for each in rules.all if each.code != rule.code), rule])
    replay = _Replay(only, unit.programs.get(account_id).rules.time_zone)
    since = now - command.days * MS_PER_DAY
    past = _past(unit, account_id, rule, since - _looks_back(rule))
    events = list(islice(past, MOST_EXAMINED + 1))
    examined = 0
    found: list[Example] = []
    for each in events[:MOST_EXAMINED]:
        findings = replay.judged(each)
        if each.at >= since:
            examined += 1
            found += [Example(each.at, finding) for finding in findings]
    return Backtested(
        rule,
        since,
        examined,
        hits=len(found),
        cases=len({hash_of_key(each.finding) for each in found}),
        is_complete=len(events) <= MOST_EXAMINED,
        examples=tuple(found[:_EXAMPLES]),
    )


def _looks_back(rule: Rule[Any]) -> int:
    """How much of the past before an event the rule may count, in milliseconds."""
    params = rule.params
    return max(_WARM_UP_DAYS * MS_PER_DAY, getattr(params, "window", 0), getattr(params, "long_window", 0))


def _past(unit: FraudUnit, account_id: str, rule: Rule[Any], since: UnixMs) -> Iterator[PastEvent]:
    """The events that a rule judges or counts, oldest first."""
    store, code = unit.fraud, rule.code
    if code in ("velocity.redeem", "account.change_then_redeem", "dormant.burst"):
        return _pages(lambda after: store.past_redemptions(account_id, after, _PAGE), since)
    if code == "employee.adjustments":
        return _pages(lambda after: store.past_credits(account_id, after, _PAGE), since)
    purchases = _pages(lambda after: store.past_purchases(account_id, after, _PAGE), since)
    if not code.startswith("refund."):
        return purchases
    refunds = _pages(lambda after: store.past_refunds(account_id, after, _PAGE), since)
    return merge(purchases, refunds, key=lambda each: each.at)


def _pages(read: Callable[[UnixMs | str], Sequence[tuple[str, PastEvent]]], since: UnixMs) -> Iterator[PastEvent]:
    after: UnixMs | str = since
    while page := read(after):
        yield from (event for _, event in page)
        after = page[-1][0]


class _Replay:
    """Satisfies `Measures` with the events that were judged before."""

    def __init__(self, rules: RuleSet, time_zone: str) -> None:
        self._rules = rules
        self._time_zone = time_zone
        self._purchases: defaultdict[str, list[PurchaseFact]] = defaultdict(list)
        self._points: defaultdict[tuple[str, Day], int] = defaultdict(int)
        self._seen: defaultdict[Sighting, dict[str, tuple[UnixMs, SeenCustomer]]] = defaultdict(dict)
        self._redemptions: defaultdict[str, list[Moment]] = defaultdict(list)
        self._credits: defaultdict[str, list[tuple[UnixMs, Credit]]] = defaultdict(list)
        self._refunds: defaultdict[str, list[PastEvent]] = defaultdict(list)

    def judged(self, past: PastEvent) -> list[Finding]:
        """What an event sets off, given those before it. From now on it counts for later ones."""
        event, at, zone = past.event, past.at, self._time_zone
        if isinstance(event, NewPurchase):
            found = judge_purchase(self._rules, event, self, at, zone)
            self._note_purchase(event, at)
        elif isinstance(event, NewRedemption):
            found = judge_redemption(self._rules, event, self, at)
            self._redemptions[event.customer_id].append(Moment(event.id, at))
        elif isinstance(event, NewRefund):
            self._refunds[event.customer_id].append(past)
            found = judge_refund(self._rules, event, self, at, zone)
        else:
            found = judge_credit(self._rules, event, self, at, zone)
            self._credits[event.actor].append((at, Credit(event.id, event.points)))
        return found

    def _note_purchase(self, purchase: NewPurchase, at: UnixMs) -> None:
        fact = purchase.fact
        self._purchases[fact.customer_id].append(fact)
        self._points[fact.customer_id, self._day(fact.occurred_at)] += fact.points
        for each in purchase.sightings:
            self._seen[each][fact.customer_id] = (at, SeenCustomer(fact.customer_id, fact.id))

    def _day(self, at: UnixMs) -> Day:
        return day_of(at, self._time_zone)

    # -- Measures ----------------------------------------------------------------------------------------------------

    def purchases_of(self, customer_id: str) -> Sequence[PurchaseFact]:
        """The customer's newest purchases, newest first."""
        return list(islice(reversed(self._purchases[customer_id]), 200))

    def points_on(self, customer_id: str, day: Day) -> int:
        """The points that a customer's purchases of a local day earned."""
        return self._points[customer_id, day]

    def seen(self, sighting: Sighting, since: UnixMs) -> Sequence[SeenCustomer]:
        """Customers with whom a value was seen after `since`."""
        return [customer for at, customer in self._seen[sighting].values() if at > since]

    def redemptions_of(self, customer_id: str, count: int) -> Sequence[Moment]:
        """The customer's newest redemptions, newest first."""
        return list(islice(reversed(self._redemptions[customer_id]), count))

    def spending_of(self, customer_id: str, first_day: Day) -> Spending:
        """What a customer bought from a local day on, and what was returned of it."""
        bought = [each for each in self._purchases[customer_id] if self._day(each.occurred_at) >= first_day]
        returned = [each for each in self._refunds[customer_id] if self._day(each.bought_at) >= first_day]
        gross, refunded = sum(each.base_amount for each in bought), sum(each.refunded for each in returned)
        return Spending(len(bought), gross, refunded)

    def credits_by(self, actor: str, since: UnixMs, count: int) -> Sequence[Credit]:
        """The newest credits by hand of an actor after `since`, newest first."""
        return list(islice((each for at, each in reversed(self._credits[actor]) if at > since), count))
