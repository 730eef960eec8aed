"""Endpoints: add, change, delete and list them, with their health and the state of their secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypedDict

from loyalpro.delivery.breaker import Health
from loyalpro.delivery.concealment import MASK
from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.record import record
from loyalpro.transport.signing import new_secret
from loyalpro.webhooks.custom_headers import masked, unmasked, validate_custom_headers
from loyalpro.webhooks.endpoint_url import PublicUrl
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.event_types import checked_types
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.secrets import FIRST_VERSION, SECRET_BYTES, rotation_ends_at

_MOST_COUNTED: Final = 1_000


@record
class AddEndpoint:
    """An endpoint to add. `types`: event types, or `*`. `ordering`: `none` or `customer`. `rate_limit`: requests per second.

    `max_endpoints`: how many the account can have, with this one. `imports`: whether it gets the events of imports.
    """

    account_id: str
    url: PublicUrl
    types: Sequence[str]
    max_endpoints: int
    description: str | None = None
    ordering: str = "none"
    rate_limit: int | None = None
    headers: Mapping[str, str] | None = None
    status: str = "enabled"
    imports: bool = True


class EndpointChanges(TypedDict, total=False):
    """New values of some fields of an endpoint."""

    url: PublicUrl
    types: Sequence[str]
    description: str | None
    ordering: str
    rate_limit: int | None
    headers: Mapping[str, str]
    status: str
    imports: bool


@record
class ChangeEndpoint:
    """The endpoint to change, and the fields that get a new value."""

    account_id: str
    endpoint_id: str
    changes: EndpointChanges

    @property
    def only_stops(self) -> bool:
        """Whether it pauses or disables the endpoint and changes nothing else: that needs no disk space."""
        return self.changes.keys() == {"status"} and self.changes["status"] != EndpointStatus.ENABLED


@record
class EndpointRef:
    """Names one endpoint."""

    account_id: str
    endpoint_id: str


@record
class ListEndpoints:
    """A page of an account's endpoints: those older than `before_id`."""

    account_id: str
    before_id: str | None
    limit: int


@record
class EndpointHealth:
    """The results of an endpoint's latest attempts; `next_probe_at` is set while the engine holds deliveries back.

    `recovered_at`: when it answered again, while its backlog is sent at a rising rate.
    """

    state: str
    consecutive_failures: int
    failing_since: UnixMs | None
    next_probe_at: UnixMs | None
    recovered_at: UnixMs | None = None


@record
class EndpointDetails:
    """An endpoint and its health. `rotation_ends_at`: while the newest secret waits for the receiver, when the overlap ends."""

    endpoint: Endpoint
    health: EndpointHealth
    rotation_ends_at: UnixMs | None


@record
class AddedEndpoint:
    """A new endpoint, and the secret that signs its deliveries."""

    details: EndpointDetails
    secret: str


def add_endpoint(unit: WebhooksUnit, command: AddEndpoint) -> AddedEndpoint:
    """Store an endpoint with its first secret. Events that are committed from now on are delivered to it.

    Raises `InvalidInput` `too_many_endpoints` for an account that has `max_endpoints`. Accounts that got more before the
    limit was lowered keep them.
    """
    types = checked_types(command.types)
    headers = _checked_headers(command.headers or {}, known={})
    _require_capacity(unit, command)
    endpoint = Endpoint(
        id=unit.ids.new("we"),
        account_id=command.account_id,
        url=command.url,
        description=command.description,
        types=types,
        ordering=command.ordering,
        rate_limit=command.rate_limit,
        headers=masked(headers),
        status=EndpointStatus(command.status),
        status_reason=None,
        created_at=unit.now,
        updated_at=unit.now,
        imports=command.imports,
    )
    secret = new_secret(unit.random_bytes(SECRET_BYTES))
    unit.endpoints.insert(endpoint)
    unit.custom_headers.store(endpoint, headers)
    unit.secrets.add(endpoint, FIRST_VERSION, secret, unit.now, promoted=True)
    unit.audit(endpoint.account_id, "webhook_endpoint.created", endpoint.id, _audited(None, endpoint))
    return AddedEndpoint(_details(unit, [endpoint])[0], secret)


def change_endpoint(unit: WebhooksUnit, command: ChangeEndpoint) -> EndpointDetails:
    """Store new values. An attempt that is under way ends unchanged; every later one, of older events too, uses them."""
    fields = _checked(command.changes)
    before = locked_endpoint(unit, command.account_id, command.endpoint_id)
    if "headers" in command.changes:
        fields["headers"] = _changed_headers(unit, before, command.changes["headers"])
    endpoint = replace(before, **fields, updated_at=unit.now)
    unit.endpoints.update(endpoint)
    _reset_health(unit, before, endpoint)
    unit.audit(
        endpoint.account_id, "webhook_endpoint.updated", endpoint.id, _audited(before, endpoint, command.changes)
    )
    unit.wake_endpoints([endpoint.id])
    return _details(unit, [endpoint])[0]


def delete_endpoint(unit: WebhooksUnit, command: EndpointRef) -> None:
    """Delete an endpoint. Its pending deliveries are canceled; its past ones stay visible."""
    if not unit.endpoints.delete(command.account_id, command.endpoint_id, unit.now):
        raise no_endpoint(command.endpoint_id)
    unit.audit(command.account_id, "webhook_endpoint.deleted", command.endpoint_id)


def get_endpoint(unit: WebhooksUnit, query: EndpointRef) -> EndpointDetails:
    """One endpoint."""
    return _details(unit, [existing_endpoint(unit, query.account_id, query.endpoint_id)])[0]


def list_endpoints(unit: WebhooksUnit, query: ListEndpoints) -> list[EndpointDetails]:
    """Endpoints, newest first."""
    return _details(unit, unit.endpoints.list_before(query.account_id, query.before_id, query.limit))


def count_subscribed(unit: WebhooksUnit, account_id: str, event_type: str) -> int:
    """How many enabled endpoints get events of a type, of the account's newest 1,000."""
    listed = unit.endpoints.list_before(account_id, None, _MOST_COUNTED)
    return sum(each.status == "enabled" and each.wants(event_type, is_import=False) for each in listed)


def existing_endpoint(unit: WebhooksUnit, account_id: str, endpoint_id: str, *, param: str = "id") -> Endpoint:
    """The endpoint, or `NotFound`."""
    endpoint = unit.endpoints.get(account_id, endpoint_id)
    if endpoint is None:
        raise no_endpoint(endpoint_id, param=param)
    return endpoint


def locked_endpoint(unit: WebhooksUnit, account_id: str, endpoint_id: str, *, param: str = "id") -> Endpoint:
    """The endpoint with its row lock until this transaction ends; or `NotFound`."""
    endpoint = unit.endpoints.get(account_id, endpoint_id, lock=True)
    if endpoint is None:
        raise no_endpoint(endpoint_id, param=param)
    return endpoint


def no_endpoint(endpoint_id: str, *, param: str = "id") -> NotFound:
    """The error for an id that no endpoint of the account has."""
    return NotFound(f"There is no webhook endpoint {endpoint_id}.", param=param)


def _require_capacity(unit: WebhooksUnit, command: AddEndpoint) -> None:
    """Every event is written for every endpoint, so their number bounds what a purchase costs."""
    if unit.endpoints.lock_and_count(command.account_id) >= command.max_endpoints:
        raise InvalidInput(
            f"This account has {command.max_endpoints} webhook endpoints, which is the limit; delete one first.",
            code="too_many_endpoints",
        )


def _checked(changes: EndpointChanges) -> dict[str, Any]:
    """The changed fields of the entity. Raises `InvalidInput` that names the wrong field."""
    fields: dict[str, Any] = dict(changes)
    if "types" in changes:
        fields["types"] = checked_types(changes["types"])
    if "status" in changes:
        fields |= {"status": EndpointStatus(changes["status"]), "status_reason": None}
    return fields


def _checked_headers(headers: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The headers to store. Raises `InvalidInput`. `known`: those for whose values the mask may stand."""
    validate_custom_headers(headers)
    return unmasked(headers, known)


def _changed_headers(unit: WebhooksUnit, endpoint: Endpoint, headers: Mapping[str, str]) -> dict[str, str]:
    """Store the headers of an endpoint; return them masked. The old values are read only for a change that keeps one."""
    known = unit.custom_headers.read(endpoint) if MASK in headers.values() else {}
    changed = _checked_headers(headers, known)
    unit.custom_headers.store(endpoint, changed)
    return masked(changed)


def _audited(before: Endpoint | None, after: Endpoint, sent: EndpointChanges | None = None) -> dict[str, Any]:
    """What the audit log tells of a change: of custom headers only the names, also when only values were sent."""
    changes = changes_of(before, after)
    if before is None or (sent is not None and "headers" in sent):
        changes["before"]["headers"] = sorted(before.headers) if before is not None else []
        changes["after"]["headers"] = sorted(after.headers)
    return changes


def _reset_health(unit: WebhooksUnit, before: Endpoint, after: Endpoint) -> None:
    """A new address has no failures yet; an endpoint that is enabled again gets its backlog at a rising rate."""
    enabled = after.status is EndpointStatus.ENABLED and before.status is not EndpointStatus.ENABLED
    if enabled or after.url != before.url:
        unit.health.forget(after.id, unit.now, recovering=enabled)


def _details(unit: WebhooksUnit, endpoints: Sequence[Endpoint]) -> list[EndpointDetails]:
    ids = [each.id for each in endpoints]
    secrets, health = unit.secrets.valid(ids, unit.now), unit.health.of(ids)
    return [
        EndpointDetails(
            endpoint=each,
            health=_health(health[each.id], unit.now),
            rotation_ends_at=rotation_ends_at(secrets[each.id]),
        )
        for each in endpoints
    ]


def _health(health: Health, now: UnixMs) -> EndpointHealth:
    return EndpointHealth(
        health.state(now).value, health.failures, health.failing_since, health.probe_at, health.recovered_at
    )
