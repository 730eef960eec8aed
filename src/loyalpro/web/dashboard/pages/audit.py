"""Account > Audit log: who changed what, when and from where, with the values before and after."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from loyalpro.accounts.api_keys import ListKeys, list_keys
from loyalpro.accounts.audit import ListAudit, list_audit, note_export
from loyalpro.accounts.entities import AuditEntry
from loyalpro.accounts.people import ListMembers, list_members
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.bulk.csv_text import csv_lines
from loyalpro.web.dashboard.actors import names_of
from loyalpro.web.dashboard.forms import SentForm
from loyalpro.web.dashboard.links import page_of
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/audit"
_PAGE: Final = 50
_NAMES: Final = 100
_EXPORT_PAGE: Final = 1_000
_EXPORTED: Final = 10_000
_LONGEST_VALUE: Final = 300
_COLUMNS: Final = ("time", "actor", "name", "action", "object", "address", "request", "before", "after")

Filter = Annotated[str, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="audit")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    actor: Filter = "",
    object_id: Annotated[str, Query(alias="object", max_length=128)] = "",
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Changes, newest first: all, those of one actor, or those of one object."""
    account_id = visitor.account_id
    known = before if before is not None and is_id("aud", before) else None
    wanted, named = actor.strip() or None, object_id.strip() or None

    def look(unit: Unit) -> dict[str, Any]:
        entries = list_audit(unit, ListAudit(account_id, known, _PAGE + 1, wanted, named))
        members = list_members(unit, ListMembers(account_id, None, _NAMES))
        keys = list_keys(unit, ListKeys(account_id, None, _NAMES))
        return {
            "entries": entries,
            "names": names_of(unit, account_id, [each.actor for each in entries]),
            "actors": [(each.person.actor, each.person.name or each.person.email) for each in members]
            + [(each.actor, f"API key {each.name}") for each in keys],
        }

    found = await services.runner.read(look)
    entries = found["entries"]
    filters = "".join(f"&{name}={value}" for name, value in (("actor", wanted), ("object", named)) if value)
    return page(
        request,
        "audit/audit.html",
        title="Audit log",
        actor=wanted or "",
        object_id=named or "",
        page_of=partial(page_of, request),
        changed=changed,
        newest=f"{PATH}?{filters[1:]}" if known else None,
        older=f"{PATH}?before={entries[_PAGE - 1].id}{filters}" if len(entries) > _PAGE else None,
        **found | {"entries": entries[:_PAGE]},
    )


@router.post(f"{PATH}/export", name="audit.export")
async def export(visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The newest 10,000 changes that match, as CSV. That they were taken is a change itself."""
    account_id = visitor.account_id
    await services.runner.change(lambda unit: note_export(unit, account_id), "control", actor=visitor.actor)
    actor, object_id = form.text("actor") or None, form.text("object") or None
    entries: list[AuditEntry] = []
    while len(entries) < _EXPORTED:
        last = entries[-1].id if entries else None
        query = ListAudit(account_id, last, _EXPORT_PAGE, actor, object_id)
        found = await services.runner.read(lambda unit, query=query: list_audit(unit, query))  # type: ignore[misc]
        entries += found
        if len(found) < _EXPORT_PAGE:
            break
    names = await services.runner.read(lambda unit: names_of(unit, account_id, {each.actor for each in entries}))
    lines = await services.heavy_work.run(
        lambda: csv_lines([_COLUMNS, *(_cells(each, names[each.actor]) for each in entries)])
    )
    headers = {"Content-Disposition": 'attachment; filename="audit-log.csv"'}
    return Response(lines, media_type="text/csv; charset=utf-8", headers=headers)


def changed(entry: AuditEntry) -> list[tuple[str, str | None, str | None]]:
    """The fields that an entry names, with their values before and after; None for what was not there."""
    changes = entry.changes or {}
    if changes.keys() <= {"before", "after"}:
        before, after = (dict(_flat(changes.get(name) or {})) for name in ("before", "after"))
        return [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    return [(name, None, value) for name, value in _flat(changes)]


def _flat(value: dict[str, Any], outer: str = "") -> Iterator[tuple[str, str]]:
    """The members of an object with a name such as `expiry.kind`, each in a short text."""
    for name, each in value.items():
        if isinstance(each, dict) and each:
            yield from _flat(each, f"{outer}{name}.")
        else:
            text = each if isinstance(each, str) else msgspec.json.encode(each).decode()
            yield f"{outer}{name}", text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _cells(entry: AuditEntry, name: str) -> tuple[str | None, ...]:
    changes = entry.changes or {}
    is_pair = changes.keys() <= {"before", "after"}
    before, after = (changes.get("before"), changes.get("after")) if is_pair else (None, changes)
    return (
        rfc3339(entry.created_at),
        entry.actor,
        name,
        entry.action,
        entry.object_id,
        entry.address,
        entry.request_id,
        *(msgspec.json.encode(each).decode() if each else None for each in (before, after)),
    )
