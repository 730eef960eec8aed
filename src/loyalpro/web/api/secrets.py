"""`/v1/webhook_endpoints/{id}/secret` and `rotate_secret`: what deliveries are signed with, and how it is changed."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from loyalpro.delivery.rotation import (
    DEFAULT_OVERLAP_S,
    LONGEST_OVERLAP_S,
    Secret,
    check_room,
    end_of_overlap,
    is_waiting,
    previous_expires_at,
)
from loyalpro.kernel.clock import rfc3339
from loyalpro.storage.tables.endpoints import Endpoint
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.transport.signing import new_secret
from loyalpro.web.api.fields import Body
from loyalpro.web.api.webhook_endpoints import SECRET_BYTES, existing
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import AccountId, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhook endpoints"], route_class=StrictRoute)


class RotateSecret(Body):
    """How the old secret gives way to the new one."""

    overlap_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=LONGEST_OVERLAP_S,
            description="How long the old one stays valid; 24 hours unless told, 0: revoked.",
        ),
    ] = None
    promote: Annotated[
        bool, Field(description="The receiver knows the newest secret: sign X-LoyalPro-Signature with it from now on.")
    ] = False


@router.get("/{endpoint_id}/secret", summary="Get an endpoint's signing secret")
async def get_secret(account_id: AccountId, services: ServicesDep, endpoint_id: str) -> dict[str, Any]:
    """The newest signing secret."""

    def work(unit: UnitOfWork) -> str:
        return unit.endpoints.secret(account_id, existing(unit, account_id, endpoint_id).id)

    return {"secret": await services.transactions.read(work)}


@router.post("/{endpoint_id}/rotate_secret", summary="Change an endpoint's signing secret")
async def rotate(
    request: Request, account_id: AccountId, services: ServicesDep, endpoint_id: str, body: RotateSecret | None = None
) -> Response:
    """Makes a new secret. Until the overlap ends, `webhook-signature` carries a signature of the old one as well.

    `X-LoyalPro-Signature` can carry one. It stays on the old secret until the receiver answers 400, 401 or 403 to it and
    2xx to the new one, which it is then shown at once; or until `promote`, or the end of the overlap.

    With `promote`, a secret that waits to be known is promoted, and no other one is made. If none waits, the new one is
    promoted at once.
    """
    wanted = body or RotateSecret()
    fresh = new_secret(services.random_bytes(SECRET_BYTES))

    def work(unit: UnitOfWork) -> Reply:
        endpoint = existing(unit, account_id, endpoint_id, lock=True)
        secrets = _valid(unit, endpoint)
        if wanted.promote and is_waiting(secrets):
            _promote(unit, endpoint, secrets[0], wanted.overlap_seconds)
        else:
            _rotate(unit, endpoint, secrets, fresh, wanted)
        return Reply(200, _view(unit, endpoint))

    return await commit(request, account_id, work)


def _promote(unit: UnitOfWork, endpoint: Endpoint, waiting: Secret, overlap_s: int | None) -> None:
    unit.secrets.promote(endpoint.id, waiting.version, unit.now)
    if overlap_s is not None:
        unit.secrets.expire_older(endpoint.id, waiting.version, end_of_overlap(unit.now, overlap_s))


def _rotate(unit: UnitOfWork, endpoint: Endpoint, secrets: list[Secret], fresh: str, wanted: RotateSecret) -> None:
    overlap_s = DEFAULT_OVERLAP_S if wanted.overlap_seconds is None else wanted.overlap_seconds
    check_room(secrets, overlap_s)
    unit.secrets.expire_older(endpoint.id, secrets[0].version + 1, end_of_overlap(unit.now, overlap_s))
    unit.secrets.add(endpoint, fresh, unit.now, promoted=wanted.promote or overlap_s == 0)


def _view(unit: UnitOfWork, endpoint: Endpoint) -> dict[str, Any]:
    secrets = _valid(unit, endpoint)
    expires_at = previous_expires_at(secrets)
    return {
        "secret": unit.endpoints.secret(endpoint.account_id, endpoint.id),
        "previous_secret_expires_at": None if expires_at is None else rfc3339(expires_at),
        "promoted": not is_waiting(secrets),
    }


def _valid(unit: UnitOfWork, endpoint: Endpoint) -> list[Secret]:
    return unit.secrets.valid([endpoint.id], unit.now)[endpoint.id]
