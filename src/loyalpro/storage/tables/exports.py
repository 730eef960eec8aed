"""Everything that is stored about a customer, section by section. Satisfies `loyalty.ports.ExportStore`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.entities import ExportRows
from loyalpro.loyalty.expiry import NEVER
from loyalpro.storage.connection import Connection
from loyalpro.storage.sql import where


def _time(instant: int) -> str | None:
    return None if instant >= NEVER else rfc3339(instant)


def _day(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _hex(value: bytes) -> str:
    return bytes(value).hex()


_TIMES: Final = (
    *("created_at", "updated_at", "occurred_at", "captured_at", "ended_at", "earned_at", "activates_at", "expires_at"),
    *("reserved_until", "scored_at", "tier_since", "tier_review_at"),
    *("tier_locked_until", "points_expire_at", "next_due_at", "first_purchase_at", "last_purchase_at"),
    *("security_changed_at", "last_seen", "first_at", "last_at", "resolved_at", "erased_at"),
)
_DOCUMENTS: Final = (
    *("tags", "metadata", "items", "priced", "rules", "reward", "measurement", "evidence", "changes", "body"),
)
_FLAGS: Final = ("earning_blocked", "redeeming_blocked", "counts_toward_tier", "allow_negative", "shadow", "settling")
_SHOWN: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_TIMES, _time),
    **dict.fromkeys(_DOCUMENTS, json.loads),
    **dict.fromkeys(("fingerprint", "payment_fingerprint", "device_id", "hash", "key_hash"), _hex),
    **dict.fromkeys(_FLAGS, bool),
    **dict.fromkeys(("day", "level_since", "last_purchase_on", "medium_event_on", "high_event_on"), _day),
}
"""How a column is shown, by its name. Every other column is shown as it is stored."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one table that have the id of a customer in the column `owner`, in the order of `key`.

    `by_account`: the index of the owner begins with the account.
    """

    table: str
    columns: tuple[str, ...]
    key: str = "id"
    owner: str = "customer_id"
    by_account: bool = False


SECTIONS: Final[Mapping[str, Section]] = {
    "customers": Section(
        "customers",
        (
            *("id", "external_id", "email", "email_key", "phone", "phone_key", "name", "tags", "metadata", "status"),
            *("merged_into_id", "tier_id", "tier_since", "tier_review_at", "tier_locked_until", "tier_lock_reason"),
            *(
                "available",
                "pending",
                "debt",
                "lifetime_earned",
                "lifetime_redeemed",
                "points_expire_at",
                "next_due_at",
            ),
            *("first_purchase_at", "last_purchase_at", "security_changed_at", "earning_blocked", "redeeming_blocked"),
            *("ledger_sequence", "event_sequence", "created_at", "updated_at"),
        ),
        owner="id",
    ),
    "transactions": Section(
        "transactions",
        (
            *("id", "customer_id", "external_id", "status", "currency", "amount", "tax_amount", "shipping_amount"),
            *("tip_amount", "gift_card_amount", "points_discount_amount", "eligible_amount", "base_amount", "items"),
            *(
                "channel",
                "location_id",
                "employee_id",
                "metadata",
                "points_earned",
                "program_version",
                "priced",
                "source",
            ),
            *("payment_fingerprint", "device_id", "refunded_amount", "points_clawed_back"),
            *("points_restored", "points_shortfall", "occurred_at", "created_at", "actor"),
        ),
    ),
    "refunds": Section(
        "refunds",
        (
            *(
                "id",
                "customer_id",
                "transaction_id",
                "external_id",
                "fingerprint",
                "amount",
                "items",
                "reason",
                "actor",
            ),
            *("points_clawed_back", "points_restored", "points_shortfall", "points_expired_before"),
            *("occurred_at", "created_at"),
        ),
    ),
    "redemptions": Section(
        "redemptions",
        (
            *("id", "customer_id", "reward_id", "reward", "points", "points_returned", "status", "transaction_id"),
            *("code", "external_id", "reserved_until", "captured_at", "ended_at", "actor", "created_at"),
            "day",
        ),
    ),
    "adjustments": Section(
        "adjustments",
        (
            *("id", "customer_id", "external_id", "points", "reason_code", "expires_at", "counts_toward_tier"),
            *("allow_negative", "entry_id", "lot_id", "actor", "created_at"),
        ),
    ),
    "ledger": Section(
        "ledger_entries",
        (
            *("id", "customer_id", "sequence", "type", "points", "balance_after", "pending_after", "source_type"),
            *("source_id", "part", "reverses_entry_id", "reason_code", "note", "actor", "rules", "occurred_at"),
            *("created_at", "qualifying_day"),
        ),
        key="sequence",
    ),
    "lots": Section(
        "lots",
        (
            *("id", "customer_id", "entry_id", "transaction_id", "hold_case_id", "original", "remaining", "earned_at"),
            *("activates_at", "expires_at", "status", "created_at"),
        ),
    ),
    "days": Section(
        "customer_days",
        (
            *("customer_id", "day", "purchases", "spend", "points_qualifying", "refunds", "refunded", "redemptions"),
            "points_redeemed",
        ),
        key="day",
    ),
    "campaign_uses": Section("campaign_uses", ("campaign_id", "customer_id", "uses"), key="campaign_id"),
    "fraud_cases": Section(
        "fraud_cases",
        (
            *("id", "customer_id", "rule_code", "rule_version", "key_type", "key_hash", "measurement", "evidence"),
            *("hits", "status", "shadow", "action", "severity", "score", "first_at", "last_at", "resolved_at"),
            *("resolved_by", "note", "settling"),
        ),
    ),
    "identity_values": Section(
        "identity_values", ("customer_id", "kind", "hash", "object_id", "last_seen"), key="hash"
    ),
    "churn_scores": Section(
        "churn_scores",
        (
            *("customer_id", "score", "level", "p_alive", "p_purchase", "model_version", "scored_at", "level_since"),
            *("last_purchase_on", "medium_event_on", "high_event_on"),
        ),
        key="customer_id",
    ),
    "audit_log": Section(
        "audit_log",
        ("id", "actor", "action", "object_id", "request_id", "changes", "created_at"),
        owner="object_id",
        by_account=True,
    ),
    "events": Section(
        "events",
        ("id", "customer_id", "type", "sequence", "created_at", "erased_at", "request_id", "traceparent", "body"),
    ),
}
"""The sections of an export by their names, in their order, each with all columns of its table that concern the customer."""


class ExportTables:
    """Exports, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, section: str, account_id: str, customer_id: str, after: Any, limit: int) -> ExportRows:
        """The next rows of a section after the key `after`, in the order of their keys."""
        wanted = SECTIONS[section]
        order, later = wanted.key, f"{wanted.key} > ?"
        if wanted.table == "events":
            order = self._connection.dialect.customer_event_order
            later = f"({order}) > (SELECT {order} FROM events WHERE id = ?)"
        account = account_id if wanted.by_account else None
        clause, params = where(("account_id = ?", account), (f"{wanted.owner} = ?", customer_id), (later, after))
        found = self._connection.execute(
            f"SELECT {wanted.key}, {', '.join(wanted.columns)} FROM {wanted.table} {clause} ORDER BY {order} LIMIT ?",
            (*params, limit),
        )
        rows = [_shown(wanted.columns, values) for _, *values in found]
        return ExportRows(rows, found[-1][0] if len(found) == limit else None)


def _shown(columns: tuple[str, ...], values: list[Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    return {
        name: value if value is None or name not in _SHOWN else _SHOWN[name](value)
        for name, value in zip(columns, values, strict=True)
    }
