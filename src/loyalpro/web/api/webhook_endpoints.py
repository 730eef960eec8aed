"""`/v1/webhook_endpoints`: the endpoints that events are sent to."""

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.web.answers import Count, EndpointId, Page, Time, answers
from loyalpro.web.api.deliveries import DeliveryView, delivery_view
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.fields import Body, Cursor, Limit, LongText, few, known_id, page
from loyalpro.web.idempotency import Reply, commit, stored_response
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit
from loyalpro.web.url_check import checked_url
from loyalpro.webhooks import endpoints, health, test_events
from loyalpro.webhooks.custom_headers import MASK
from loyalpro.webhooks.endpoint_url import PublicUrl, public_url

router = APIRouter(
    prefix="/v1/webhook_endpoints", tags=["webhook endpoints"], route_class=StrictRoute.needing(write="webhooks")
)


class HealthView(TypedDict):
    """Whether the endpoint answers, as deliveries have found out."""

    state: str
    consecutive_failures: Count
    failing_since: Time | None
    next_probe_at: Time | None


class RotationView(TypedDict):
    """A rotation under way."""

    previous_secret_expires_at: Time
    promoted: bool


class EndpointView(TypedDict):
    """An endpoint without its secret."""

    id: EndpointId
    url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    events: list[str]
    description: str | None
    ordering: str
    rate_limit: Count | None
    headers: dict[str, str]
    status: str
    status_reason: str | None
    imports: bool
    created_at: Time
    updated_at: Time
    health: HealthView
    rotation: RotationView | None


class SpanView(TypedDict):
    """The attempts of one minute, hour or day."""

    start_at: Time
    delivered: Count
    failed: Count


class FailureView(TypedDict):
    """How many attempts failed in one way. `response_status` is null when there was no answer."""

    outcome: Annotated[str, Field(examples=["http_5xx"])]
    response_status: Annotated[int | None, Field(examples=[503])]
    attempts: Count


class LatencyView(TypedDict):
    """Durations of attempts that were delivered, within 10 %; null when none was."""

    p50_ms: Annotated[float | None, Field(examples=[84.3])]
    p95_ms: Annotated[float | None, Field(examples=[312.9])]
    p99_ms: Annotated[float | None, Field(examples=[1204.5])]


class StatsView(TypedDict):
    """The attempts of an endpoint in a period."""

    endpoint_id: EndpointId
    period: Annotated[str, Field(examples=["24h"])]
    step: Annotated[str, Field(examples=["hour"])]
    delivered: Count
    failed: Count
    latency: LatencyView
    failures: list[FailureView]
    last_attempt_at: Time | None
    spans: list[SpanView]


class CheckView(TypedDict):
    """One check of a URL."""

    subject: str
    result: str
    detail: str


class UrlCheckView(TypedDict):
    """What is known of a URL. It has none in `url` when it cannot be read as one."""

    url: str | None
    accepted: bool
    checks: list[CheckView]


class NewEndpointView(EndpointView):
    """A new endpoint with its signing secret."""

    secret: Annotated[str, Field(examples=["whsec_t3yng+ca9WUqqKwKP+Gu+KV2IstxZqO1Yn7IY6We81A="])]


Types = Annotated[list[str], Field(min_length=1, max_length=50, description='Event types, or ["*"] for all of them.')]
RateLimit = Annotated[int, Field(ge=1, le=10_000, description="The highest number of requests per second.")]


Headers = Annotated[
    dict[str, str],
    few(1_000),
    Field(
        description=f"Headers for every request, at most 20. Answers show {MASK} as each value, which keeps the value."
    ),
]


Imports = Annotated[
    bool, Field(description="Whether events that imports cause are sent to it; `GET /v1/events` lists them anyway.")
]


class CreateEndpoint(Body):
    """An endpoint to send events to."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://example.com/hook", "events": ["*"], "ordering": "customer"}]}
    )

    url: Annotated[str, Field(max_length=2048, description="An https:// address on the public internet.")]
    events: Types
    description: LongText | None = None
    ordering: Literal["none", "customer"] = "none"
    rate_limit: RateLimit | None = None
    headers: Headers = Field(default_factory=dict)
    status: Literal["enabled", "paused", "disabled"] = "enabled"
    imports: Imports = True


class UpdateEndpoint(Body):
    """The fields to change; a field that is left out keeps its value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "paused"}]})

    url: Annotated[str, Field(max_length=2048)] | None = None
    events: Types | None = None
    description: LongText | None = None
    ordering: Literal["none", "customer"] | None = None
    rate_limit: RateLimit | None = None
    headers: Headers | None = None
    status: Literal["enabled", "paused", "disabled"] | None = None
    imports: Imports | None = None


class CheckUrl(Body):
    """A URL that an endpoint may get."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"url": "https://example.com/hook"}]})

    url: Annotated[str, Field(max_length=4096)]


class TestEndpoint(Body):
    """The event type of the sample, and how it is signed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "points.earned"}, {"signature": "wrong"}]})

    __test__ = False

    type: str = "customer.created"
    signature: Annotated[
        Literal["valid", "wrong"],
        Field(description="`wrong`: signed with another secret, and sent once. A receiver that works refuses it."),
    ] = "valid"


@router.post("", status_code=201, summary="Add an endpoint", responses=answers(NewEndpointView, 201))
async def create(request: Request, account_id: AccountId, services: ServicesDep, body: CreateEndpoint) -> Response:
    """The response contains the signing secret, which is needed to verify deliveries. The number of endpoints is limited."""
    if (stored := await stored_response(request, account_id)) is not None:
        return stored  # the host name may resolve to another address by now
    command = endpoints.AddEndpoint(
        account_id=account_id,
        url=await _public_url(services, body.url, account_id),
        types=body.events,
        max_endpoints=services.max_endpoints,
        description=body.description,
        ordering=body.ordering,
        rate_limit=body.rate_limit,
        headers=body.headers,
        status=body.status,
        imports=body.imports,
    )

    def reply_to(unit: Unit) -> Reply:
        added = endpoints.add_endpoint(unit, command)
        shown: NewEndpointView = {**endpoint_view(added.details), "secret": added.secret}
        return Reply(201, shown)

    return await commit(request, account_id, reply_to)


@router.post("/check_url", summary="Check the URL of an endpoint")
async def check_url(account_id: AccountId, caller: Caller, services: ServicesDep, body: CheckUrl) -> UrlCheckView:
    """Nothing is written and nothing connects, so a repeated call checks again; an `Idempotency-Key` is not needed."""
    found = await checked_url(services, account_id, caller.actor, body.url)
    return {
        "url": found.url,
        "accepted": found.accepted,
        "checks": [{"subject": each.subject, "result": each.result, "detail": each.detail} for each in found.checks],
    }


@router.get("", summary="List endpoints, newest first")
async def list_endpoints(
    account_id: AccountId, services: ServicesDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[EndpointView]:
    """One page of the account's endpoints."""
    before_id = known_id("we", cursor, param="cursor") if cursor else None
    query = endpoints.ListEndpoints(account_id, before_id, limit + 1)
    found = await services.runner.read(lambda unit: endpoints.list_endpoints(unit, query))
    return page([endpoint_view(each) for each in found], limit)


@router.get("/{endpoint_id}", summary="Get an endpoint")
async def get(account_id: AccountId, services: ServicesDep, endpoint_id: str) -> EndpointView:
    """One endpoint, without its secret."""
    query = endpoints.EndpointRef(account_id, known_id("we", endpoint_id))
    return endpoint_view(await services.runner.read(lambda unit: endpoints.get_endpoint(unit, query)))


@router.get("/{endpoint_id}/stats", summary="Count an endpoint's attempts")
async def stats(
    account_id: AccountId,
    services: ServicesDep,
    endpoint_id: str,
    period: Annotated[
        health.Period,
        Query(description="1h: by the minute. 24h and 7d: by the hour. 30d: by the day, in UTC."),
    ] = "24h",
) -> StatsView:
    """Attempts in a period that ends now, wrongly signed samples left out. An attempt counts when its outcome is stored."""
    query = health.GetStats(account_id, known_id("we", endpoint_id), period)
    return stats_view(query.endpoint_id, await services.runner.read(lambda unit: health.get_stats(unit, query)))


@router.patch("/{endpoint_id}", summary="Change an endpoint")
async def update(
    account_id: AccountId, caller: Caller, services: ServicesDep, endpoint_id: str, body: UpdateEndpoint
) -> EndpointView:
    """An attempt that is under way ends unchanged; every later attempt, of older events too, uses the new values."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    _refuse_nulls(given)
    if "url" in given:
        given["url"] = await _public_url(services, given["url"], account_id)
    if "events" in given:
        given["types"] = given.pop("events")
    command = endpoints.ChangeEndpoint(
        account_id, known_id("we", endpoint_id), cast("endpoints.EndpointChanges", given)
    )
    writer: WriterName = "control" if command.only_stops else "ingest"
    changed = await services.runner.change(
        lambda unit: endpoints.change_endpoint(unit, command), writer, actor=caller.actor
    )
    return endpoint_view(changed)


@router.delete("/{endpoint_id}", status_code=204, summary="Delete an endpoint")
async def delete(account_id: AccountId, caller: Caller, services: ServicesDep, endpoint_id: str) -> Response:
    """Its pending deliveries are canceled; its past ones can still be read."""
    command = endpoints.EndpointRef(account_id, known_id("we", endpoint_id))
    await services.runner.change(lambda unit: endpoints.delete_endpoint(unit, command), "control", actor=caller.actor)
    return Response(status_code=204)


@router.post(
    "/{endpoint_id}/test",
    status_code=202,
    summary="Send a sample event to an endpoint",
    responses=answers(DeliveryView, 202),
)
async def send_test(
    request: Request, account_id: AccountId, endpoint_id: str, body: TestEndpoint | None = None
) -> Response:
    """Delivered like any other event, to this endpoint alone. The response is the delivery; read it to see the outcome."""
    sample = body or TestEndpoint()
    command = test_events.SendTestEvent(
        account_id, known_id("we", endpoint_id), sample.type, forged=sample.signature == "wrong"
    )
    return await commit(
        request, account_id, lambda unit: Reply(202, delivery_view(test_events.send_test_event(unit, command)))
    )


def endpoint_view(details: endpoints.EndpointDetails) -> EndpointView:
    """An endpoint in JSON: its configuration, its health and its rotation, without the secret and the values of headers."""
    endpoint, health = details.endpoint, details.health
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.types),
        "description": endpoint.description,
        "ordering": endpoint.ordering,
        "rate_limit": endpoint.rate_limit,
        "headers": dict(endpoint.headers),
        "status": endpoint.status.value,
        "status_reason": endpoint.status_reason,
        "imports": endpoint.imports,
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
        "health": {
            "state": health.state,
            "consecutive_failures": health.consecutive_failures,
            "failing_since": None if health.failing_since is None else rfc3339(health.failing_since),
            "next_probe_at": None if health.next_probe_at is None else rfc3339(health.next_probe_at),
        },
        "rotation": None
        if details.rotation_ends_at is None
        else {"previous_secret_expires_at": rfc3339(details.rotation_ends_at), "promoted": False},
    }


def stats_view(endpoint_id: str, found: health.Stats) -> StatsView:
    """The attempts of an endpoint in JSON."""
    return {
        "endpoint_id": endpoint_id,
        "period": found.period,
        "step": found.step,
        "delivered": found.delivered,
        "failed": found.failed,
        "latency": {
            "p50_ms": _rounded(found.latency.p50_ms),
            "p95_ms": _rounded(found.latency.p95_ms),
            "p99_ms": _rounded(found.latency.p99_ms),
        },
        "failures": [
            {"outcome": each.outcome, "response_status": each.response_status, "attempts": each.attempts}
            for each in found.failures
        ],
        "last_attempt_at": None if found.last_at is None else rfc3339(found.last_at),
        "spans": [
            {"start_at": rfc3339(each.start_at), "delivered": each.delivered, "failed": each.failed}
            for each in found.spans
        ],
    }


def _rounded(duration_ms: float | None) -> float | None:
    return None if duration_ms is None else round(duration_ms, 1)


async def _public_url(services: Services, text: str, account_id: str) -> PublicUrl:
    return await public_url(text, services.policy, services.resolve, account_id)


def _refuse_nulls(given: dict[str, Any]) -> None:
    for name in ("url", "events", "ordering", "headers", "status", "imports"):
        if name in given and given[name] is None:
            raise InvalidInput(f"{name} cannot be null; leave it out to keep it.", code="invalid_field", param=name)
