"""The audit log: who changed what. Use cases of every package write it with `unit.audit`, in the transaction of the change."""

from loyalpro.accounts.entities import AuditEntry
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.record import record


@record
class ListAudit:
    """A page of an account's changes that match every filter, newest first: those older than `before_id`."""

    account_id: str
    before_id: str | None
    limit: int
    actor: str | None = None
    object_id: str | None = None


def list_audit(unit: AccountsUnit, query: ListAudit) -> list[AuditEntry]:
    """Changes, newest first."""
    return unit.audit_log.list_before(
        query.account_id, query.before_id, query.limit, actor=query.actor, object_id=query.object_id
    )


def note_export(unit: AccountsUnit, account_id: str) -> None:
    """Record in the audit log that it was exported as a file."""
    unit.audit(account_id, "audit_log.exported", account_id)
