"""`/v1/webhook_endpoints`: where events go."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from loyalpro.delivery.breaker import Health
from loyalpro.delivery.rotation import Secret, is_waiting, previous_expires_at
from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.envelope import seal
from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import Owed
from loyalpro.events.samples import sample
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.tables.endpoints import Endpoint
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.transport.custom_headers import validate_custom_headers
from loyalpro.transport.endpoint_url import canonical_url, check_target
from loyalpro.transport.signing import new_secret
from loyalpro.web.api.deliveries import delivery_view
from loyalpro.web.api.fields import Body, Cursor, Limit, LongText, known_id, page
from loyalpro.web.idempotency import Reply, answered_before, commit
from loyalpro.web.services import AccountId, Services, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhook endpoints"], route_class=StrictRoute)

Types = Annotated[list[str], Field(min_length=1, max_length=50, description='Event types, or ["*"] for all of them.')]
RateLimit = Annotated[int, Field(ge=1, le=10_000, description="At most so many requests a second.")]
SECRET_BYTES = 32


class CreateEndpoint(Body):
    """An endpoint to send events to."""

    url: Annotated[str, Field(max_length=2048, description="An https:// address on the public internet.")]
    events: Types
    description: LongText | None = None
    ordering: Literal["none", "customer"] = "none"
    rate_limit: RateLimit | None = None
    headers: Annotated[dict[str, str], Field(description="Headers to add to every request.")] = Field(
        default_factory=dict
    )
    status: Literal["enabled", "paused", "disabled"] = "enabled"


class UpdateEndpoint(Body):
    """The fields to change; what is left out stays."""

    url: Annotated[str, Field(max_length=2048)] | None = None
    events: Types | None = None
    description: LongText | None = None
    ordering: Literal["none", "customer"] | None = None
    rate_limit: RateLimit | None = None
    headers: dict[str, str] | None = None
    status: Literal["enabled", "paused", "disabled"] | None = None


class TestEndpoint(Body):
    """Which sample to send."""

    __test__ = False

    type: str = "customer.created"


@router.post("", status_code=201, summary="Add an endpoint")
async def create(request: Request, account_id: AccountId, services: ServicesDep, body: CreateEndpoint) -> Response:
    """Answers with the signing secret, which is needed to verify deliveries."""
    if (again := await answered_before(request, account_id)) is not None:
        return again  # where the name leads to by now does not matter
    url = await _checked_url(services, body.url)
    types = checked_types(body.events)
    validate_custom_headers(body.headers)
    secret = new_secret(services.random_bytes(SECRET_BYTES))

    def work(unit: UnitOfWork) -> Reply:
        endpoint = Endpoint(
            id=unit.ids.new("we"),
            account_id=account_id,
            url=url,
            description=body.description,
            types=types,
            ordering=body.ordering,
            rate_limit=body.rate_limit,
            headers=body.headers,
            status=EndpointStatus(body.status),
            status_reason=None,
            created_at=unit.now,
            updated_at=unit.now,
        )
        unit.endpoints.insert(endpoint, secret)
        return Reply(201, _view(unit, endpoint) | {"secret": secret})

    return await commit(request, account_id, work)


@router.get("", summary="List endpoints, newest first")
async def list_endpoints(
    account_id: AccountId, services: ServicesDep, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """One page of the account's endpoints."""
    before = known_id("we", cursor, param="cursor") if cursor else None

    def work(unit: UnitOfWork) -> list[dict[str, Any]]:
        return _views(unit, unit.endpoints.list_before(account_id, before, limit + 1))

    return page(await services.transactions.read(work), limit)


@router.get("/{endpoint_id}", summary="Get an endpoint")
async def get(account_id: AccountId, services: ServicesDep, endpoint_id: str) -> dict[str, Any]:
    """One endpoint, without its secret."""
    return await services.transactions.read(lambda unit: _view(unit, existing(unit, account_id, endpoint_id)))


@router.patch("/{endpoint_id}", summary="Change an endpoint")
async def update(
    account_id: AccountId, services: ServicesDep, endpoint_id: str, body: UpdateEndpoint
) -> dict[str, Any]:
    """What is under way ends as it began; every later attempt follows the change, of older events too."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    _refuse_nulls(changes)
    if "url" in changes:
        changes["url"] = await _checked_url(services, changes["url"])
    if "events" in changes:
        changes["types"] = checked_types(changes.pop("events"))
    if "headers" in changes:
        validate_custom_headers(changes["headers"])
    if "status" in changes:
        changes |= {"status": EndpointStatus(changes["status"]), "status_reason": None}

    def work(unit: UnitOfWork) -> dict[str, Any]:
        before = existing(unit, account_id, endpoint_id, lock=True)
        endpoint = replace(before, **changes, updated_at=unit.now)
        unit.endpoints.update(endpoint)
        _start_afresh(unit, before, endpoint)
        return _view(unit, endpoint)

    view = await services.transactions.change(work, lane="control" if _only_stops(body) else "ingest")
    services.wake([endpoint_id])
    return view


@router.delete("/{endpoint_id}", status_code=204, summary="Delete an endpoint")
async def delete(account_id: AccountId, services: ServicesDep, endpoint_id: str) -> Response:
    """Its pending deliveries are canceled; its past ones stay to be looked at."""
    known_id("we", endpoint_id)
    deleted = await services.transactions.change(
        lambda unit: unit.endpoints.delete(account_id, endpoint_id, unit.now), lane="control"
    )
    if not deleted:
        raise _missing(endpoint_id)
    return Response(status_code=204)


@router.post("/{endpoint_id}/test", status_code=202, summary="Send a sample event to an endpoint")
async def send_test(
    request: Request, account_id: AccountId, services: ServicesDep, endpoint_id: str, body: TestEndpoint | None = None
) -> Response:
    """Signed and delivered like any other, to this endpoint alone. Answers with the delivery; read it to see the outcome."""
    type_ = (body or TestEndpoint()).type
    checked_types([type_], param="type")

    def work(unit: UnitOfWork) -> Reply:
        endpoint = existing(unit, account_id, endpoint_id)
        new = NewEvent(account_id, type_, None, None, sample(type_, unit.now))
        event = seal(new, event_id=unit.ids.new("evt"), now=unit.now)
        unit.events.append([(event, 1)], test=True)
        sent = delivery_id(event.id, endpoint.id)
        unit.events.owe([Owed(sent, endpoint.id, event, ordered=False)], unit.now)
        delivery = unit.deliveries.get(account_id, sent)
        assert delivery is not None
        return Reply(202, delivery_view(delivery))

    response = await commit(request, account_id, work)
    services.wake([endpoint_id])
    return response


def _view(unit: UnitOfWork, endpoint: Endpoint) -> dict[str, Any]:
    [view] = _views(unit, [endpoint])
    return view


def _views(unit: UnitOfWork, endpoints: list[Endpoint]) -> list[dict[str, Any]]:
    secrets = unit.secrets.valid([each.id for each in endpoints], unit.now)
    health = unit.health.of([each.id for each in endpoints])
    return [
        _endpoint_view(each)
        | {"health": _health_view(health[each.id], unit.now), "rotation": _rotation_view(secrets[each.id])}
        for each in endpoints
    ]


def _endpoint_view(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as its owner configured it: everything but the secret."""
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
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def _health_view(health: Health, now: UnixMs) -> dict[str, Any]:
    """How the endpoint has answered lately, and when it is tried again if it is held back."""
    return {
        "state": health.state(now).value,
        "consecutive_failures": health.failures,
        "failing_since": None if health.failing_since is None else rfc3339(health.failing_since),
        "next_probe_at": None if health.probe_at is None else rfc3339(health.probe_at),
    }


def _rotation_view(secrets: list[Secret]) -> dict[str, Any] | None:
    """While the newest secret waits to be known by the receiver: until when."""
    expires_at = previous_expires_at(secrets)
    if expires_at is None or not is_waiting(secrets):
        return None
    return {"previous_secret_expires_at": rfc3339(expires_at), "promoted": False}


def existing(unit: UnitOfWork, account_id: str, endpoint_id: str, *, lock: bool = False) -> Endpoint:
    """The endpoint, or a refusal."""
    endpoint = unit.endpoints.get(account_id, known_id("we", endpoint_id), lock=lock)
    if endpoint is None:
        raise _missing(endpoint_id)
    return endpoint


def _missing(endpoint_id: str) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id}.", param="id")


async def _checked_url(services: Services, text: str) -> str:
    url = canonical_url(text, services.policy)
    await check_target(url, services.policy, services.resolve)
    return url.url


def checked_types(types: list[str], *, param: str = "events") -> tuple[str, ...]:
    """Event types that exist, each once; `*` stands for all."""
    unknown = next((each for each in types if each not in EVENT_TYPES and (each != "*" or param == "type")), None)
    if unknown is not None:
        raise InvalidInput(
            f"{unknown[:64]!r} is not an event type; GET /v1/event_types lists them.",
            code="unknown_event_type",
            param=param,
        )
    return ("*",) if "*" in types else tuple(dict.fromkeys(types))


def _start_afresh(unit: UnitOfWork, before: Endpoint, after: Endpoint) -> None:
    """A new address has not failed yet; one that is enabled again gets its backlog at a rising rate."""
    enabled = after.status is EndpointStatus.ENABLED and before.status is not EndpointStatus.ENABLED
    if enabled or after.url != before.url:
        unit.health.forget(after.id, unit.now, recovering=enabled)


def _only_stops(body: UpdateEndpoint) -> bool:
    """Whether it pauses or disables, and changes nothing else: that is let through when there is no room."""
    return body.model_fields_set == {"status"} and body.status != "enabled"


def _refuse_nulls(changes: dict[str, Any]) -> None:
    for name in ("url", "events", "ordering", "headers", "status"):
        if name in changes and changes[name] is None:
            raise InvalidInput(f"{name} cannot be null; leave it out to keep it.", code="invalid_field", param=name)
