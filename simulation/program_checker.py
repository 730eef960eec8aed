"""Checks that the database, the events and what clients were answered agree, and that nothing is overdue after the faults.

It reads rows with its own SQL. What follows from the log of a customer is derived by `loyalty.ledger_check`, as
`loyalpro doctor` does.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.loyalty.ledger_check import faults
from loyalpro.storage.connection import Row
from loyalpro.storage.tables.ledger_check import LedgerReader
from simulation.loop import START_MS
from simulation.program import ProgramWorld
from simulation.program_commands import Request, is_about_a_customer_that_ended

_TABLES = {"record": "transactions", "refund": "refunds", "redeem": "redemptions", "adjust": "adjustments"}
"""Where the things are that a kind of request makes."""
_TOLD = {
    "transactions": ("transaction.completed", ("transaction", "id")),
    "refunds": ("transaction.refunded", ("refund_id",)),
    "redemptions": ("points.redeemed", ("redemption_id",)),
    "adjustments": ("points.adjusted", ("entry_id",)),
}
"""The event of each row of a table, and where its data names the row; an adjustment is named by its entry."""
_ENDS = {"capture": ("redeemed", "reversed"), "cancel": ("canceled", "expired"), "reverse": ("reversed",)}
"""The statuses that a redemption can have after such a request was answered."""
_CUSTOMER_ENDS = {"merge": "merged", "delete": "deleted"}
_IMPORTS = "SELECT id, kind, status, total, done, unchanged, refused FROM jobs WHERE kind LIKE 'import%'"
_IMPORTED = {
    "import_transactions": "SELECT COUNT(*) FROM transactions WHERE source = 'import'",
    "import_balances": "SELECT COUNT(*) FROM ledger_entries WHERE type = 'import'",
}
"""What each kind of import leaves behind for a row that it takes over."""
_CASE_DAYS = 90
"""After so many days without a hit, an open case lapses."""

_OVERDUE = {
    "an expired lot holds points": (
        "SELECT l.id FROM lots l JOIN customers c ON c.id = l.customer_id"
        " WHERE l.status = 'active' AND l.remaining > 0 AND l.expires_at <= :due AND c.status = 'active'"
    ),
    "a pending lot is not activated": (
        "SELECT l.id FROM lots l JOIN customers c ON c.id = l.customer_id WHERE l.status = 'pending' AND l.remaining > 0"
        " AND l.activates_at <= :due AND c.status = 'active' AND l.id NOT IN (SELECT lot_id FROM held_lots)"
    ),
    "points did not expire by inactivity": (
        "SELECT id FROM customers WHERE available > 0 AND points_expire_at <= :due AND status = 'active'"
    ),
    "a customer is due": "SELECT id FROM customers WHERE next_due_at <= :due AND status = 'active'",
    "a reservation outlives its time": "SELECT id FROM redemptions WHERE status = 'reserved' AND reserved_until <= :due",
    "a tier is not reviewed": "SELECT id FROM customers WHERE tier_review_at <= :review AND status = 'active'",
    "a case does not lapse": "SELECT id FROM fraud_cases WHERE status = 'open' AND last_at <= :lapse",
    "a closed case holds points": "SELECT id FROM fraud_cases WHERE settling = 1 AND resolved_at <= :due",
    "an import has not ended": "SELECT id FROM jobs WHERE kind LIKE 'import%' AND finished_at IS NULL AND created_at <= :due",
    "a change of tiers is not applied": "SELECT id FROM jobs WHERE kind = 'retier' AND finished_at IS NULL AND created_at <= :due",
}


@dataclass(frozen=True)
class ProgramEvidence:
    """The records of one run. `events`: type, data, customer and sequence, in the order of their commits."""

    world: ProgramWorld
    rows: dict[str, dict[str, Row]]
    events: list[tuple[str, dict[str, Any], str | None, int | None]]

    @classmethod
    def of(cls, world: ProgramWorld) -> "ProgramEvidence":
        """Read the database."""
        rows = {
            "transactions": _by_id(world, "SELECT id, external_id, status FROM transactions"),
            "refunds": _by_id(world, "SELECT id, external_id FROM refunds"),
            "redemptions": _by_id(world, "SELECT id, external_id, status FROM redemptions"),
            "adjustments": _by_id(world, "SELECT id, external_id, entry_id FROM adjustments"),
            "customers": _by_id(world, "SELECT id, external_id, status FROM customers"),
        }
        stored = _select(world, "SELECT type, body, customer_id, sequence FROM events ORDER BY position")
        return cls(world, rows, [(row[0], json.loads(bytes(row[1]))["data"], row[2], row[3]) for row in stored])

    @property
    def requests(self) -> list[Request]:
        """What clients asked for."""
        return self.world.shop.requests


def violations(evidence: ProgramEvidence) -> list[str]:
    """Every broken promise, as a sentence that begins with the name of the check. A correct run has none."""
    checks = (_answers, _refusals, _effects, _customers, _imports, _sequences, _ledger, _overdue)
    return [f"{check.__name__[1:]}: {each}" for check in checks for each in check(evidence)]


def statistics(evidence: ProgramEvidence) -> Counter[str]:
    """How many events of each type there are, and what became of the requests."""
    counted = Counter(f"event {type_}" for type_, *_ in evidence.events)
    counted["events"] = len(evidence.events)
    counted["customers"] = len(evidence.rows["customers"])
    for request in evidence.requests:
        counted["requests made"] += bool(request.made)
        counted["requests refused"] += bool(request.refused)
    [(reviewed,)] = _select(evidence.world, "SELECT COUNT(*) FROM fraud_cases WHERE status = 'lapsed'")
    counted["cases lapsed"] = reviewed
    for row in evidence.rows["redemptions"].values():
        counted[f"redemption {row[2]}"] += 1
    for type_, count in _select(evidence.world, "SELECT type, COUNT(*) FROM ledger_entries GROUP BY type"):
        counted[f"entry {type_}"] = count
    return counted


def fingerprint(evidence: ProgramEvidence) -> str:
    """A digest of everything that is stored about customers and events."""
    text = json.dumps([evidence.events, evidence.rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# -- what clients were answered ------------------------------------------------------------------------------------------


def _answers(evidence: ProgramEvidence) -> Iterator[str]:
    """All answers to one request name the same thing, and it is in the database as they say."""
    for request in evidence.requests:
        for reference, ids in request.made.items():
            if len(ids) > 1 and not _is_free_again(evidence, request, ids):
                yield f"{request.kind} {reference} was answered with {sorted(ids)}"
            for id_ in ids:
                yield from _answer(evidence, request.kind, reference, id_)


def _is_free_again(evidence: ProgramEvidence, request: Request, ids: Collection[str]) -> bool:
    """Once a customer has ended, its external id is free, and the same request enrolls another one."""
    return request.kind == "enroll" and sum(evidence.rows["customers"][id_][2] == "active" for id_ in ids) <= 1


def _answer(evidence: ProgramEvidence, kind: str, reference: str, id_: str) -> Iterator[str]:
    rows = evidence.rows
    table = _TABLES.get(kind)
    if table is not None and (row := rows[table].get(id_)) is None:
        yield f"lost: {kind} {reference} was answered with {id_}, which is not there"
    elif table is not None and row is not None and row[1] not in (reference, None):
        yield f"{kind} {reference} was answered with {id_}, which has the external id {row[1]}"
    elif kind in _ENDS and rows["redemptions"][id_][2] not in _ENDS[kind]:
        yield f"lost: {kind} of {id_} was answered, and it is {rows['redemptions'][id_][2]}"
    elif kind == "enroll" and id_ not in rows["customers"]:
        yield f"lost: {kind} {reference} was answered with {id_}, which is not there"
    elif kind in _CUSTOMER_ENDS and rows["customers"][id_][2] != _CUSTOMER_ENDS[kind]:
        yield f"lost: {kind} of {id_} was answered, and it is {rows['customers'][id_][2]}"


def _refusals(evidence: ProgramEvidence) -> Iterator[str]:
    """What was refused, and never done, had no effect."""
    for request in evidence.requests:
        table = _TABLES.get(request.kind)
        if table is None or request.in_flight:
            continue
        stored = {row[1] for row in evidence.rows[table].values()}
        for reference, refusal in request.refused.items():
            is_done = reference in request.made or is_about_a_customer_that_ended(refusal)
            if not is_done and reference in stored:
                yield f"{request.kind} {reference} was refused with {refusal.code}, and took effect"


# -- what is stored ------------------------------------------------------------------------------------------------------


def _effects(evidence: ProgramEvidence) -> Iterator[str]:
    """Each purchase, refund, redemption and adjustment has one event, and each such event has its row."""
    told = Counter((type_, _at(data, _PLACES[type_])) for type_, data, *_ in evidence.events if type_ in _PLACES)
    manual = {
        data["entry_id"]
        for type_, data, *_ in evidence.events
        if (data.get("kind"), data.get("reason_code")) == _MANUAL
    }
    for table, (type_, _) in _TOLD.items():
        names = {row[2] if table == "adjustments" else id_ for id_, row in evidence.rows[table].items()}
        for name in names:
            if told[type_, name] != 1:
                yield f"{name} of {table} has {told[type_, name]} events {type_}"
        events = manual if table == "adjustments" else {name for kind, name in told if kind == type_}
        for name in events - names:
            yield f"phantom: {type_} of {name}, which is not there"


_PLACES = dict(_TOLD.values())
_MANUAL = ("manual", "goodwill")
"""The kind and the reason of the adjustments that clients ask for; a deletion forfeits points with another reason."""


def _at(data: Any, place: tuple[str, ...]) -> str | None:
    for name in place:
        data = data[name]
    return None if data is None else str(data)


def _customers(evidence: ProgramEvidence) -> Iterator[str]:
    """Each customer is created once, and ends at most once."""
    created = Counter(data["customer"]["id"] for type_, data, *_ in evidence.events if type_ == "customer.created")
    ended = Counter(data["customer_id"] for type_, data, *_ in evidence.events if type_ == "customer.deleted")
    for id_, row in evidence.rows["customers"].items():
        if created[id_] != 1:
            yield f"{id_} has {created[id_]} events customer.created"
        if ended[id_] != (row[2] != "active"):
            yield f"{id_} is {row[2]} and has {ended[id_]} events customer.deleted"


def _imports(evidence: ProgramEvidence) -> Iterator[str]:
    """Each row of an import is counted once, and what was taken over is there, however often its rows were sent."""
    done: Counter[str] = Counter()
    for id_, kind, status, rows, taken, unchanged, refused in _select(evidence.world, _IMPORTS):
        done[kind] += taken
        if status != "done" or taken + unchanged + refused != rows:
            yield f"{id_} is {status}, and of its {rows} rows {taken} + {unchanged} + {refused} are counted"
    for kind, sql in _IMPORTED.items():
        [(there,)] = _select(evidence.world, sql)
        if there != done[kind]:
            yield f"{done[kind]} rows of {kind} were taken over, and {there} are there"


def _sequences(evidence: ProgramEvidence) -> Iterator[str]:
    """The events of each customer are 1, 2, 3 ... in the order in which they were committed."""
    found: dict[str, list[int | None]] = {}
    for _, _, customer_id, sequence in evidence.events:
        if customer_id is not None:
            found.setdefault(customer_id, []).append(sequence)
    for customer_id, numbers in found.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{customer_id} has the sequence {numbers}"


def _ledger(evidence: ProgramEvidence) -> Iterator[str]:
    """Everything that is stored follows from the log of each customer."""
    reader = LedgerReader(evidence.world.database.connection)
    for page in reader.pages():
        for log in page:
            yield from (f"{log.customer.id}: {each}" for each in faults(log, START_MS))
    connection = evidence.world.database.connection
    connection.begin()
    try:
        yield from reader.double_cases()
    finally:
        connection.rollback()


def _overdue(evidence: ProgramEvidence) -> Iterator[str]:
    """Nothing is left undone whose time came before the last sweeps, by the slowest clock."""
    world = evidence.world
    due = world.now - int(world.sweeping_s / 2 * MS_PER_S)
    instants: dict[str, UnixMs] = {
        "due": due,
        "review": due - (world.profile.rules.tiering.grace_days + 1) * MS_PER_DAY,
        "lapse": due - _CASE_DAYS * MS_PER_DAY,
    }
    for what, sql in _OVERDUE.items():
        [name] = [each for each in instants if f":{each}" in sql]
        for (id_,) in _select(world, sql.replace(f":{name}", "?"), instants[name]):
            yield f"{what}: {id_}"


def _by_id(world: ProgramWorld, sql: str) -> dict[str, Row]:
    return {str(row[0]): row for row in _select(world, sql)}


def _select(world: ProgramWorld, sql: str, *params: object) -> list[Row]:
    return world.database.run(lambda connection: connection.execute(sql, params), writes=False)
