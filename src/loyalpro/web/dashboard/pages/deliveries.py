"""Developers > Deliveries: where a delivery is, found by its status, endpoint, event, outcome, customer or time."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, rfc3339, unix_ms
from loyalpro.kernel.errors import Refused
from loyalpro.kernel.ids import is_id, made_at
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.names import customers_by_id
from loyalpro.web.dashboard.forms import SentForm, blank, commit
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.find import MOST_LOOKED_AT, TAIL_AGE_MS
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.deliveries import ListDeliveries, cancel_deliveries, count_newer, retry_deliveries
from loyalpro.webhooks.delivery_log import OUTCOMES, DeliveryLog, Owed, read_log, read_owed
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.explanations import label_of
from loyalpro.webhooks.overview import MOST_COUNTED_IN_LIST
from loyalpro.webhooks.recent import deliveries_with_tail

LIST: Final = "/developers/deliveries"
_ROWS: Final = 50
_MOST_NEWER: Final = 1_000
_TAIL: Final = 6
_BUSY: Final = 20
"""Above so many a second, the page says how fast they come."""
_MS_PER_HOUR: Final = 3_600_000
_SPANS: Final[Mapping[str, tuple[str, int]]] = {
    "1h": ("Last hour", _MS_PER_HOUR),
    "24h": ("Last 24 hours", MS_PER_DAY),
    "7d": ("Last 7 days", 7 * MS_PER_DAY),
}
_TABS: Final = ("pending", "parked", "exhausted", "canceled", "succeeded")
router = APIRouter(route_class=PageRoute)

Given = Annotated[str, Query(max_length=64)]


@record
class Filters:
    """What the address of the page asks for, as texts; those that name nothing are empty."""

    status: str
    endpoint: str
    type: str
    outcome: str
    customer: str
    event: str
    since: str
    until: str

    @property
    def given(self) -> dict[str, str]:
        """The filters that count, by their names in the address."""
        names = ("status", "endpoint", "type", "outcome", "customer", "event", "since", "until")
        return {name: value for name in names if (value := getattr(self, name))}

    def path(self, base: str = LIST, **more: str | int | None) -> str:
        """The address with these filters; `more` adds others, and takes those away that are None."""
        fields = {name: value for name, value in {**self.given, **more}.items() if value is not None}
        return f"{base}?{urlencode(fields)}" if fields else base

    def query(self, account_id: str, now: UnixMs, before: str | None, limit: int = _ROWS) -> ListDeliveries:
        """The search."""
        return ListDeliveries(
            account_id=account_id,
            before_id=before,
            limit=limit,
            endpoint_id=self.endpoint or None,
            event_id=self.event or None,
            event_type=self.type or None,
            status=self.status or None,
            outcome=self.outcome or None,
            customer_id=self.customer or None,
            since=now - _SPANS[self.since][1] if self.since in _SPANS else _instant(self.since),
            until=_instant(self.until),
        )


async def _filters(
    status: Given = "",
    endpoint: Given = "",
    type: Given = "",  # noqa: A002 - the name in the address
    outcome: Given = "",
    customer: Given = "",
    event: Given = "",
    since: Given = "",
    until: Given = "",
) -> Filters:
    """The filters of the address, without what cannot be one."""
    return Filters(
        status=status if status in _TABS else "",
        endpoint=endpoint if is_id("we", endpoint) else "",
        type=type if type in EVENT_TYPES else "",
        outcome=outcome if outcome in OUTCOMES else "",
        customer=customer if is_id("cus", customer) else "",
        event=event if is_id("evt", event) else "",
        since=since if since in _SPANS or _instant(since) is not None else "",
        until=until if _instant(until) is not None else "",
    )


Wanted = Annotated[Filters, Depends(_filters)]
Before = Annotated[str | None, Query(max_length=64)]


@router.get(LIST, name="deliveries")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    wanted: Wanted,
    before: Before = None,
    q: Annotated[str, Query(max_length=255)] = "",
) -> Response:
    """The log of deliveries."""
    text = q.strip()
    if text:
        found = await services.runner.read(lambda unit: _path_of(unit, visitor, text))
        if found is not None:
            return redirect(request, found)
    model = await _model(request, visitor, services, wanted, before)
    return page(request, "deliveries/list.html", title="Deliveries", text=text, **model)


@router.get(f"{LIST}/rows", name="deliveries.rows")
async def rows(
    request: Request, visitor: Visitor, services: ServicesDep, wanted: Wanted, before: Before = None
) -> Response:
    """The rows, to take the place of older ones."""
    return fragment(request, "deliveries/rows.html", **await _model(request, visitor, services, wanted, before))


@router.get(f"{LIST}/newer", name="deliveries.newer")
async def newer(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    wanted: Wanted,
    after: Given = "",
    shown: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> Response:
    """How many deliveries are newer than the first that is shown, and since the page was `shown` how many a second."""
    after_id = after if is_id("dlv", after) else ""
    query = wanted.query(visitor.account_id, visitor.now, None, _MOST_NEWER + 1)
    count = await services.runner.read(lambda unit: count_newer(unit, query, after_id))
    a_second = count * MS_PER_S // max(visitor.now - shown, 2 * MS_PER_S)
    return fragment(
        request,
        "deliveries/newer.html",
        count=count,
        most=_MOST_NEWER,
        a_second=a_second if a_second > _BUSY else None,
        all_path=wanted.path(),
        rows_path=wanted.path(f"{LIST}/rows"),
    )


@router.post(f"{LIST}/send", name="deliveries.send")
async def send(request: Request, form: SentForm) -> Response:
    """Send the chosen deliveries now."""
    return await _change(request, form, retry_deliveries, "{} sent now.")


@router.post(f"{LIST}/cancel", name="deliveries.cancel")
async def cancel(request: Request, form: SentForm) -> Response:
    """Cancel the chosen deliveries."""
    return await _change(request, form, cancel_deliveries, "{} canceled.")


async def _change(
    request: Request, form: SentForm, act: Callable[[Unit, str, Sequence[str]], list[Refused | None]], done: str
) -> Response:
    """Change the chosen deliveries, and say for how many that was refused, and why first."""
    visitor: Visit = request.state.visit
    back = dict(parse_qsl(form.text("back")))
    path = f"{LIST}?{urlencode(back)}" if back else LIST
    ids = [each for each in form.texts("id") if is_id("dlv", each)][:_ROWS]
    if not ids:
        return redirect(request, path, "Select deliveries first.")

    def work(unit: Unit) -> dict[str, Any]:
        results = act(unit, visitor.account_id, ids)
        refusals = [each.detail for each in results if each is not None]
        return {"changed": len(results) - len(refusals), "refused": len(refusals), "why": refusals[:1]}

    result, _ = await commit(request, form, work)
    changed = int(result["changed"])
    words = done.format(f"{changed} deliver{'y is' if changed == 1 else 'ies are'}")
    if result["refused"]:
        words += f" {result['refused']} cannot be: {result['why'][0]}"
    return redirect(request, path, words)


async def _model(
    request: Request, visitor: Visit, services: Any, wanted: Filters, before: str | None
) -> dict[str, Any]:
    """What the list shows."""
    start = before if before and is_id("dlv", before) else None
    query = wanted.query(visitor.account_id, visitor.now, start)

    def look(unit: Unit) -> tuple[Owed, DeliveryLog, Mapping[str, Customer]]:
        owed = read_owed(unit, visitor.account_id)
        log = read_log(unit, query, owed.endpoints)
        ids = {each.customer_id for each in log.lines if each.customer_id is not None}
        return (
            owed,
            log,
            customers_by_id(unit, visitor.account_id, ids | ({wanted.customer} if wanted.customer else set())),
        )

    owed, log, customers = await services.runner.read(look)
    rights = ROLES[visitor.member.membership.role]
    return {
        "form": blank(request),
        "wanted": wanted,
        "lines": log.lines,
        "names": {each.id: name_of(each) for each in owed.endpoints},
        "customers": {id_: eyes_of(visitor).name(each) for id_, each in customers.items()},
        "label_of": label_of,
        "made_at": made_at,
        "tabs": _tabs(wanted, owed),
        "types": list(EVENT_TYPES),
        "outcomes": list(OUTCOMES.items()),
        "spans": [(key, words) for key, (words, _) in _SPANS.items()],
        "instants": {name: _instant(getattr(wanted, name)) for name in ("since", "until")},
        "looked_back_to": log.looked_back_to,
        "newer_path": None if start is None else wanted.path(),
        "older_path": wanted.path(before=log.next_before_id) if log.next_before_id else None,
        "poll_path": None
        if start
        else wanted.path(
            f"{LIST}/newer", after=log.lines[0].delivery.id if log.lines else "dlv_" + "0" * 36, shown=visitor.now
        ),
        "back": urlencode({**wanted.given, **({"before": start} if start else {})}),
        "may_send": "deliveries.resend" in rights,
        "may_cancel": "endpoints.change" in rights,
        "api_call": _api_call(services.base_url, query),
        "rows": _ROWS,
    }


def _tabs(wanted: Filters, owed: Owed) -> list[tuple[str, str, bool, str | None]]:
    """A tab for each status, with how many wait or were given up."""
    numbers = {"pending": owed.count(enabled=True), "parked": owed.count(enabled=False), "exhausted": owed.exhausted}
    is_more = any(each > MOST_COUNTED_IN_LIST for each in owed.waiting.values())

    def words(name: str) -> str | None:
        number = numbers.get(name, 0)
        return f"{number:,}{'+' if is_more and name != 'exhausted' else ''}" if number else None

    tabs = [(name.capitalize(), wanted.path(status=name), wanted.status == name, words(name)) for name in _TABS]
    return [("All", wanted.path(status=None), not wanted.status, None), *tabs]


def name_of(endpoint: Endpoint) -> str:
    """What people call an endpoint."""
    return endpoint.description or endpoint.url.removeprefix("https://")


def _path_of(unit: Unit, visitor: Visit, text: str) -> str | None:
    """The address of what a text names: an id, or the end of the id of a delivery."""
    if is_id("dlv", text):
        return f"{LIST}/{text}"
    for prefix, name in (("evt", "event"), ("cus", "customer"), ("we", "endpoint")):
        if text.startswith(f"{prefix}_"):
            return f"{LIST}?{urlencode({name: text})}"
    if len(text) >= _TAIL and text.isascii() and text.isalnum():
        ids = deliveries_with_tail(
            unit, RecentTail(visitor.account_id, text, visitor.now - TAIL_AGE_MS, MOST_LOOKED_AT)
        )
        if len(ids) == 1:
            return f"{LIST}/{ids[0]}"
    return None


def _instant(text: str) -> UnixMs | None:
    """An instant of the address: RFC 3339, or Unix milliseconds."""
    if text.isascii() and text.isdigit():
        return int(text[:15])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0, unix_ms(at if at.tzinfo else at.replace(tzinfo=UTC)))


def _api_call(base_url: str, query: ListDeliveries) -> str:
    """The call of the API that lists the same."""
    given = {
        "endpoint_id": query.endpoint_id,
        "event_id": query.event_id,
        "type": query.event_type,
        "status": query.status,
        "outcome": query.outcome,
        "customer_id": query.customer_id,
        "since": None if query.since is None else rfc3339(query.since),
        "until": None if query.until is None else rfc3339(query.until),
        "limit": query.limit,
        "cursor": query.before_id,
    }
    fields = urlencode({name: value for name, value in given.items() if value is not None})
    return f"curl -H \"Authorization: Bearer $LOYALPRO_API_KEY\" '{base_url}/v1/deliveries?{fields}'"
