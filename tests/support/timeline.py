"""An account with customers on a database, and a clock that a test moves."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import UnixMs, VirtualClock, rfc3339, unix_ms
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.unit_of_work import SYSTEM
from loyalpro.loyalty.customers import EnrollCustomer, GetCustomer, enroll_customer, get_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ledger import discrepancies
from loyalpro.loyalty.program import Program, default_program
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.sweeps.schedule import loyalty_sweeps
from loyalpro.loyalty.tiers import Tier, TierPolicy
from loyalpro.storage.database import Database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork
from support.customers import purchase
from support.history import ACCOUNT, VAULT, query, transaction
from support.jobs import opened
from support.units import wake_nothing

T = TypeVar("T")


def instant(text: str) -> UnixMs:
    """An RFC 3339 time."""
    return unix_ms(datetime.fromisoformat(text))


class Timeline:
    """The account `ACCOUNT` with the default program. Each call is one transaction at the time of the clock."""

    def __init__(self, url: str, start: str = "2026-11-28T10:00Z", seed: int = 1) -> None:
        self.url = url
        self.clock = VirtualClock(instant(start))
        rng = random.Random(seed)
        self.tools = Tools(self.clock, IdFactory(self.clock, rng), VAULT, rng.randbytes)

    def open_account(self, account_id: str = ACCOUNT) -> "Timeline":
        """Store the account and its program."""

        def work(unit: UnitOfWork) -> None:
            unit.connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1)", (account_id,))
            unit.programs.insert(account_id, default_program(unit.ids), actor="system:bootstrap", now=unit.now)

        self.commit(work)
        return self

    def commit(self, work: Callable[[UnitOfWork], T], *, actor: str = SYSTEM) -> T:
        """What `work` returns, in one transaction with its events."""
        with transaction(self.url) as connection:
            unit = UnitOfWork(connection, self.tools, actor=actor)
            result = work(unit)
            unit.outbox.flush()
            return result

    def go_to(self, text: str) -> None:
        """Move the clock forward to a time."""
        self.clock.advance((instant(text) - self.clock.now_ms()) / 1_000)

    def sweep(self, *names: str) -> tuple[int, list[tuple[str, str, str]]]:
        """Run these sweeps to their end, or all; how many items they changed, and what failed: job, id and error."""
        return asyncio.run(opened(self.url, lambda database: self.sweep_on(database, *names)))  # type: ignore[no-any-return]

    async def sweep_on(self, database: Database, *names: str) -> tuple[int, list[tuple[str, str, str]]]:
        """The same on an open database."""
        items, failures = 0, list[tuple[str, str, str]]()

        def on_failed(kind: JobKind, id_: str, error: Exception) -> None:
            failures.append((kind.name, id_, type(error).__name__))

        for job in loyalty_sweeps(self.runner_on(database), self.clock, 60, on_failed):
            if not names or job.kind.name in names:
                more = True
                while more:
                    piece = await job.run_piece(self.clock.now_ms())
                    items, more = items + piece.items, piece.more
        return items, failures

    def runner_on(self, database: Database) -> DatabaseUnitOfWorkRunner:
        """Runs units of work at the time of the clock."""
        return DatabaseUnitOfWorkRunner(database, self.tools, wake_endpoints=wake_nothing, wake_job=lambda _: None)

    # -- the program -------------------------------------------------------------------------------------------------

    def program(self, account_id: str = ACCOUNT) -> Program:
        """The program in force."""
        return self.commit(lambda unit: unit.programs.get(account_id))

    def change_rules(self, account_id: str = ACCOUNT, **fields: Any) -> None:
        """Put other rules in force, such as `tiering=TierPolicy(...)`."""
        rules = msgspec.json.encode(replace(self.program(account_id).rules, **fields)).decode()
        query(self.url, "UPDATE program_versions SET rules = ? WHERE account_id = ?", rules, account_id)

    def change_tiering(self, **fields: Any) -> None:
        """Put another tier policy in force."""
        self.change_rules(tiering=TierPolicy(**fields))

    def tier(self, name: str) -> Tier:
        """A tier by its name, also a retired one."""
        program = self.program()
        [found] = [each for each in (*program.tiers, *program.retired_tiers) if each.name == name]
        return found

    def change_tier(self, name: str, **fields: Any) -> None:
        """Change columns of a tier."""
        for column, value in fields.items():
            query(self.url, f"UPDATE tiers SET {column} = ? WHERE id = ?", value, self.tier(name).id)

    # -- customers ---------------------------------------------------------------------------------------------------

    def enroll(self, external_id: str | None = None, account_id: str = ACCOUNT) -> str:
        """Enroll a customer; its id."""
        command = EnrollCustomer(account_id, external_id, None, None, None, {}, source="api")
        return self.commit(lambda unit: enroll_customer(unit, command).id)

    def enroll_all(self, number: int, account_id: str = ACCOUNT) -> list[str]:
        """Enroll so many customers in one transaction; their ids."""
        command = EnrollCustomer(account_id, None, None, None, None, {}, source="api")
        return self.commit(lambda unit: [enroll_customer(unit, command).id for _ in range(number)])

    def buy_each(self, customer_ids: Sequence[str], points: int) -> None:
        """Record a purchase of each customer that earns so many points, in one batch."""
        self.record([purchase(customer_id=each, amount=points * 100) for each in customer_ids])

    def buy(self, customer_id: str, *points: int, at: str | None = None, account_id: str = ACCOUNT) -> None:
        """Record purchases that earn so many points, in one batch."""
        occurred_at = None if at is None else instant(at)
        bought = [
            replace(purchase(customer_id=customer_id, amount=each * 100), occurred_at=occurred_at) for each in points
        ]
        self.record(bought, account_id)

    def record(self, purchases: Sequence[NewPurchase], account_id: str = ACCOUNT) -> None:
        """Record purchases in one batch."""
        outcomes = self.commit(lambda unit: record_purchases(unit, RecordPurchases(account_id, purchases)))
        assert all(isinstance(each, Purchase) for each in outcomes), outcomes

    def customer(self, customer_id: str, account_id: str = ACCOUNT) -> Customer:
        """The stored customer."""
        return self.commit(lambda unit: get_customer(unit, GetCustomer(account_id, customer_id)))

    def tier_of(self, customer_id: str) -> str:
        """The name of the customer's tier."""
        return self.customer(customer_id).tier.name

    def review_of(self, customer_id: str) -> str | None:
        """When the customer's tier is reviewed."""
        at = self.customer(customer_id).tier_review_at
        return None if at is None else rfc3339(at)

    def events(self, customer_id: str, kind: str = "") -> list[dict[str, Any]]:
        """The bodies of the customer's events whose type begins so, in the order of their sequences."""
        rows = query(self.url, "SELECT body FROM events WHERE customer_id = ? ORDER BY sequence", customer_id)
        bodies = [json.loads(bytes(body)) for (body,) in rows]
        return [each for each in bodies if each["type"].startswith(kind)]

    def tier_changes(self, customer_id: str) -> list[tuple[str, str, str]]:
        """From which tier to which, and why, of each `customer.tier_changed`."""
        changes = [each["data"] for each in self.events(customer_id, "customer.tier_changed")]
        return [(each["previous_tier"]["name"], each["tier"]["name"], each["reason"]) for each in changes]

    def check(self, customer_id: str, account_id: str = ACCOUNT) -> None:
        """The ledger adds up, events are numbered, and the changes of the tier follow each other to the customer's own."""
        self.commit(lambda unit: _check(unit, customer_id, account_id))

    def check_all(self, customer_ids: Sequence[str]) -> None:
        """The same for many customers."""

        def work(unit: UnitOfWork) -> None:
            for each in customer_ids:
                _check(unit, each, ACCOUNT)

        self.commit(work)


def _check(unit: UnitOfWork, customer_id: str, account_id: str) -> None:
    customer = get_customer(unit, GetCustomer(account_id, customer_id))
    entries = unit.ledger.list_entries(customer_id, None, 10_000)[::-1]
    lots = unit.ledger.list_lots(customer_id, None, 10_000)
    assert discrepancies(customer.balance, entries, lots, unit.ledger.list_allocations(customer_id)) == []
    rows = unit.connection.execute("SELECT body FROM events WHERE customer_id = ? ORDER BY sequence", (customer_id,))
    events = [json.loads(bytes(body)) for (body,) in rows]
    assert [each["sequence"] for each in events] == list(range(1, customer.event_sequence + 1))
    [first, *changes] = [each["data"] for each in events if each["type"] in _TELL_TIERS]
    tier = first["customer"]["tier"]["id"]
    for change in changes:
        assert change["previous_tier"]["id"] == tier != change["tier"]["id"]
        tier = change["tier"]["id"]
    assert tier == customer.tier.id


_TELL_TIERS = ("customer.created", "customer.tier_changed")
