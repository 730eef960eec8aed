"""`/v1/deliveries`: what was sent to which endpoint, with every attempt."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.web.answers import Count, DeliveryId, EndpointId, EventId, EventType, Page, RequestId, Time, answers
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Cursor, Instant, Limit, SearchText, known_id
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.webhooks import deliveries
from loyalpro.webhooks.entities import Delivery, PastAttempt, PastRequest
from loyalpro.webhooks.explanations import verdict

router = APIRouter(prefix="/v1/deliveries", tags=["deliveries"], route_class=StrictRoute.needing(write="webhooks"))


class DeliveryView(TypedDict):
    """A delivery without its attempts."""

    id: DeliveryId
    event_id: EventId
    event_type: EventType
    endpoint_id: EndpointId
    forged: bool
    status: str
    attempt_count: Count
    last_outcome: str | None
    next_attempt_at: Time | None
    first_attempt_at: Time | None
    finished_at: Time | None
    created_at: Time


class SentHeaders(TypedDict):
    """The headers of a request, each a name and a value."""

    headers: list[list[str]]


class ReceivedResponse(TypedDict):
    """What the endpoint answered."""

    status: Annotated[int, Field(examples=[200])]
    headers: list[list[str]]
    body_excerpt: str
    body_truncated: bool


class TimingsView(TypedDict):
    """Milliseconds from the start of the request to the end of each phase; null for a phase that was not reached."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


class _Sent(TypedDict):
    started_at: Time
    outcome: str
    detail: str | None
    remote_ip: str | None
    request: SentHeaders
    response: ReceivedResponse | None
    timings: TimingsView


class RequestView(_Sent):
    """One request of an attempt."""

    number: Count


class AttemptView(RequestView):
    """What decided the outcome of an attempt, and each request that was sent."""

    requests: list[RequestView]


class VerdictView(TypedDict):
    """What the answer to a forged delivery shows of its receiver."""

    result: str
    detail: str


class DeliveryInFullView(DeliveryView):
    """A delivery with its attempts, and the request that caused its event."""

    request_id: RequestId | None
    traceparent: str | None
    verdict: VerdictView | None
    attempts: list[AttemptView]


Status = Annotated[Literal["pending", "succeeded", "exhausted", "canceled", "parked"] | None, Query()]
Since = Annotated[Instant | None, Query(description="Only deliveries of events from this instant on.")]
Until = Annotated[Instant | None, Query(description="Only deliveries of events up to this instant.")]


@router.get("", summary="List deliveries, newest first")
async def list_deliveries(
    account_id: AccountId,
    services: ServicesDep,
    endpoint_id: SearchText = None,
    event_id: SearchText = None,
    type: SearchText = None,  # noqa: A002 - the name in the contract
    status: Status = None,
    outcome: SearchText = None,
    customer_id: SearchText = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[DeliveryView]:
    """One page of deliveries, without their attempts.

    A call examines 5,000 deliveries at most, or those of 1,000 events of a customer. So a page may have fewer items than
    `limit`, even none, and a `next_cursor` nevertheless: follow it until it is null.
    """
    query = deliveries.ListDeliveries(
        account_id=account_id,
        before_id=known_id("dlv", cursor, param="cursor") if cursor else None,
        limit=limit,
        endpoint_id=endpoint_id,
        event_id=event_id,
        event_type=type,
        status=status,
        outcome=outcome,
        customer_id=customer_id,
        since=since,
        until=until,
    )
    found = await services.runner.read(lambda unit: deliveries.find_deliveries(unit, query))
    return {"data": [delivery_view(each) for each in found.deliveries], "next_cursor": found.next_before_id}


@router.get("/{delivery_id}", summary="Get a delivery and all its attempts")
async def get(account_id: AccountId, services: ServicesDep, delivery_id: str) -> DeliveryInFullView:
    """One delivery, with the request that caused its event, and the request, the response and the timings of every attempt."""
    query = _ref(account_id, delivery_id)
    found = await services.runner.read(lambda unit: deliveries.get_delivery(unit, query))
    return {
        **delivery_view(found.delivery),
        "request_id": found.request_id,
        "traceparent": found.traceparent,
        "verdict": _verdict_view(found),
        "attempts": [attempt_view(each) for each in found.attempts],
    }


@router.post(
    "/{delivery_id}/retry", status_code=202, summary="Send a delivery again now", responses=answers(DeliveryView, 202)
)
async def retry(request: Request, account_id: AccountId, delivery_id: str) -> Response:
    """Makes one attempt now, whatever the status of the delivery is, and even while the endpoint is held back because it fails.

    If the attempt fails, the delivery returns to its earlier state: it is pending on its schedule, or it has ended as before.
    """
    command = _ref(account_id, delivery_id)
    return await commit(
        request, account_id, lambda unit: Reply(202, delivery_view(deliveries.retry_delivery(unit, command)))
    )


@router.post("/{delivery_id}/cancel", summary="Cancel a delivery", responses=answers(DeliveryView))
async def cancel(request: Request, account_id: AccountId, delivery_id: str) -> Response:
    """No further attempt is made. An attempt that is under way ends and is recorded, but the delivery stays canceled.

    A delivery that had ended before a manual attempt gets its earlier status back.
    """
    command = _ref(account_id, delivery_id)
    return await commit(
        request,
        account_id,
        lambda unit: Reply(200, delivery_view(deliveries.cancel_delivery(unit, command))),
        "control",
    )


def _verdict_view(found: deliveries.DeliveryDetails) -> VerdictView | None:
    """What the answer to a forged delivery shows of the receiver, in JSON; None for any other."""
    found_verdict = verdict(found) if found.delivery.forged else None
    return None if found_verdict is None else {"result": found_verdict.result, "detail": found_verdict.detail}


def delivery_view(delivery: Delivery) -> DeliveryView:
    """A delivery in JSON, without its attempts."""
    return {
        "id": delivery.id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "endpoint_id": delivery.endpoint_id,
        "forged": delivery.forged,
        "status": delivery.status.value,
        "attempt_count": delivery.attempts,
        "last_outcome": delivery.outcome,
        "next_attempt_at": _time(delivery.next_attempt_at),
        "first_attempt_at": _time(delivery.first_attempt_at),
        "finished_at": _time(delivery.finished_at),
        "created_at": rfc3339(delivery.created_at),
    }


def attempt_view(attempt: PastAttempt) -> AttemptView:
    """One attempt in JSON: what decided its outcome, and each request that was sent."""
    requests: list[RequestView] = [
        {"number": number, **_request_view(each)} for number, each in enumerate(attempt.requests, 1)
    ]
    return {"number": attempt.number, **_request_view(attempt.deciding), "requests": requests}


def _request_view(request: PastRequest) -> _Sent:
    """One request in JSON. Its body is the body of the event: GET /v1/events/{id}."""
    response: ReceivedResponse | None = None
    if request.response_status is not None:
        response = {
            "status": request.response_status,
            "headers": [list(pair) for pair in request.response_headers or ()],
            "body_excerpt": (request.response_excerpt or b"").decode("utf-8", "replace"),
            "body_truncated": bool(request.response_truncated),
        }
    return {
        "started_at": rfc3339(request.started_at),
        "outcome": request.outcome,
        "detail": request.detail,
        "remote_ip": request.remote_ip,
        "request": {"headers": [list(pair) for pair in request.request_headers]},
        "response": response,
        "timings": {
            "dns_ms": request.dns_ms,
            "connect_ms": request.connect_ms,
            "tls_ms": request.tls_ms,
            "first_byte_ms": request.first_byte_ms,
            "total_ms": request.total_ms,
        },
    }


def _ref(account_id: str, delivery_id: str) -> deliveries.DeliveryRef:
    return deliveries.DeliveryRef(account_id, known_id("dlv", delivery_id))


def _time(instant: UnixMs | None) -> str | None:
    return None if instant is None else rfc3339(instant)
