"""Rotation: a new signing secret takes the place of the old one, in such a way that the receiver refuses no delivery."""

from collections.abc import Sequence

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.transport.signing import new_secret
from loyalpro.webhooks.endpoints import EndpointRef, existing_endpoint, locked_endpoint
from loyalpro.webhooks.entities import Endpoint, Secret
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.secrets import (
    DEFAULT_OVERLAP_S,
    SECRET_BYTES,
    end_of_overlap,
    is_waiting,
    previous_expires_at,
    require_capacity,
    require_rotation,
)


@record
class RotateSecret:
    """The endpoint whose secret is rotated.

    `overlap_s`: seconds that the old secret stays valid; None for the default, 0 to revoke it now. `promote`: finish the
    rotation under way, because the receiver accepts the newest secret already.
    """

    account_id: str
    endpoint_id: str
    overlap_s: int | None = None
    promote: bool = False


@record
class RotatedSecret:
    """The newest secret, the end of the older ones, and whether the newest one signs the header with one signature."""

    secret: str
    previous_expires_at: UnixMs | None
    promoted: bool


def rotate_secret(unit: WebhooksUnit, command: RotateSecret) -> RotatedSecret:
    """Make a new secret. With `promote`, promote the secret that waits for the receiver instead.

    Raises `Conflict`: `no_rotation` for `promote` when no secret waits, `too_many_secrets` when five are valid.
    """
    endpoint = locked_endpoint(unit, command.account_id, command.endpoint_id)
    secrets = _valid(unit, endpoint)
    if command.promote:
        require_rotation(secrets)
        _promote(unit, endpoint, secrets[0], command.overlap_s)
        unit.audit(endpoint.account_id, "secret.promoted", endpoint.id)
    else:
        _add(unit, endpoint, secrets, command.overlap_s)
        unit.audit(endpoint.account_id, "secret.rotated", endpoint.id)
    secrets = _valid(unit, endpoint)
    return RotatedSecret(
        secret=unit.secrets.newest(endpoint.account_id, endpoint.id),
        previous_expires_at=previous_expires_at(secrets),
        promoted=not is_waiting(secrets),
    )


def get_secret(unit: WebhooksUnit, query: EndpointRef) -> str:
    """The newest signing secret of an endpoint."""
    endpoint = existing_endpoint(unit, query.account_id, query.endpoint_id)
    return unit.secrets.newest(endpoint.account_id, endpoint.id)


def reveal_secret(unit: WebhooksUnit, command: EndpointRef) -> str:
    """The newest signing secret, for a person to read; the audit log notes who has read it."""
    secret = get_secret(unit, command)
    unit.audit(command.account_id, "secret.read", command.endpoint_id)
    return secret


def list_secrets(unit: WebhooksUnit, query: EndpointRef) -> Sequence[Secret]:
    """The secrets that are valid now, newest first, without their texts."""
    return _valid(unit, existing_endpoint(unit, query.account_id, query.endpoint_id))


def _promote(unit: WebhooksUnit, endpoint: Endpoint, waiting: Secret, overlap_s: int | None) -> None:
    unit.secrets.promote(endpoint.id, waiting.version, unit.now)
    if overlap_s is not None:
        unit.secrets.expire_older(endpoint.id, waiting.version, end_of_overlap(unit.now, overlap_s))


def _add(unit: WebhooksUnit, endpoint: Endpoint, secrets: Sequence[Secret], given_overlap_s: int | None) -> None:
    overlap_s = DEFAULT_OVERLAP_S if given_overlap_s is None else given_overlap_s
    require_capacity(secrets, overlap_s)
    version = secrets[0].version + 1
    unit.secrets.expire_older(endpoint.id, version, end_of_overlap(unit.now, overlap_s))
    secret = new_secret(unit.random_bytes(SECRET_BYTES))
    unit.secrets.add(endpoint, version, secret, unit.now, promoted=overlap_s == 0)


def _valid(unit: WebhooksUnit, endpoint: Endpoint) -> Sequence[Secret]:
    return unit.secrets.valid([endpoint.id], unit.now)[endpoint.id]
