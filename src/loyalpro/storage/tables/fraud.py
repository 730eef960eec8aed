"""Fraud rules, their cases, and what rules are measured with. Satisfies `loyalty.fraud.ports.FraudStore`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import Prefix, floor
from loyalpro.loyalty.contact import HASH_KEY_BYTES
from loyalpro.loyalty.fraud.cases import CaseStatus, FraudCase
from loyalpro.loyalty.fraud.measure import (
    Credit,
    Moment,
    NewCredit,
    NewPurchase,
    NewRedemption,
    NewRefund,
    PastEvent,
    PurchaseFact,
    SeenCustomer,
    Sighting,
    sightings_of,
    signal,
)
from loyalpro.loyalty.fraud.ports import CaseKey, HeldLot, PastRow
from loyalpro.loyalty.fraud.rules import Params, Rule, kind_of, rule_id
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, JSON, JSON_TUPLE, RowMapper
from loyalpro.storage.sql import flat, marks, padded_chunks, padded_list, where
from loyalpro.storage.vault import Vault

_CASES: Final = RowMapper(
    FraudCase,
    "fraud_cases",
    codecs={"measurement": JSON, "evidence": JSON_TUPLE, "shadow": FLAG, "settling": FLAG},
)
_CASE: Final = f"SELECT {_CASES.columns()} FROM fraud_cases"
_OPEN_CASE: Final = f"{_CASES.insert} ON CONFLICT (account_id, rule_code, key_hash) WHERE status = 'open' DO NOTHING"
_SHOWN: Final = ("rule_version", "measurement", "evidence", "shadow", "action", "severity", "score", "last_at")
_ADD_HITS: Final = (
    f"UPDATE fraud_cases SET hits = hits + ?, {_CASES.assignments(*_SHOWN)} WHERE id = ? AND status = 'open'"
)
_END: Final = ("status", "resolved_at", "resolved_by", "note", "settling")
_CLOSE: Final = f"UPDATE fraud_cases SET {_CASES.assignments(*_END)} WHERE id = ? AND status = 'open'"

_RULE: Final = "code, params, action, severity, score, cooldown_ms, enabled, shadow, version"
_STORE_RULE: Final = f"""
INSERT INTO fraud_rules (account_id, {_RULE}, updated_at) VALUES ({marks(11)})
ON CONFLICT (account_id, code) DO UPDATE SET params = excluded.params, action = excluded.action,
    severity = excluded.severity, score = excluded.score, cooldown_ms = excluded.cooldown_ms, enabled = excluded.enabled,
    shadow = excluded.shadow, version = excluded.version, updated_at = excluded.updated_at
WHERE fraud_rules.version = excluded.version - 1
"""

_NEWEST_PURCHASES: Final = """
WITH firsts AS MATERIALIZED (
    SELECT wanted.column1 AS customer_id, (
        SELECT MIN(newest.id) FROM (
            SELECT n.id FROM transactions n WHERE n.customer_id = wanted.column1 AND n.id >= wanted.column2
            ORDER BY n.id DESC LIMIT ?
        ) newest
    ) AS first_id
    FROM (VALUES {wanted}) AS wanted
)
SELECT t.id, t.customer_id, t.occurred_at, t.base_amount, t.points_earned, t.employee_id, t.source = 'import'
FROM firsts f CROSS JOIN transactions t WHERE t.customer_id = f.customer_id AND t.id >= f.first_id
"""
"""The rows are not ordered: PostgreSQL would read all purchases in the order of their ids."""
_SEEN: Final = """
WITH lasts AS MATERIALIZED (
    SELECT wanted.column1 AS account_id, wanted.column2 AS kind, wanted.column3 AS hash, (
        SELECT MAX(first.customer_id) FROM (
            SELECT n.customer_id FROM identity_values n WHERE n.account_id = wanted.column1 AND n.kind = wanted.column2
                AND n.hash = wanted.column3 AND n.last_seen + 0 > ?
            ORDER BY n.customer_id LIMIT ?
        ) first
    ) AS last_id
    FROM (VALUES {wanted}) AS wanted
)
SELECT s.kind, s.hash, s.customer_id, s.object_id FROM lasts l CROSS JOIN identity_values s
JOIN customers c ON c.id = s.customer_id
WHERE s.account_id = l.account_id AND s.kind = l.kind AND s.hash = l.hash AND s.customer_id <= l.last_id
    AND s.last_seen + 0 > ? AND c.status = 'active'
"""
"""The expression `+ 0` keeps PostgreSQL from the index by age, with which it would read the values of all accounts."""
_NOTE_SEEN: Final = """
INSERT INTO identity_values (account_id, kind, hash, customer_id, object_id, last_seen) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id, kind, hash, customer_id) DO UPDATE SET object_id = excluded.object_id, last_seen = excluded.last_seen
"""
_FORGET_SEEN: Final = DialectSql(
    lambda dialect: (
        f"""
DELETE FROM identity_values WHERE (account_id, kind, hash, customer_id) IN (
    SELECT account_id, kind, hash, customer_id FROM identity_values WHERE last_seen < ? ORDER BY last_seen LIMIT ?
    {dialect.for_update} {dialect.skip_locked})
"""
    )
)
_LATEST_CASES: Final = """
WITH latest AS MATERIALIZED (
    SELECT (SELECT MAX(n.id || '') FROM fraud_cases n WHERE n.account_id || '' = wanted.column1
        AND n.rule_code || '' = wanted.column2 AND n.key_hash = wanted.column3) AS id
    FROM (VALUES {wanted}) AS wanted
)
SELECT {columns} FROM latest l CROSS JOIN fraud_cases c WHERE c.id = l.id
"""
"""The expressions `|| ''` leave PostgreSQL the index by key only, with which it reads the few cases of each key."""

_PAST_PURCHASES: Final = """
SELECT id, created_at, customer_id, occurred_at, base_amount, points_earned, employee_id, source, location_id, amount, currency,
    device_id, payment_fingerprint
FROM transactions WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?
"""
_PAST_REDEMPTIONS: Final = """
SELECT r.id, r.created_at, r.customer_id, r.points, e.balance_after, c.created_at, (
        SELECT t.occurred_at FROM transactions t WHERE t.customer_id = r.customer_id AND t.id < 'txn_' || substr(r.id, 5)
        ORDER BY t.id DESC LIMIT 1
    ), c.security_changed_at
FROM redemptions r JOIN customers c ON c.id = r.customer_id
JOIN ledger_entries e ON e.source_id = r.id AND e.type = 'redeem' AND e.part = 0
WHERE r.account_id = ? AND r.id > ? ORDER BY r.id LIMIT ?
"""
_PAST_REFUNDS: Final = """
SELECT r.id, r.created_at, r.customer_id, r.occurred_at, r.amount, t.base_amount, t.amount, t.occurred_at,
    COALESCE(e.balance_after, 0), COALESCE(e.points, 0)
FROM refunds r JOIN transactions t ON t.id = r.transaction_id
LEFT JOIN ledger_entries e ON e.source_id = r.id AND e.type = 'clawback' AND e.part = 0
WHERE r.account_id = ? AND r.id > ? ORDER BY r.id LIMIT ?
"""
_PAST_CREDITS: Final = """
SELECT id, created_at, source_id, customer_id, actor, points FROM ledger_entries
WHERE account_id = ? AND id > ? AND type = 'adjust' AND points > 0 AND source_type = 'adjustment' ORDER BY id LIMIT ?
"""


class FraudTables:
    """Fraud rules and cases, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault, random_bytes: Callable[[int], bytes]) -> None:
        self._connection = connection
        self._vault = vault
        self._random_bytes = random_bytes

    # -- rules -------------------------------------------------------------------------------------------------------

    def changed_rules(self, account_id: str) -> list[Rule[Any]]:
        """The rules of an account that differ from the defaults, or did."""
        rows = self._connection.execute(f"SELECT {_RULE} FROM fraud_rules WHERE account_id = ?", (account_id,))
        return [_rule(account_id, row) for row in rows]

    def store_rule(self, account_id: str, rule: Rule[Any], now: UnixMs) -> None:
        """Store a rule whose version is one more than the stored one. Raises `Conflict` `fraud_rule_changed` if it is not."""
        params = msgspec.json.encode(rule.params).decode()
        flags = (int(rule.enabled), int(rule.shadow))
        values = (rule.code, params, rule.action, rule.severity, rule.score, rule.cooldown, *flags, rule.version)
        if not self._connection.change(_STORE_RULE, (account_id, *values, now)):
            raise Conflict(
                "The rule was changed at the same time; read it, and send the change again.", code="fraud_rule_changed"
            )

    # -- measures ----------------------------------------------------------------------------------------------------

    def newest_purchases(
        self, since: Mapping[str, UnixMs], limit: int, clock_skew: int
    ) -> dict[str, list[PurchaseFact]]:
        """Of each customer the newest purchases since its instant, newest first, at most `limit`."""
        found: dict[str, list[PurchaseFact]] = {each: [] for each in since}
        wanted = [(each, floor("txn", max(0, at - clock_skew))) for each, at in since.items()]
        for chunk in padded_chunks(wanted):
            different = [*dict.fromkeys(chunk)]
            rows = different + [(None, None)] * (len(chunk) - len(different))
            sql = _NEWEST_PURCHASES.format(wanted=marks(len(rows), "(?, ?)"))
            newest_first = sorted(self._connection.execute(sql, (limit, *flat(rows))), key=itemgetter(0), reverse=True)
            for row in newest_first:
                found[row[1]].append(PurchaseFact(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6])))
        return found

    def seen(
        self, account_id: str, sightings: Collection[Sighting], since: UnixMs, limit: int
    ) -> dict[Sighting, list[SeenCustomer]]:
        """Of each value the active customers with whom it was seen after `since`, at most `limit`."""
        found: dict[Sighting, list[SeenCustomer]] = {each: [] for each in sightings}
        for chunk in padded_chunks(list(sightings)):
            different = [(account_id, each.kind, each.hash) for each in dict.fromkeys(chunk)]
            rows = different + [(None, None, None)] * (len(chunk) - len(different))
            sql = _SEEN.format(wanted=marks(len(rows), "(?, ?, ?)"))
            for kind, hash_, customer_id, object_id in self._connection.execute(
                sql, (since, limit, *flat(rows), since)
            ):
                found[Sighting(kind, hash_)].append(SeenCustomer(customer_id, object_id))
        return found

    def note_seen(self, account_id: str, seen: Collection[tuple[Sighting, SeenCustomer]], now: UnixMs) -> None:
        """Store that values were seen with customers."""
        self._connection.execute_many(
            _NOTE_SEEN,
            [(account_id, value.kind, value.hash, by.customer_id, by.object_id, now) for value, by in seen],
        )

    def forget_seen(self, before: UnixMs, limit: int) -> int:
        """Remove what was last seen before an instant; return how many values."""
        return self._connection.change(_FORGET_SEEN[self._connection.dialect], (before, limit))

    def newest_redemptions(self, customer_id: str, limit: int) -> list[Moment]:
        """A customer's newest redemptions, newest first."""
        rows = self._connection.execute(
            "SELECT id, created_at FROM redemptions WHERE customer_id = ? ORDER BY id DESC LIMIT ?",
            (customer_id, limit),
        )
        return [Moment(*row) for row in rows]

    def count_purchases(self, customer_id: str, since: UnixMs, limit: int, clock_skew: int) -> int:
        """How many purchases a customer made since an instant, refunded ones included; at most `limit` are counted."""
        [(count,)] = self._connection.execute(
            "SELECT COUNT(*) FROM (SELECT 1 FROM transactions WHERE customer_id = ? AND id >= ? AND occurred_at >= ?"
            " LIMIT ?) found",
            (customer_id, floor("txn", max(0, since - clock_skew)), since, limit),
        )
        return int(count)

    def newest_credits(self, account_id: str, actor: str, since: UnixMs, limit: int) -> list[Credit]:
        """The newest credits by hand of an actor after an instant, newest first, with the ids of the adjustments."""
        rows = self._connection.execute(
            "SELECT source_id, points FROM ledger_entries WHERE account_id = ? AND actor = ? AND id > ? AND type = 'adjust'"
            " AND points > 0 AND source_type = 'adjustment' ORDER BY id DESC LIMIT ?",
            (account_id, actor, floor("led", since + 1), limit),
        )
        return [Credit(*row) for row in rows]

    # -- cases -------------------------------------------------------------------------------------------------------

    def latest_cases(self, account_id: str, keys: Collection[CaseKey]) -> dict[CaseKey, FraudCase]:
        """The latest case of each key that has one."""
        wanted = padded_list([(account_id, *key) for key in keys])
        sql = _LATEST_CASES.format(wanted=marks(len(wanted), "(?, ?, ?)"), columns=_CASES.columns("c"))
        return {(each.rule_code, each.key_hash): each for each in self._cases(sql, flat(wanted))}

    def open_case(self, case: FraudCase) -> bool:
        """Store a new case. False when another transaction has opened one for its rule and key."""
        return self._connection.change(_OPEN_CASE, _CASES.values(case)) == 1

    def add_hits(self, cases: Sequence[tuple[FraudCase, int]]) -> None:
        """Add so many hits to each open case, and store its evidence and what it shows of its rule."""
        self._connection.execute_many(
            _ADD_HITS, [(hits, *_CASES.values_of(case, *_SHOWN), case.id) for case, hits in cases]
        )

    def lock_open(self, case_id: str) -> bool:
        """Keep a case from being closed before this transaction ends. False when it is closed already."""
        lock = self._connection.dialect.for_share
        rows = self._connection.execute(
            f"SELECT 1 FROM fraud_cases WHERE id = ? AND status = 'open' {lock}", (case_id,)
        )
        return bool(rows)

    def get_case(self, account_id: str, case_id: str, *, lock: bool = False) -> FraudCase | None:
        """One case; `lock`: nothing else changes it before this transaction ends."""
        clause = self._connection.dialect.for_update if lock else ""
        found = self._cases(f"{_CASE} WHERE account_id = ? AND id = ? {clause}", (account_id, case_id))
        return found[0] if found else None

    def list_cases(
        self,
        account_id: str,
        status: CaseStatus | None,
        rule_code: str | None,
        customer_id: str | None,
        before_id: str | None,
        limit: int,
    ) -> list[FraudCase]:
        """Cases, newest first."""
        clause, params = where(
            ("account_id = ?", account_id),
            ("status = ?", status),
            ("rule_code = ?", rule_code),
            ("customer_id = ?", customer_id),
            ("id < ?", before_id),
        )
        return self._cases(f"{_CASE} {clause} ORDER BY id DESC LIMIT ?", (*params, limit))

    def close_case(self, case: FraudCase) -> None:
        """Store the end of a case that was open."""
        self._connection.execute(_CLOSE, (*_CASES.values_of(case, *_END), case.id))

    def cases_to_lapse(self, last_hit: UnixMs, limit: int) -> list[FraudCase]:
        """Open cases whose last hit was at an instant or before it."""
        return self._cases(
            f"{_CASE} WHERE status = 'open' AND last_at <= ? ORDER BY last_at, id LIMIT ?", (last_hit, limit)
        )

    # -- held lots ---------------------------------------------------------------------------------------------------

    def hold(self, held: Sequence[HeldLot]) -> None:
        """Store which cases hold which lots."""
        self._connection.execute_many("INSERT INTO held_lots (case_id, lot_id) VALUES (?, ?)", held)

    def lots_held_by(self, case_id: str, limit: int) -> dict[str, str]:
        """Lots that a case holds, by id, in the order of their ids, with the customer of each."""
        rows = self._connection.execute(
            "SELECT h.lot_id, l.customer_id FROM held_lots h CROSS JOIN lots l WHERE h.case_id = ? AND l.id = h.lot_id"
            " ORDER BY h.lot_id LIMIT ?",
            (case_id, limit),
        )
        return dict(row[:2] for row in rows)

    def holders_of(self, lot_ids: Collection[str]) -> dict[str, list[str]]:
        """The ids of the cases that hold each of these lots, in their order."""
        found: dict[str, list[str]] = {}
        for chunk in padded_chunks(list(lot_ids)):
            rows = self._connection.execute(
                f"SELECT lot_id, case_id FROM held_lots WHERE lot_id IN ({marks(len(chunk))}) ORDER BY lot_id, case_id",
                chunk,
            )
            for lot_id, case_id in rows:
                found.setdefault(lot_id, []).append(case_id)
        return found

    def let_go(self, held: Collection[HeldLot]) -> None:
        """Remove which cases hold which lots."""
        self._connection.execute_many("DELETE FROM held_lots WHERE case_id = ? AND lot_id = ?", list(held))

    def settled(self, case_id: str) -> None:
        """Store that a closed case holds no lot."""
        self._connection.execute("UPDATE fraud_cases SET settling = 0 WHERE id = ? AND settling = 1", (case_id,))

    def cases_to_settle(self, limit: int) -> list[FraudCase]:
        """Closed cases that still hold lots."""
        return self._cases(f"{_CASE} WHERE settling = 1 ORDER BY id LIMIT ?", (limit,))

    # -- the past ----------------------------------------------------------------------------------------------------

    def past_purchases(self, account_id: str, after: UnixMs | str, limit: int) -> list[PastRow]:
        """Purchases that were recorded since an instant, or after the id of one, oldest first."""
        rows = self._connection.execute(_PAST_PURCHASES, (account_id, _after("txn", after), limit))
        return [(row[0], PastEvent(row[1], _past_purchase(row))) for row in rows]

    def past_redemptions(self, account_id: str, after: UnixMs | str, limit: int) -> list[PastRow]:
        """The same for redemptions."""
        rows = self._connection.execute(_PAST_REDEMPTIONS, (account_id, _after("red", after), limit))
        return [
            (
                id_,
                PastEvent(at, NewRedemption(id_, customer, points, net + points, max(enrolled, last or 0), changed_at)),
            )
            for id_, at, customer, points, net, enrolled, last, changed_at in rows
        ]

    def past_refunds(self, account_id: str, after: UnixMs | str, limit: int) -> list[PastRow]:
        """The same for refunds."""
        rows = self._connection.execute(_PAST_REFUNDS, (account_id, _after("ref", after), limit))
        return [
            (
                id_,
                PastEvent(
                    at,
                    NewRefund(id_, customer, occurred_at, max(0, clawed - net), max(0, -net)),
                    refunded=amount * base // whole if whole else 0,
                    bought_at=bought_at,
                ),
            )
            for id_, at, customer, occurred_at, amount, base, whole, bought_at, net, clawed in rows
        ]

    def past_credits(self, account_id: str, after: UnixMs | str, limit: int) -> list[PastRow]:
        """The same for credits by hand. Their ids are those of their entries."""
        rows = self._connection.execute(_PAST_CREDITS, (account_id, _after("led", after), limit))
        return [
            (id_, PastEvent(at, NewCredit(adjustment, customer, actor, points)))
            for id_, at, adjustment, customer, actor, points in rows
        ]

    # -- the key of keyed hashes -------------------------------------------------------------------------------------

    def hash_key(self, account_id: str) -> bytes:
        """The key of an account for keyed hashes; it is made when it is needed for the first time."""
        stored = self._stored_hash_key(account_id)
        if stored is None:
            made = self._vault.seal(self._random_bytes(HASH_KEY_BYTES).hex(), owner=_owner(account_id))
            self._connection.execute(
                "INSERT INTO hash_keys (account_id, sealed) VALUES (?, ?) ON CONFLICT DO NOTHING", (account_id, made)
            )
            stored = self._stored_hash_key(account_id) or made
        return bytes.fromhex(self._vault.open(stored, owner=_owner(account_id)))

    def seal_hash_keys(self) -> None:
        """Seal the key of each account with the newest key of the vault, so that older ones can be removed."""
        for account_id, sealed in self._connection.execute("SELECT account_id, sealed FROM hash_keys"):
            if not self._vault.is_newest(sealed):
                again = self._vault.seal(self._vault.open(sealed, owner=_owner(account_id)), owner=_owner(account_id))
                self._connection.execute(
                    "UPDATE hash_keys SET sealed = ? WHERE account_id = ? AND sealed = ?", (again, account_id, sealed)
                )

    def hash_key_owners(self) -> dict[bytes, str]:
        """The sealed keys of accounts: of each key of the vault that is in use, an account that uses it."""
        rows = self._connection.execute("SELECT sealed, account_id FROM hash_keys")
        return {self._vault.key_id(sealed): account_id for sealed, account_id in rows}

    def _stored_hash_key(self, account_id: str) -> bytes | None:
        rows = self._connection.execute("SELECT sealed FROM hash_keys WHERE account_id = ?", (account_id,))
        return rows[0][0] if rows else None

    def _cases(self, sql: str, params: Sequence[object]) -> list[FraudCase]:
        return _CASES.records(self._connection.execute(sql, params))


def _after(prefix: Prefix, after: UnixMs | str) -> str:
    return after if isinstance(after, str) else floor(prefix, max(0, after))


def _past_purchase(row: Row) -> NewPurchase:
    id_, _, customer, occurred_at, base, points, employee, source, location, amount, currency, device, payment = row
    fact = PurchaseFact(id_, customer, occurred_at, base, points, signal(employee), source == "import")
    sightings = sightings_of(signal(location), amount, currency, occurred_at, device, payment)
    return NewPurchase(fact, MAX_POINTS, None, sightings)


def _rule(account_id: str, row: Row) -> Rule[Any]:
    code, params, action, severity, score, cooldown, enabled, shadow, version = row
    return Rule(
        id=rule_id(account_id, code),
        params=_params(code, params),
        action=action,
        severity=severity,
        score=score,
        cooldown=cooldown,
        enabled=bool(enabled),
        shadow=bool(shadow),
        version=version,
    )


@lru_cache(maxsize=1_024)
def _params(code: str, text: str) -> Params:
    """The parameters of a stored rule."""
    return msgspec.json.decode(text, type=kind_of(code))


def _owner(account_id: str) -> str:
    return f"{account_id}/hash key"
